"""Pieces of a page as a tree. All text is escaped, since there is no way to put it in unescaped."""

import html
import re
from collections.abc import Iterable
from typing import Any

Part = Any  # Html, text, a number, None (nothing), or an iterable of those

# Elements without content, and how they end.
_EMPTY = {"br": "", "img": "", "meta": "", "circle": "/", "line": "/", "path": "/", "polyline": "/"}
_INLINE = {"a", "b", "code", "em", "small", "span", "strong", "tspan"}  # all others end their line
_LINKS = ("#", "https://", "http://", "mailto:")
_PICTURES = ("data:image/png;base64,",)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # what no page may hold


class Html:
    """An element: `Html("p", "1 < 2, ", Html("b", "always"), class_="note")`.

    Args:
      name: of the element.
      *parts: what is in it, in order.
      **attributes: `class_` is class, other underscores are hyphens; True is an attribute without a value, None
        and False are left out.

    Raises:
      ValueError: a link or a picture from elsewhere than a page may have it from, or content where there is none.
    """

    def __init__(self, name: str, /, *parts: Part, **attributes: Any):
        self.name, self.parts = name, tuple(flat(parts))
        self.attributes = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()
                           if value is not None and value is not False}
        if name in _EMPTY and self.parts:
            raise ValueError(f"<{name}>: has no content")
        for key, allowed in (("href", _LINKS), ("src", _PICTURES)):
            if not str(self.attributes.get(key, allowed[0])).startswith(allowed):
                raise ValueError(f"<{name} {key}={str(self.attributes[key])[:40]}>: valid: {', '.join(allowed)}")

    def __str__(self) -> str:
        given = "".join(f" {key}" if value is True else f' {key}="{escape(value)}"'
                        for key, value in self.attributes.items())
        end = "" if self.name in _INLINE else "\n"
        if self.name in _EMPTY:
            return f"<{self.name}{given}{_EMPTY[self.name]}>{end}"
        return f"<{self.name}{given}>{render(self.parts)}</{self.name}>{end}"


class Style(Html):
    """The style sheet of a page, which is ours.

    Raises:
      ValueError: it loads something, or holds what would end it.
    """

    def __init__(self, sheet: str):
        super().__init__("style")
        if re.search(r"</|@import|url\(", sheet):
            raise ValueError("a style sheet that loads something, or ends its element")
        self.sheet = sheet

    def __str__(self) -> str:
        return f"<style>\n{self.sheet.strip()}\n</style>\n"


def flat(parts: Iterable[Part]) -> Iterable[Html | str]:
    """Elements and texts, in order, out of what is nested."""
    for part in parts:
        if isinstance(part, Html | str):
            yield part
        elif isinstance(part, Iterable):
            yield from flat(part)
        elif part is not None:
            yield str(part)


def escape(text: Any) -> str:
    """Text as it may stand between tags and in attributes."""
    return html.escape(_CONTROL.sub("\ufffd", str(text)), quote=True)


def render(parts: Iterable[Part]) -> str:
    """HTML of these parts, one after the other."""
    return "".join(str(part) if isinstance(part, Html) else escape(part) for part in flat(parts))


def text_of(parts: Part) -> str:
    """What a reader sees of it, without markup."""
    return "".join(part if isinstance(part, str) else text_of(part.parts) for part in flat([parts]))
