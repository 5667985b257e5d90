"""What all pages have in common: head, style, warnings, pictures, where they are written."""

import base64
import importlib.resources
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from flaxbert import records
from flaxbert.errors import InputError
from flaxbert.pages.html import Html, Part, Style, render

MARK = "flaxbert report"  # how our pages say that they are ours
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PNG = b"\x89PNG\r\n\x1a\n"


def page(title: str, about: Part, *parts: Part) -> str:
    """A whole page that loads nothing.

    Args:
      title: its heading.
      about: what stands below that.
      *parts: everything else.
    """
    sheet = importlib.resources.files("flaxbert").joinpath("assets/report.css").read_text("utf-8")
    head = Html("head", Html("meta", charset="utf-8"),
                Html("meta", name="viewport", content="width=device-width, initial-scale=1"),
                Html("meta", name="generator", content=f"{MARK} {records.versions()['flaxbert']}"),
                Html("meta", http_equiv="Content-Security-Policy", content=_POLICY),
                Html("meta", name="color-scheme", content="light dark"), Html("title", title), Style(sheet))
    body = Html("body", Html("header", Html("h1", title), about), Html("main", parts),
                Html("footer", Html("p", "Written by flaxbert ", records.versions()["flaxbert"], ", ",
                                    time.strftime("%Y-%m-%d %H:%M"), ".")))
    return "<!DOCTYPE html>\n" + render([Html("html", head, body, lang="en")])


def section(title: str, *parts: Part) -> Html:
    """A part of the page with a heading."""
    return Html("section", Html("h2", title), parts)


def folded(summary: str, *parts: Part) -> Html:
    """What few want to see: the reader unfolds it."""
    return Html("details", Html("summary", summary), parts)


def warning(*parts: Part) -> Html:
    """What a reader should know before anything else."""
    return Html("p", parts, class_="warning", role="note")


def badge(status: str, count: int = 0) -> Html:
    """The state of a run or a record, or of so many."""
    kind = {"finished": "good", "failed": "bad"}.get(status, "open")
    return Html("span", f"{count} {status}" if count else status, class_=f"badge {kind}")


def commands(lines: Iterable[Sequence[str]]) -> Html:
    """Command lines as words; where one is too long for the page it breaks between words."""
    return Html("pre", Html("code", [[[Html("span", word), " "] for word in words] + ["\n"] for words in lines]),
                class_="command")


def picture(file: Path, alt: str, caption: Part = None) -> Html:
    """A PNG inside of the page.

    Raises:
      InputError: the file is none.
    """
    content = file.read_bytes()
    if not content.startswith(_PNG) or len(content) < 24:
        raise InputError(f"{file}: not a PNG picture; draw it again, or delete it")
    width, height = (int.from_bytes(content[at:at + 4], "big") for at in (16, 20))
    data = base64.b64encode(content).decode()
    image = Html("img", src=f"data:image/png;base64,{data}", alt=alt, width=width, height=height,
                 class_="broad" if width > 1.6 * height else None)
    return Html("figure", Html("div", image, class_="card", tabindex=0),
                Html("figcaption", Html("p", caption)) if caption else None, class_="picture")


def check(output: Path) -> None:
    """Raises `InputError` where no page may be written: it would be lost, or something else would."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output={output}: should end in .html")
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"--output={output}: " + ("is a folder; name a file in it" if output.is_dir() else
                                                   f"no folder {output.parent}; make it first"))
    if output.exists() and not is_page(output):
        raise InputError(f"--output={output}: is there and no page of ours; choose another name")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"--output={output}: cannot be written in {output.parent}; choose another folder")


def is_page(file: Path) -> bool:
    """Whether we have written it."""
    with file.open("rb") as content:
        return f'<meta name="generator" content="{MARK} '.encode() in content.read(1000)


def write(output: Path, text: str) -> None:
    """Writes a page whole or not at all."""
    part = output.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.replace(output)
