"""What the committed records say: in README.md with their figures, claim by claim in experiments/README.md.

`python -m experiments.gallery` writes both from the record whose pictures each study's README shows; a test fails
where the two files say something else than the records.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records import read_rows, write_between_marks
from experiments.run import PICTURE, STUDIES, find, studies
from experiments.tables import device, lines
from flaxbert import tasks
from flaxbert.errors import InputError, note

ROOT = STUDIES.parent
COLUMNS = ("claim", "study", "command", "measured", "published", "verdict")
SHORT = "**In short.** "
NOTHING = "not measured"
_ELSEWHERE = re.compile(r" --(output=\S+|update_readme)")

# The claims of the article: letter -> what it says, and whose.
ARTICLE = {
    "A": "One layer on a pre-trained BERT, everything trained for 2 to 4 epochs at 1e-5 to 5e-5, works on all "
         "kinds of tasks (Devlin 2018).",
    "B": "Early layers hardly change, late ones most; freezing most of the bottom costs little and saves compute "
         "(Merchant 2020).",
    "C": "Features of the frozen model under a BiLSTM come close to fine-tuning; the last four layers are "
         "best (Devlin 2018, table 7).",
    "D": "Over several tasks features are within about 1 % of fine-tuning, but not for similarity (Peters 2019).",
    "E": "The usual recipe is unstable over seeds; bias correction and more steps cure it (Mosbach 2021, "
         "Zhang 2021).",
    "F": "The best of many seeds over-fits the examples that chose it (Mosbach 2021, Zhang 2021).",
}


class Kept(NamedTuple):
    """A study and what is kept of it.

    Attributes:
      name: of the study.
      folder: of the record that its README shows; None without one.
      summary: the record's summary.json; {} without one.
    """

    name: str
    folder: Path | None
    summary: dict[str, Any]

    @property
    def command(self) -> str:
        """Those that made the record; where it is written is left out."""
        made = self.summary.get("command", f"python -m experiments.run {self.name} --preset=small")
        return ", ".join(dict.fromkeys(f"`{_ELSEWHERE.sub('', each)}`" for each in made.split(" && ")))

    @property
    def title(self) -> str:
        """The heading of its README."""
        return _readme(self.name).splitlines()[0].removeprefix("# ")


def shown(name: str) -> Kept:
    """The record whose pictures a study's README shows; others beside it are anybody's own.

    Raises:
      InputError: pictures of several records, or of one that is not whole.
    """
    readme = STUDIES / name / "README.md"
    dates = sorted({date for _, date in PICTURE.findall(_readme(name))})
    if len(dates) > 1:
        raise InputError(f"{readme}: shows pictures of several records, {', '.join(dates)}; show those of one")
    if not dates:
        return Kept(name, None, {})
    file = STUDIES / name / "records" / dates[0] / "summary.json"
    try:
        summary = json.loads(file.read_text())
        whole = summary["status"] != "unfinished"
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise InputError(f"{file}: is no summary of a whole record, but {readme} shows its pictures")
    return Kept(name, file.parent, summary)


def _readme(name: str) -> str:
    return (STUDIES / name / "README.md").read_text()


def in_short(name: str) -> str:
    """The paragraph of a study's README that says what came of it.

    Raises:
      InputError: it has none.
    """
    for paragraph in _readme(name).split("\n\n"):
        if paragraph.startswith(SHORT):
            return " ".join(paragraph.removeprefix(SHORT).split())
    raise InputError(f"{STUDIES / name / 'README.md'}: has no paragraph that begins with {SHORT.strip()}")


def claims(kept: Kept) -> Iterator[tuple[str, ...]]:
    """The rows of a study in the table of claims, as of COLUMNS: one a claim, all its tasks together."""
    verdicts = (kept.summary.get("findings") or {}).get("claims", ())
    for claim in getattr(find(kept.name), "CLAIMS", ()):
        mine = [each for each in verdicts if each["claim"] == claim.name]
        told = {verdict: [each["task"] for each in mine if each["verdict"] == verdict]
                for verdict in dict.fromkeys(each["verdict"] for each in mine)}
        yield (f"**{claim.name}.** {claim.says}", f"[{kept.name}]({kept.name}/README.md)", kept.command,
               "<br>".join(f"{each['task']}: {each['found']}" for each in mine if each["found"]),
               "; ".join(dict.fromkeys(each["published"] for each in mine if each["published"])),
               next(iter(told)) if len(told) == 1 else
               "; ".join(f"{verdict}: {', '.join(those)}" for verdict, those in told.items()) or NOTHING)


def claim_table(every: list[Kept]) -> str:
    """Markdown: the article's claims, each with a row for what every study says of it; and what that took."""
    rows = [row for kept in every for row in claims(kept)]
    text = []
    for letter, says in ARTICLE.items():
        mine = [row for row in rows if row[0].startswith(f"**{letter}")]
        text += [f"**{letter}.** {says}", "",
                 *(lines(COLUMNS, mine) if mine else ["No study of it yet."]), ""]
    return "\n".join([*text, metrics(every), "", *took(every), ""])


def metrics(every: list[Kept]) -> str:
    """Markdown: what the scores of the table are, since their tasks are named there alone."""
    names = {each["task"] for kept in every for each in (kept.summary.get("findings") or {}).get("claims", ())
             if each["found"]}
    of: dict[str, list[str]] = {}
    for name in sorted(names & tasks.TASKS.keys()):
        of.setdefault(tasks.get(name).main_metric, []).append(name)
    told = "; ".join(f"{metric} of {', '.join(mine)}" for metric, mine in sorted(of.items()))
    return f"Scores and their differences, where nothing else is said: {told or 'none yet'}."


def took(every: list[Kept]) -> list[str]:
    """Lines of Markdown: how long each record took to measure, all its points together."""
    rows = []
    for kept in every:
        if kept.folder:
            seconds = sum(row.get("seconds", 0) for row in read_rows(kept.folder / "results.jsonl"))
            rows.append((f"[{kept.name}]({kept.name}/README.md)", kept.summary["preset"], device(kept.summary),
                         f"{seconds / 60:.0f}" if seconds >= 60 else "under 1"))
    return ["What the records took; most machines did other things too, which the studies tell:", "",
            *lines(("study", "preset", "device", "minutes"), rows)]


def pictures(every: list[Kept]) -> str:
    """Markdown: of each record its question, what came of it, and its figure."""
    text = []
    for kept in every:
        if kept.folder is None:
            continue
        figure = (kept.folder / "figure.png").relative_to(ROOT)
        text += [f"**[{kept.title}](experiments/{kept.name}/README.md).** *{kept.summary['question']}* "
                 f"{in_short(kept.name)}", "", f"![{kept.title}: {kept.summary['question']}]({figure})", ""]
    return "\n".join(text)


def in_order() -> list[Kept]:
    """All studies, in the order of the letters of their claims; those without one come last."""
    letters = {name: min((claim.name for claim in getattr(find(name), "CLAIMS", ())), default="~")[0]
               for name in studies()}
    return [shown(name) for name in sorted(letters, key=lambda name: (letters[name], name))]


def write() -> list[Path]:
    """Writes both texts between their marks; returns the files."""
    every = in_order()
    texts = {ROOT / "README.md": pictures(every), STUDIES / "README.md": claim_table(every)}
    for file, text in texts.items():
        write_between_marks(file, text)
    return list(texts)


def main() -> None:
    """Writes and exits: 0, or 2 after bad input."""
    try:
        print("\n".join(str(file) for file in write()))
    except InputError as error:
        note(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
