"""Reads the Markdown that our tables and READMEs are written in: headings, paragraphs, tables, lists, code, links,
bold and italic text, pictures. HTML in it stays text.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from flaxbert.pages.html import Html, Part, text_of
from flaxbert.pages.tables import wide

Picture = Callable[[str, str], Part]  # (name of the file, what it shows) -> what stands in its place

_FENCE, _HEADING = re.compile(r"(```+|~~~+)"), re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_RULE = re.compile(r"([-*_]\s*){3,}$")
_ITEM = re.compile(r"( *)([-*+]|\d{1,9}[.)])( +)(.*)")
_DASHES = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?$")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^()\s]*)\)")
# What stands out in a line, the first that fits: escaped sign, code, picture, link, address, bold, italic.
_INLINE = re.compile(r"\\(?P<sign>[!-/:-@\[-`{-~])|(?P<ticks>`+)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)"
                     r"|!\[(?P<shows>[^\]]*)\]\((?P<file>[^()\s]*)\)"
                     r"|\[(?P<label>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^()\s]*)\)"
                     r"|<(?P<address>https?://[^<>\s]+)>"
                     r"|\*\*(?P<bold>\S(?:.*?\S)?)\*\*|(?<![\w*])\*(?P<italic>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])")


def read(text: str, level: int = 2, picture: Picture | None = None) -> list[Html]:
    """Markdown as elements.

    A paragraph that is bold as a whole, as our tables have above them, is a heading too, one below the last.

    Args:
      text: the content of a file.
      level: of its highest heading on the page; the others follow without a gap.
      picture: what becomes of pictures that stand alone; without it they are told by their text.
    """
    return list(_Reader(level, picture).blocks(_COMMENT.sub("", text).expandtabs(4).splitlines()))


def sections(text: str) -> list[tuple[str, str]]:
    """(heading, what follows it) of a file, in order; "" is what stands before the first."""
    found, fence = [("", [])], None
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and fence in (None, mark[1]):
            fence = None if fence else mark[1]
        heading = None if fence else _HEADING.match(line)
        if heading:
            found.append((heading[2], []))
        else:
            found[-1][1].append(line)
    return [(heading, "\n".join(lines).strip()) for heading, lines in found]


def inline(text: str) -> list[Part]:
    """A line's text with its code, links, bold and italic parts as elements."""
    parts, at = [], 0
    for found in _INLINE.finditer(text):
        parts += [text[at:found.start()], _span(found)]
        at = found.end()
    return [part for part in (*parts, text[at:]) if part != ""]


def _span(found: re.Match) -> Part:
    if found["sign"]:
        return found["sign"]
    if found["code"]:
        return Html("code", found["code"].strip() or found["code"])
    if found["file"] is not None:
        return Html("em", found["shows"] or found["file"])
    if found["to"] is not None:
        label = inline(found["label"])
        # A page stands by itself: what lies beside the file that it is made from does not lie beside the page.
        return Html("a", label, href=found["to"]) if found["to"].startswith(("http://", "https://")) \
            else Html("span", label)
    if found["address"]:
        return Html("a", found["address"], href=found["address"])
    return Html("strong", inline(found["bold"])) if found["bold"] else Html("em", inline(found["italic"]))


class _Reader:
    """One text on its way into elements."""

    def __init__(self, level: int, picture: Picture | None):
        self.top, self.picture = level, picture
        self.levels: list[int] = []  # of the headings that the next one may stand below, as the file counts them
        self.title = ""

    def blocks(self, lines: Sequence[str]) -> Iterator[Html]:
        """The elements of these lines."""
        at = 0
        while at < len(lines):
            line = lines[at]
            if not line.strip():
                at += 1
                continue
            end = next(n for n in range(at + 1, len(lines) + 1) if self._ends(lines, at, n))
            yield from self._block(lines[at:end])
            at = end

    @staticmethod
    def _ends(lines: Sequence[str], at: int, n: int) -> bool:
        """Whether the block that begins with line `at` is over before line n."""
        if n == len(lines):
            return True
        line, first = lines[n], lines[at]
        if fence := _FENCE.match(first):
            return n > at + 1 and lines[n - 1].strip() == fence[1]
        if _HEADING.match(first):
            return True
        if item := _ITEM.match(first):
            inside = not line.strip() or len(line) - len(line.lstrip()) > len(item[1])
            lazy = lines[n - 1].strip() and not _starts(line)  # it goes on without being indented
            return not (inside or lazy or _ITEM.match(line))
        return not line.strip() or _starts(line) or (line.startswith("|") and not first.startswith("|"))

    def _block(self, lines: Sequence[str]) -> Iterator[Html]:
        first = lines[0]
        if fence := _FENCE.match(first):
            inside = lines[1:-1] if lines[-1].strip() == fence[1] and len(lines) > 1 else lines[1:]
            yield Html("pre", Html("code", "\n".join(inside)), tabindex=0)
        elif heading := _HEADING.match(first):
            yield self._heading(len(heading[1]), heading[2])
        elif _RULE.match(first.strip()):
            return
        elif _ITEM.match(first):
            yield self._list(lines)
        elif len(lines) > 1 and first.startswith("|") and _DASHES.match(lines[1].strip()):
            yield wide([inline(cell) for cell in _cells(first)],
                       [[inline(cell) for cell in _cells(line)] for line in lines[2:]], self.title)
        else:
            yield from self._paragraph(" ".join(line.strip() for line in lines))

    def _heading(self, level: int, text: str) -> Html:
        while self.levels and self.levels[-1] >= level:
            self.levels.pop()
        self.levels.append(level)
        parts = inline(text)
        self.title = text_of(parts)
        return Html(f"h{min(6, self.top + len(self.levels) - 1)}", parts)

    def _paragraph(self, text: str) -> Iterator[Html]:
        image, bold = IMAGE.fullmatch(text), re.fullmatch(r"\*\*([^*]+)\*\*", text)
        if image and self.picture:
            if shown := self.picture(PurePosixPath(image[2]).name, image[1]):
                yield shown
        elif bold:
            yield self._heading(7, bold[1])
        else:
            yield Html("p", inline(text))

    def _list(self, lines: Sequence[str]) -> Html:
        """Items, each of which is blocks again."""
        indent = len(_ITEM.match(lines[0])[1])
        items: list[list[str]] = []
        for line in lines:
            item = _ITEM.match(line)
            if item and len(item[1]) <= indent:
                own = len(item[1] + item[2] + item[3])
                items.append([item[4]])
            else:
                items[-1].append(line[min(own, len(line) - len(line.lstrip())):])
        made = []
        for item in items:
            parts = list(self.blocks(item))
            made.append(Html("li", parts[0].parts if parts and parts[0].name == "p" else parts[:1], parts[1:]))
        return Html("ol" if lines[0].lstrip()[0].isdigit() else "ul", made)


def _starts(line: str) -> bool:
    """Whether a line begins a block of its own, whatever stands before it."""
    return bool(_FENCE.match(line) or _HEADING.match(line) or _ITEM.match(line) or _RULE.match(line.strip()))


def _cells(line: str) -> list[str]:
    """The cells of a table's row; a bar that is meant is escaped."""
    text = line.strip().removeprefix("|")
    text = text[:-1] if text.endswith("|") and not text.endswith("\\|") else text
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", text)]
