"""What an analysis is, the settings that analyses read, and the table of them.

An analysis is a module of this folder with

    measure(subject) -> rows        always; `subject.Subject` is two models, the texts and the settings
    check(subject)                  where models or files can lack what it needs: raises before any is measured
    collector(subject, text)        where `Analysis.streams`: what takes in the states of a text, see `states.py`;
                                    `measure` finds it again as `subject.collected(NAME)[text]`
    figure(rows, path)              where lines over the layers (`figures.lines`) would not do
    table(rows) -> cells            where layers x measures (`record.by_layer`) would not do

A row is flat, of JSON types, and has

    analysis      its name
    text          own (of the task) or other; left out where no text was read
    layer         0 the embeddings' output, 1 to L the layers; None: of no layer
    measure       what `value` is; and `kind`, `head`, ... where there are several of it
    value         the number
    tokens, ...   what it was measured on
"""

import dataclasses
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from flaxbert.errors import InputError, one_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
      name: on the command line, and of its module.
      about: what it tells, in a line.
      reads: the settings that it reads, beside those of ALWAYS.
      streams: it takes in the states of all layers of both models; one pass is made for all such analyses.
      bounds: of its values in a picture; None: as they come.
    """

    name: str
    about: str
    reads: tuple[str, ...] = ()
    streams: bool = False
    bounds: tuple[float | None, float | None] | None = None

    @property
    def module(self) -> ModuleType:
        """Its module, imported now."""
        return importlib.import_module(f"flaxbert.analysis.{self.name}")

    def own(self, name: str, default: Any) -> Any:
        """What its module has by this name, or the default."""
        return getattr(self.module, name, default)

    def check(self, subject: Any) -> None:
        """Reads what it looks at; raises `InputError` where that, or what else it needs, is not to be had.

        Args:
          subject: a `subject.Subject`.
        """
        for setting, what in FIRST.items():
            if setting in self.reads:
                getattr(subject, what)
        self.own("check", lambda subject: None)(subject)

    def measure(self, subject: Any) -> list[Row]:
        """Its rows.

        Args:
          subject: a `subject.Subject`.

        Raises:
          InputError: it cannot be measured on these models and texts; one line says why.
        """
        return [{"analysis": self.name, **row} for row in self.module.measure(subject)]


ONLY_WITH = {"text_columns": "input", "grid": "others"}  # settings that another one would leave idle
ALWAYS = ("after", "before", "output", "what", "checkpoint")
TEXTS = ("input", "text_columns", "data_dir", "texts", "max_length", "seed")  # of what looks at texts
# Setting -> what of a subject the analyses look at that read it: that is there before anything is measured.
FIRST = {"texts": "texts", "examples": "dev"}

ANALYSES: dict[str, Analysis] = {analysis.name: analysis for analysis in (
    Analysis("distance", "How far the parameters went, by layer and kind of matrix: absolute, relative, cosine."),
    Analysis("rsa", "Whether tokens that were alike still are: correlation of their cosine similarities.",
             (*TEXTS, "tokens"), streams=True, bounds=(None, 1)),
    Analysis("cka", "Linear centred kernel alignment of the states before and after, unbiased.", TEXTS,
             streams=True, bounds=(None, 1)),
    Analysis("shift", "How far tokens' vectors turned: the mean of 1 - cosine of before and after.", TEXTS,
             streams=True, bounds=(0, None)),
    Analysis("attention", "How differently heads attend: Jensen-Shannon divergence, by layer and head.", TEXTS),
    Analysis("probes", "What a probe reads off each layer before and after: parts of speech, phrases, names.",
             ("data_dir", "conll_dir", "sentences", "seed")),
    Analysis("surgery", "What the run scores with its bottom or top layers pre-trained again.",
             ("data_dir", "examples")),
    Analysis("forgetting", "How well masked words are still told, by the pre-trained model's head.", TEXTS),
    Analysis("landscape", "Loss and score between the models, on their line and on the plane with a third.",
             ("data_dir", "examples", "points", "others", "grid", "beyond")),
)}


def setting(default: Any, text: str, low: int | None = None) -> Any:
    """A field of `Settings`: default, help text, least value of a number."""
    return field(default=default, metadata={"help": text, "low": low})


@dataclass(frozen=True)
class Settings:
    """The settings of `flaxbert analyze`; its flags are made from these fields.

    A setting of one analysis alone is a field here and a name in its row's `reads`.
    """

    after: str = setting("", "The fine-tuned model: a run, of a folder of many seeds the best, an exported "
                         "folder, or as --model of finetune.")
    before: str = setting("", "The pre-trained model, likewise. Default: what the run started from.")
    output: str = setting("", "Folder for rows, table and pictures.")
    what: tuple[str, ...] = setting(("distance", "rsa", "cka", "shift"), "Which analyses, with commas between; "
                                    f"there are {', '.join(ANALYSES)}.")
    checkpoint: str = setting("best", "Of the runs: best or last; what a run started from is always its best.")
    input: str = setting("", "The other text: TSV, CSV or JSONL with the column `text`, or one text a line. "
                         "Default: sentences of a toy task that is not the run's.")
    text_columns: tuple[str, ...] = setting((), "The column of --input with the texts, or the two with pairs.")
    data_dir: str = setting("", "Where the files of the run's task are now, if not where they were.")
    texts: int = setting(1000, "Look at so many sequences of each source at most, drawn by --seed; 0: all.", 0)
    tokens: int = setting(2000, "rsa: compare so many tokens of each source at most, drawn by --seed.", 1)
    conll_dir: str = setting("", "probes: folder of CoNLL-2003's files, for parts of speech, phrases and names. "
                             "Default: that of a run on them, or else toy_token.")
    sentences: int = setting(1000, "probes: so many sentences to learn from, the first, and half as many to "
                             "be asked about; 0: all.", 0)
    examples: int = setting(1000, "surgery, landscape: score the first so many examples of dev; 0: all.", 0)
    points: int = setting(21, "landscape: so many points of the line, beside both models.", 2)
    others: str = setting("", "landscape: a third run on the task, a failed one say, for the plane of all.")
    grid: int = setting(9, "landscape: so many points of the plane each way, with --others.", 2)
    beyond: float = setting(0.5, "landscape: so far beyond the models, in distances between them.", 0)
    max_length: int = setting(0, "Longest sequence in tokens; 0: the run's, or else the model's own.", 0)
    seed: int = setting(0, "Draws texts and tokens.", 0)

    @classmethod
    def make(cls, **given: Any) -> "Settings":
        """Defaults and the given ones.

        Raises:
          InputError: an unknown name, one that would change nothing, or a value out of range.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        for name in given:
            if name not in known:
                raise InputError(f"--{name}: no such setting; valid: {', '.join(known)}")
        settings = cls(**{name: _listed(value) if isinstance(known[name].default, tuple) else value
                          for name, value in given.items()})
        settings = dataclasses.replace(settings, what=tuple(dict.fromkeys(settings.what)))
        if not settings.what:
            raise InputError(f"--what: none; valid: {', '.join(ANALYSES)}")
        for name in settings.what:
            one_of(name, tuple(ANALYSES), "--what")
        for name in given:
            if name not in ALWAYS and not any(name in ANALYSES[each].reads for each in settings.what):
                whose = ", ".join(each.name for each in ANALYSES.values() if name in each.reads)
                raise InputError(f"--{name}: only for --what={whose}; {', '.join(settings.what)} would ignore it")
        for name, other in ONLY_WITH.items():
            if given.get(name) and not getattr(settings, other):
                raise InputError(f"--{name}: only with --{other}")
        for name, f in known.items():
            low, value = f.metadata["low"], getattr(settings, name)
            if low is not None and value < low:
                raise InputError(f"--{name}={value}: out of range; valid: {low} and more")
        if not settings.after:
            raise InputError(f"--after is needed: {known['after'].metadata['help']}")
        return settings


def _listed(value: str | Iterable[str]) -> tuple[str, ...]:
    """Texts, given as they are or in one with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def by_analysis(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    """The rows of each analysis, in the order of their first ones."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["analysis"], []).append(row)
    return found


def names(rows: Sequence[Row], field: str) -> list[Any]:
    """The values of a field, each once, in their order."""
    return list(dict.fromkeys(row[field] for row in rows))


def only(rows: Sequence[Row], **fields: Any) -> list[Row]:
    """The rows with these fields, that have a value."""
    return [row for row in rows if row["value"] is not None and all(row[name] == x for name, x in fields.items())]


def cell(value: float | None) -> str:
    """A number in a table; nothing where there is none."""
    return "" if value is None else f"{value:.4g}"
