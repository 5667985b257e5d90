"""Texts and pairs of texts: one class, several classes or one number each.

Letters: N examples, C outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert import metrics
from flaxbert.data import Encoded, encode, weights_of
from flaxbert.errors import InputError
from flaxbert.families.base import Family, spread
from flaxbert.tasks import submission
from flaxbert.tasks.base import Examples
from flaxbert.tasks.submission import cells_by_id, read_submission


class SequenceFamily(Family):
    """Classification, multi-label classification and regression of texts and pairs."""

    def encode(self, tokenizer: Any, examples: Examples, name: str = "inputs") -> Encoded:
        """[CLS] A [SEP] B [SEP]; with --pair=separate two sequences: [CLS] A [SEP], [CLS] B [SEP]."""
        longest, what, weights = self.config.max_length, f"tokenising {name}", self.config.class_weights
        if self.config.pair == "joint":
            return encode(tokenizer, examples, longest, what, weights)
        texts = [text for pair in zip(examples.first, examples.second, strict=True) for text in pair]
        flat = encode(tokenizer, Examples(texts, None, None), longest, what)
        return replace(flat, labels=examples.labels, weights=weights_of(examples, weights), sequences=2)

    def scores(self, outputs: np.ndarray, encoded: Encoded, examples: Examples,
               dev: Mapping[str, float] | None = None) -> dict[str, float]:
        losses = np.asarray(self.loss(outputs, {"labels": encoded.labels}))
        return {"loss": float((losses * encoded.weights).sum() / max(encoded.weights.sum(), 1e-30)),
                **metrics.evaluate(self.task.kind, self.task.metrics, outputs, encoded.labels)}

    def answers(self, outputs: np.ndarray, encoded: Encoded, examples: Examples,
                dev: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """{"label", "probability", "probabilities"}; several labels: {"labels", "probabilities"}; {"score"}."""
        return [ANSWERS[self.task.kind](row.astype(np.float64), self.task.labels) for row in outputs]

    def cells(self, answer: dict[str, Any]) -> dict[str, Any]:
        return spread(answer, answer.get("probabilities", {}))

    def write(self, split: str, outputs: np.ndarray, encoded: Encoded, examples: Examples, folder: Path,
              dev: Mapping[str, float] | None = None) -> None:
        submission(self.task, split, metrics.predictions(self.task.kind, outputs), examples.ids, folder)

    def score_file(self, path: Path, examples: Examples) -> dict[str, float]:
        """Of `index<TAB>prediction` rows."""
        predicted = read_submission(self.task, path, examples.ids)
        return {name: metrics.METRICS[name](predicted, examples.labels, classes=self.task.outputs)
                for name in self.task.metrics}

    def label_names(self, path: Path) -> Sequence[str]:
        return list(cells_by_id(self.task, path).values())

    def inputs(self, values: Sequence[Any]) -> Examples:
        """From texts, or from pairs (A, B): what the task asks about, if that is known, and not a mixture."""
        pairs = [not isinstance(value, str) for value in values]
        for i, value in enumerate(values):
            if pairs[i] != pairs[0]:
                raise InputError(f"input {i}: texts and pairs are mixed; give one or the other")
            if pairs[i] and not (isinstance(value, tuple | list) and len(value) == 2
                                 and all(isinstance(part, str) for part in value)):
                raise InputError(f"input {i}: {value!r:.60} is neither a text nor a pair of texts")
        if pairs and self.task.layouts and pairs[0] != self.task.pair:
            raise InputError("inputs: pairs of texts; this model reads one; give single texts" if pairs[0] else
                             "inputs: single texts; this model compares two; give pairs of texts")
        if not any(pairs):
            return Examples(list(values), None, None)
        return Examples([a for a, _ in values], [b for _, b in values], None)


def _class(logits: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    p = metrics.softmax(logits)
    best = int(p.argmax())
    return {"label": labels[best], "probability": float(p[best]),
            "probabilities": dict(zip(labels, p.tolist(), strict=True))}


def _several(logits: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    p = 1 / (1 + np.exp(-logits))
    return {"labels": [name for name, x in zip(labels, logits, strict=True) if x > 0],
            "probabilities": dict(zip(labels, p.tolist(), strict=True))}


def _score(logits: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    return {"score": float(logits[0])}


ANSWERS = {"classification": _class, "multi_label": _several, "regression": _score}
