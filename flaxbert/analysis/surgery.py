"""Surgery: layers of the fine-tuned model go back to the pre-trained weights, and it is scored again.

    bottom, k    the embeddings and layers 1 to k are the pre-trained ones again; 0: none, not even the embeddings
    top, k       layers L - k + 1 to L are

All that stands on the encoder, the pooler included, stays fine-tuned. So bottom with k = L is the pre-trained
encoder under a head that never saw it. Nothing is trained again: a score that stays high says that what changed
there was not needed, one that falls does not say that it could not have been done without.

Source: Merchant et al. 2020 (2004.14448) freeze and truncate; reverting is our own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flaxbert.activations import below
from flaxbert.analysis import own_figures
from flaxbert.analysis.base import Row, cell, names
from flaxbert.analysis.scoring import Scorer, finite
from flaxbert.analysis.subject import Subject
from flaxbert.progress import bar

ENDS = ("bottom", "top")


def parts(end: str, count: int, layers: int) -> tuple[str, ...]:
    """The names of the parts of an encoder that go back.

    Args:
      end: bottom or top.
      count: k, from 0 to L.
      layers: L.
    """
    if end == "bottom":
        return below((count,)) if count else ()
    return tuple(f"layer_{i}" for i in range(layers - count, layers))


def reverted(after: Mapping[str, Any], before: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The parameters `after`, with these parts of the encoder as in `before`, an encoder's parameters."""
    return {**after, "bert": {**after["bert"], **{name: before[name] for name in names}}}


def cuts(layers: int) -> Iterator[tuple[str, int]]:
    """(end, k) of all that is scored; nothing goes back where k = 0, at either end."""
    return ((end, k) for end in ENDS for k in range(layers + 1))


def measure(subject: Subject) -> list[Row]:
    """The task's metrics and the loss for each end and k; see `base`."""
    pair = subject.pair
    scorer = Scorer(pair, subject.dev, subject.settings.checkpoint)
    before, layers, rows = pair.placed["before"], pair.layers, []
    known: dict[tuple[str, ...], dict[str, float]] = {}
    with bar(2 * layers + 1, "layers reverted", unit="models") as progress:
        for end, k in cuts(layers):
            names = parts(end, k, layers)
            if names not in known:
                known[names] = scorer.scores(reverted(scorer.params, before, names))
                progress.update()
            rows += [{"layer": None, "end": end, "reverted": k, "measure": name, "task": scorer.task,
                      "value": finite(known[names][name]), "examples": len(scorer.examples)}
                     for name in scorer.metrics if name in known[names]]
    return rows


figure = own_figures.surgery


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each number of layers, a column for each end and measure."""
    columns = [(end, measure) for end in ENDS for measure in names(rows, "measure")]
    value = {(row["reverted"], row["end"], row["measure"]): row["value"] for row in rows}
    return [["reverted", *(" ".join(column) for column in columns)],
            *([str(k), *(cell(value[k, *column]) for column in columns)]
              for k in names(rows, "reverted"))]
