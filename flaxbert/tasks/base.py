"""What a task is: the columns it reads, the labels it knows, the metrics it is judged by.

Letters: N examples, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

# What a task's labels are: a class, a number or several classes of a text or pair; an answer within a context;
# a class of each word; the right one of several choices; the words themselves, where they are masked.
KINDS = ("classification", "regression", "multi_label", "span", "token", "choice", "pretraining")


class Split:
    """One split, in file order: what all the classes of examples below share."""

    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def inputs(self) -> list[Any]:
        """What a predictor is called with, to predict for these examples."""
        raise NotImplementedError

    def head(self, count: int) -> Self:
        """The first `count` examples; 0 means all."""
        if not count or count >= len(self):
            return self
        cut = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: None if value is None else value[:count] for name, value in cut.items()})


@dataclass(frozen=True)
class Examples(Split):
    """Texts or pairs of texts.

    Attributes:
      first: N texts (sentence A).
      second: N texts (sentence B), or None for single sentences.
      labels: [N] int32 class numbers, [N] float32 scores, [N, C] float32 zeros and ones for
        multi-label; None where the file has no labels.
      ids: N strings, what the official submission calls each row.
    """

    first: list[str]
    second: list[str] | None
    labels: np.ndarray | None
    ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def inputs(self) -> list[str] | list[tuple[str, str]]:
        return self.first if self.second is None else list(zip(self.first, self.second, strict=True))


@dataclass(frozen=True)
class SpanExamples(Split):
    """Questions whose answers are pieces of a context.

    Attributes:
      questions, contexts: N texts.
      answers: of each question, what the file accepts: (text, offset in the context in characters); none at all
        where it cannot be answered; None in place of the list where the file has no answers.
      ids: N strings.
      named: whether each id is the file's own, and answers are to repeat it; None: none is.
    """

    questions: list[str]
    contexts: list[str]
    answers: list[list[tuple[str, int]]] | None
    ids: list[str]
    named: list[bool] | None = None

    @property
    def labels(self) -> list[list[tuple[str, int]]] | None:
        """The answers, by the name that other examples have for what is to be found."""
        return self.answers

    @property
    def inputs(self) -> list[tuple[str, str]]:
        return list(zip(self.questions, self.contexts, strict=True))


@dataclass(frozen=True)
class TokenExamples(Split):
    """Sentences as words, each word with its label.

    Attributes:
      words: N sentences.
      labels: of each sentence, the [words] class numbers; None where the file has none.
      documents: N numbers; sentences of one document share one, and stand together.
      ids: N strings.
      rows: of each sentence, the cells of its words' lines, which the official files repeat; None where the
        words did not come from such a file.
    """

    words: list[list[str]]
    labels: list[list[int]] | None
    documents: list[int]
    ids: list[str]
    rows: list[list[tuple[str, ...]]] | None = None

    @property
    def inputs(self) -> list[list[str]]:
        return self.words


@dataclass(frozen=True)
class ChoiceExamples(Split):
    """Questions with several choices, of which one is right.

    Attributes:
      contexts: N texts, the first part of every choice's pair.
      choices: of each example, its choices: the second parts. Their number may differ.
      labels: [N] int32 which one is right, from 0; None where the file does not tell.
      ids: N strings.
    """

    contexts: list[str]
    choices: list[list[str]]
    labels: np.ndarray | None
    ids: list[str]

    @property
    def inputs(self) -> list[tuple[str, list[str]]]:
        return list(zip(self.contexts, self.choices, strict=True))


@dataclass(frozen=True)
class Documents(Split):
    """Running text.

    Attributes:
      paragraphs: N documents, each as its paragraphs.
      ids: N strings.
    """

    paragraphs: list[list[str]]
    ids: list[str]


@dataclass(frozen=True)
class Layout:
    """Which column of a local file holds what: names where the file has a header, numbers where not.

    A file is read by the first layout of its task that fits: all text columns named in the first line, or,
    without a header, a first line of one of `widths` columns.

    Attributes:
      texts: one column, or two for pairs.
      label: the column with the label; None where such files have none.
      ids: the column the submission counts by; rows are numbered from 0 where a file lacks it.
      widths: how many columns a file without a header may have; empty for files with one.
    """

    texts: tuple[str, ...] | tuple[int, ...]
    label: str | int | None = None
    ids: str | int | None = None
    widths: tuple[int, ...] = ()

    def __str__(self) -> str:
        wanted = [*self.texts, *([] if self.label is None else [self.label])]
        if not self.widths:
            return "columns " + ", ".join(map(str, wanted))
        return (f"no header, {' or '.join(map(str, self.widths))} columns, of which number "
                + ", ".join(str(int(column) + 1) for column in wanted))


@dataclass(frozen=True)
class Hub:
    """Where a task is found on the Hugging Face hub, and what its columns are called there.

    Attributes:
      path, config, revision: arguments of `datasets.load_dataset`.
      texts, label, ids: column names.
      splits: our name of a split -> the hub's.
    """

    path: str
    config: str | None
    texts: tuple[str, ...]
    label: str
    splits: dict[str, str]
    ids: str = "idx"
    revision: str | None = None


HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class Task:
    """One row of the table of tasks.

    Attributes:
      name: as in `--task`.
      kind: one of KINDS.
      title: one line for `flaxbert tasks`.
      metrics: names in `flaxbert.metrics.METRICS`; the first one chooses the best checkpoint.
      labels: names of the C classes in order; () for regression, or until read from the data.
      spellings: what the files write for each of `labels`, in the same order; () where the same.
      pair: two texts an example.
      layouts: how local files are laid out, most usual first.
      files: split -> the official file name, in the order in which splits are reported.
      hub: where the hub has it.
      submission: split -> stem of the official submission's file name; other splits are named TASK.SPLIT.
      numbers: the submission holds class numbers in place of label names.
      bounds: lowest and highest score of a regression task, or None.
      generate: makes a split (train, dev, test) without any file.
      max_length: of its sequences in tokens, where --max_length does not say.
      unanswerable: spans: some questions have no answer, and "" says so.
      usage: lines for `flaxbert tasks`, of a task whose files and columns flags name.
    """

    name: str
    kind: str
    title: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()
    pair: bool = False
    layouts: tuple[Layout, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    hub: Hub | None = None
    submission: dict[str, str] = field(default_factory=dict)
    numbers: bool = False
    bounds: tuple[float, float] | None = None
    generate: Callable[[str], Split] | None = None
    max_length: int = 128
    unanswerable: bool = False
    usage: tuple[str, ...] = ()

    @property
    def main_metric(self) -> str:
        """The metric that chooses the best checkpoint."""
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Width of the head: C classes; 1 score of a text or a choice; 2 scores, of begin and end, for spans."""
        return {"regression": 1, "choice": 1, "span": 2}.get(self.kind, len(self.labels))
