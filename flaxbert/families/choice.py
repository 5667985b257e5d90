"""Questions with several choices, of which one is right: one score for each choice.

Letters: N questions, P choices at most.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxbert import metrics
from flaxbert.data import Encoded, encode
from flaxbert.errors import InputError
from flaxbert.families.base import Family, spread
from flaxbert.tasks import submission
from flaxbert.tasks.base import ChoiceExamples, Examples
from flaxbert.tasks.choices import form, listed
from flaxbert.tasks.rows import BadRow
from flaxbert.tasks.submission import cells_by_id, in_order


class ChoiceFamily(Family):
    """Multiple choice (Devlin 2018, section 4.4): softmax over the scores of [CLS] context [SEP] choice [SEP]."""

    def encode(self, tokenizer: Any, examples: ChoiceExamples, name: str = "inputs") -> Encoded:
        """The choices of a question stand together; where it has fewer than P, the last ones have no tokens."""
        pairs = Examples([context for context, choices in zip(examples.contexts, examples.choices, strict=True)
                          for _ in choices],
                         [choice for choices in examples.choices for choice in choices], None)
        flat = encode(tokenizer, pairs, self.config.max_length, f"tokenising {name}")
        counts = np.array([len(choices) for choices in examples.choices])
        there = np.arange(counts.max()) < counts[:, None]
        lengths, second = np.zeros((2, *there.shape), np.int64)
        lengths[there], second[there] = flat.lengths, flat.second
        return Encoded(flat.tokens, np.cumsum([0, *lengths.ravel()]), second.ravel(), examples.labels,
                       np.ones(len(examples), np.float32), sequences=int(counts.max()))

    def scores(self, outputs: np.ndarray, encoded: Encoded, examples: ChoiceExamples,
               dev: Mapping[str, float] | None = None) -> dict[str, float]:
        losses = np.asarray(self.loss(outputs, {"labels": encoded.labels}))
        return {"loss": float(losses.mean()), "accuracy": metrics.accuracy(outputs.argmax(-1), encoded.labels)}

    def answers(self, outputs: np.ndarray, encoded: Encoded, examples: ChoiceExamples,
                dev: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """{"choice": its number, from 0, "probabilities": one for each choice}."""
        rows = [metrics.softmax(row[:len(choices)].astype(np.float64))
                for row, choices in zip(outputs, examples.choices, strict=True)]
        return [{"choice": int(p.argmax()), "probabilities": p.tolist()} for p in rows]

    def cells(self, answer: dict[str, Any]) -> dict[str, Any]:
        return spread(answer, dict(enumerate(answer["probabilities"])))

    def write(self, split: str, outputs: np.ndarray, encoded: Encoded, examples: ChoiceExamples, folder: Path,
              dev: Mapping[str, float] | None = None) -> None:
        submission(self.task, split, outputs.argmax(-1), examples.ids, folder)

    def score_file(self, path: Path, examples: ChoiceExamples) -> dict[str, float]:
        """{"accuracy"}. Of several predictions with `;` between, k of them, the right one earns 1/k.

        Source: Clark et al. 2018 (1803.05457), on ties.
        """
        def earned(number: int, cell: str) -> float:
            choices, label = examples.choices[number], int(examples.labels[number])
            chosen = {form(self.task).predicted(part.strip(), choices) for part in cell.split(";")}
            return (label in chosen) / len(chosen)
        return {"accuracy": float(np.mean(in_order(path, cells_by_id(self.task, path), examples.ids, earned)))}

    def inputs(self, values: Sequence[Any]) -> ChoiceExamples:
        """From (context, [choice, ...]), or {"context" or "question": ..., "choices": [...]}."""
        contexts, choices = [], []
        for i, value in enumerate(values):
            if isinstance(value, dict):
                value = (value.get("context", value.get("question")), value.get("choices"))
            if not isinstance(value, tuple | list) or len(value) != 2:
                raise InputError(f"input {i}: {value!r:.60} is no question; give (context, [choice, ...])")
            try:
                context, offered = listed(value)
            except BadRow as error:
                raise InputError(f"input {i}: {error}") from None
            contexts.append(context)
            choices.append(offered)
        return ChoiceExamples(contexts, choices, None, [str(i) for i in range(len(contexts))])
