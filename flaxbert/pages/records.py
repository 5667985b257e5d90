"""The pages of a study's record and of an analysis: what is in the folder, readable without it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxbert.pages import markdown
from flaxbert.pages.arms import name_of
from flaxbert.pages.document import badge, commands, folded, page, picture, section, warning
from flaxbert.pages.html import Html, Part
from flaxbert.pages.settings import shown
from flaxbert.pages.sources import Analysis, Record
from flaxbert.pages.tables import facts, wide

FIRST = "figure.png"  # of the pictures
_MARKS = {"[S]": "read in a source", "[R]": "recalled, not checked again"}  # of published numbers


def record(source: Record) -> str:
    """The page of a record: question, what came of it, table, pictures, where it was measured."""
    about, parts = source.summary, markdown.sections(source.readme)
    named = str(about["study"]).replace("_", " ").capitalize()
    title = next((heading for heading, _ in parts if heading), named)
    question = paragraph(source.readme, "Question")
    short = paragraph(source.readme, "In short") or next((text for head, text in parts if head == "In short"), "")
    shows = _Pictures(source.folder, title, markdown.sections(source.readme))
    table = markdown.read(source.table, 3, shows.take)
    header = [Html("p", markdown.inline(question or str(about["question"])), class_="question"),
              Html("p", f"{about.get('date', '')} · preset {about.get('preset', '')}", " ",
                   badge(str(about.get("status", ""))), class_="about")]
    other = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in parts
                        if heading not in ("", title, "In short") and text)
    return page(title, header, _unfinished(about),
                section("In short", markdown.read(short, 3)) if short else None,
                section("Results", table, marks(source.table)),
                section("Pictures", shows.rest()) if shows.left else None,
                _failed(about.get("failed") or []), section("Where it was measured", _where(about)),
                section("The study", folded("What it measures, and how", markdown.read(_plain(other), 3)))
                if other else None)


def analysis(source: Analysis) -> str:
    """The page of an analysis: its table with its pictures, the models and texts, settings, versions."""
    about, title = source.about, f"Analysis {name_of(source.folder)}"
    shows = _Pictures(source.folder, title, ())
    table = markdown.read(source.table, 2, shows.take)
    models = about.get("models") or {}
    return page(title, Html("p", _short(models), class_="about"), table,
                section("Pictures", shows.rest()) if shows.left else None,
                section("What was compared", *[_tree(name, about[name]) for name in about if name != "versions"]),
                section("Versions", facts((about.get("versions") or {}).items())))


def paragraph(text: str, name: str) -> str:
    """The paragraph of a README that begins with a bold name and a full stop; "" without one."""
    start = f"**{name}.** "
    found = next((each for each in text.split("\n\n") if each.startswith(start)), "")
    return " ".join(found.removeprefix(start).split())


def marks(text: str) -> Html | None:
    """What the marks of published numbers in this text mean."""
    found = [f"{mark}: {meaning}" for mark, meaning in _MARKS.items() if mark in text]
    return Html("p", f"Published numbers: {'; '.join(found)}.", class_="note") if found else None


class _Pictures:
    """The PNGs of a folder, each shown once.

    Args:
      folder: where they are.
      title: of the page.
      parts: sections of a README, whose pictures say what is on them.
    """

    def __init__(self, folder: Path, title: str, parts: Sequence[tuple[str, str]]):
        files = sorted(folder.glob("*.png"), key=lambda file: (file.name != FIRST, file.name))
        self.left, self._title = {file.name: file for file in files}, title
        self._said = {Path(found[2]).name: found[1] for _, text in parts
                      for found in markdown.IMAGE.finditer(text)}

    def take(self, name: str, shows: str) -> Html | None:
        """The picture of that name where a text has it, unless it has been shown, or is not there."""
        return self._show(name, shows, "")

    def _show(self, name: str, shows: str, caption: str) -> Html | None:
        file = self.left.pop(name, None)
        words = file.stem.replace("_", " ") if file else ""
        said = shows if shows and shows != words and shows != name else self._said.get(name, "")
        return picture(file, said or f"{self._title}: {words}", said or caption) if file else None

    def rest(self) -> list[Html | None]:
        """All that have not been shown."""
        return [self._show(name, "", "" if name == FIRST else file.stem.replace("_", " ").capitalize())
                for name, file in list(self.left.items())]


def _plain(text: str) -> str:
    """A README without the table that was copied into it."""
    head, mark, rest = text.partition("<!-- record -->")
    return head + rest.partition("<!-- end of record -->")[2] if mark else text


def _unfinished(about: Mapping[str, Any]) -> Html | None:
    if about.get("status") != "unfinished":
        return None
    return warning(Html("strong", "This record is not whole"), ": the command that is told below goes on with it.")


def _failed(points: Sequence[Mapping[str, Any]]) -> Html | None:
    """The points that could not be measured."""
    if not points:
        return None
    names = list(dict.fromkeys(name for point in points for name in point if name != "error"))
    return section("Failed points", wide([*names, "error"], [
        [*(shown(point.get(name)) for name in names), point.get("error", "")] for point in points],
        "failed points"))


def _where(about: Mapping[str, Any]) -> list[Part]:
    found = about.get("commit") or "unknown"
    cores = about.get("cores", "")
    device = f"{about.get('devices', '')} x {about.get('device', '')}, {cores} processor core{'s' * (cores != 1)}"
    versions = ", ".join(f"{name} {version}" for name, version in (about.get("versions") or {}).items() if version)
    lines = str(about.get("command") or "").split(" && ")
    settings = (about.get("settings") or {}).items()
    told = [("date", str(about.get("date", ""))), ("device", device), ("system", str(about.get("system", ""))),
            ("commit", found if isinstance(found, str) else ", ".join(found)), ("versions", versions),
            ("points", str(about.get("measured", "")))]
    return [facts(told, long=True),
            Html("p", "Command:"), commands(line.split() for line in lines if line),
            folded("Settings of the preset", wide(["setting", "value"], [
                [Html("code", name), shown(value)] for name, value in settings], "settings", False))]


def _short(models: Mapping[str, Any]) -> str:
    """Which models, in a line."""
    named = [str(each.get("model", each)) if isinstance(each, Mapping) else str(each) for each in models.values()]
    return " → ".join(named)


def _tree(name: str, value: Any) -> Html:
    """A part of analysis.json: names and values, those within others below them."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, each: Any) -> None:
        if isinstance(each, Mapping):
            for key, inner in each.items():
                walk(f"{prefix} {key}".strip(), inner)
        else:
            flat[prefix] = each
    walk("", value)
    return folded(name, wide(["", "value"], [[key, shown(each)] for key, each in flat.items()], name))
