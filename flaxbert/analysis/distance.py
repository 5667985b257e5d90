"""How far fine-tuning moved the parameters, layer by layer and kind of matrix by kind."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxbert import trees
from flaxbert.analysis import figures, record
from flaxbert.analysis.base import Row
from flaxbert.analysis.subject import Subject

ALL = "all"  # the kind that is all of a layer's parameters

# Name of a leaf in the encoder -> its kind; the first that matches the whole name wins.
KINDS = (
    (r"embeddings/word/.*", "word embeddings"),
    (r"embeddings/position/.*", "position embeddings"),
    (r"embeddings/type/.*", "type embeddings"),
    (r".*layer_norm/.*", "layer norm"),
    (r".*/bias", "bias"),
    (r".*attention/(query|key|value)/kernel", r"\1"),
    (r".*attention/output/kernel", "attention output"),
    (r".*mlp/(intermediate|output)/kernel", r"\1"),
    (r"pooler/kernel", "pooler"),
)


# In pictures and tables.
ORDER = (ALL, "word embeddings", "position embeddings", "type embeddings", "query", "key", "value",
         "attention output", "intermediate", "output", "layer norm", "bias", "pooler")


class Distance(NamedTuple):
    """How far W1 is from W0; NaN where W0 (or, for the cosine, W1) is all zeros.

    Attributes:
      absolute: |W1 - W0|_F.
      relative: |W1 - W0|_F / |W0|_F.
      cosine: <W1, W0> / (|W1|_F |W0|_F).
    """

    absolute: float
    relative: float
    cosine: float


def distance(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Distance:
    """Of arrays taken together as one vector, in float64.

    Args:
      before, after: arrays of any shapes, each of one list like its fellow of the other.
    """
    # The difference is taken before the sums: |W1|^2 + |W0|^2 - 2 <W1, W0> would lose what fine-tuning changes.
    moved = old = new = product = 0.0
    for w0, w1 in zip(before, after, strict=True):
        w0, w1 = np.asarray(w0, np.float64), np.asarray(w1, np.float64)
        moved += float(np.square(w1 - w0).sum())
        old, new = old + float(np.square(w0).sum()), new + float(np.square(w1).sum())
        product += float((w0 * w1).sum())
    absolute = moved ** 0.5
    return Distance(absolute, absolute / old ** 0.5 if old else np.nan,
                    product / (old * new) ** 0.5 if old and new else np.nan)


def kind_of(name: str) -> str:
    """The kind of a parameter, by its name in the encoder, such as layer_0/attention/query/kernel."""
    for pattern, kind in KINDS:
        if found := re.fullmatch(pattern, name):
            return found.expand(kind)
    raise ValueError(f"{name}: no kind")


def layer_of(name: str) -> int | None:
    """0 for the embeddings, 1 to L for the layers; None for the pooler, which stands on no layer's states."""
    number = re.match(r"layer_(\d+)/", name)
    return int(number[1]) + 1 if number else 0 if name.startswith("embeddings/") else None


def by_layer(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """Distances of two trees of parameters, by layer and kind; `ALL` is a layer's total.

    Args:
      before, after: trees of one form: those of encoders, each with `pooler` beside its parts or without.

    Returns:
      {"layer", "kind", "measure", "value", "parameters"}, a row for each of `Distance`'s numbers that is defined.
    """
    old, new = trees.flatten(before), trees.flatten(after)
    groups: dict[tuple[int | None, str], list[str]] = {}
    for name in old:
        for kind in (ALL, kind_of(name)):
            groups.setdefault((layer_of(name), kind), []).append(name)
    ordered = sorted(groups, key=lambda group: (group[0] is None, group[0], ORDER.index(group[1])))
    return [row for layer, kind in ordered
            for row in _rows(layer, kind, *([tree[name] for name in groups[layer, kind]] for tree in (old, new)))]


def _rows(layer: int | None, kind: str, before: Sequence[np.ndarray],
          after: Sequence[np.ndarray]) -> Iterable[Row]:
    count = sum(int(np.size(leaf)) for leaf in before)
    for measure, value in distance(before, after)._asdict().items():
        if np.isfinite(value):
            yield {"layer": layer, "kind": kind, "measure": measure, "value": value, "parameters": count}


def measure(subject: Subject) -> list[Row]:
    """The rows of `by_layer`, with the pooler where both models have one."""
    pair = subject.pair
    pooled = all("pooler" in model.params for model in (pair.before, pair.after))
    return by_layer(*({**model.params["bert"], **({"pooler": model.params["pooler"]} if pooled else {})}
                      for model in (pair.before, pair.after)))


def figure(rows: Sequence[Row], path: Path) -> None:
    """The layers' relative distances, and those of each kind of matrix."""
    relative = sorted((row for row in rows if row["measure"] == "relative"),
                      key=lambda row: ORDER.index(row["kind"]))
    figures.lines_and_map([row for row in relative if row["kind"] == ALL],
                          [row for row in relative if row["kind"] != ALL], path, "relative distance")


def table(rows: Sequence[Row]) -> list[list[str]]:
    """The totals of layers, and the pooler; of the cosine what it lacks to 1, which is all that differs."""
    totals = [{**row, "kind": None} for row in rows if row["kind"] == ALL]
    head, *body = record.by_layer([{**row, "measure": "1 - cosine", "value": 1 - row["value"]}
                                   if row["measure"] == "cosine" else row for row in totals])
    return [head, *(["pooler" if line[0] == record.NO_LAYER else line[0], *line[1:]] for line in body)]
