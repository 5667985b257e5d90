"""Answers that are pieces of a context: the best spans of a question's windows, or none.

Letters: Q questions, N windows, S tokens of a context, L tokens of the longest answer, K answers compared.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxbert import span_metrics
from flaxbert.data import Encoded
from flaxbert.errors import InputError
from flaxbert.families.base import Family
from flaxbert.families.windows import Windows, encode
from flaxbert.metrics import softmax
from flaxbert.tasks.base import SpanExamples
from flaxbert.tasks.submission import in_order

NOTHING = -1e9  # the score of the best answer where a context has no token at all


class Answer(NamedTuple):
    """A piece of a context: text, first character, the one after the last; score, and its first token's part."""

    text: str
    start: int | None
    end: int | None
    score: float
    first: float


class Found(NamedTuple):
    """What the model says of one question: answers, best first and no text twice, and the lack of one."""

    answers: list[Answer]
    null: Answer

    @property
    def best(self) -> Answer:
        return self.answers[0] if self.answers else self.null._replace(score=NOTHING, first=NOTHING)

    @property
    def odds(self) -> float:
        """By how much the score of no answer leads."""
        return self.null.score - self.best.score


def find(outputs: np.ndarray, windows: Windows, contexts: Sequence[str], n_best: int,
         longest: int) -> Iterator[Found]:
    """The best answers to each question, over all its windows.

    A span scores start[first token] + end[last token], both within one window's piece of the context. A token
    that several windows hold begins spans only in the one where it has the most context (`_spans`). No answer is
    the span of [CLS] alone, and scores the lowest of the windows' scores (Devlin 2018, section 4.3).

    Args:
      outputs: [tokens, 2].
      windows: of the questions.
      contexts: Q texts.
      n_best: K.
      longest: L.
    """
    outputs = outputs.astype(np.float64)
    for number, context in enumerate(contexts):
        characters = windows.characters[number]
        starts, spans = _spans(outputs, windows, windows.of(number), len(characters), longest)
        found: dict[str, Answer] = {}
        for place in _highest(spans.ravel(), 4 * n_best):  # some of them are the same words elsewhere
            token, more = divmod(int(place), spans.shape[1])
            begin, end = int(characters[token, 0]), _with_marks(context, int(characters[token + more, 1]))
            text = context[begin:end]
            found.setdefault(text, Answer(text, begin, end, float(spans[token, more]), float(starts[token])))
        cls = outputs[windows.offsets[windows.of(number)]]
        first, last = cls[cls.sum(1).argmin()].tolist()
        yield Found([*found.values()][:n_best], Answer("", None, None, first + last, first))


def _spans(outputs: np.ndarray, windows: Windows, numbers: range, count: int,
           longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Start scores [S] of a context's tokens, and [S, L] the scores of the spans that begin there; -inf: none.

    A token's context within a window is the smaller number of tokens on one side of it, plus a hundredth of the
    window's piece; of equal windows the first one counts. Source: Devlin 2018's reference code.
    """
    longest = min(longest, count)
    starts, spans, most = np.zeros(count), np.full((count, longest), -np.inf), np.full(count, -1.0)
    for window in numbers:
        inside = outputs[windows.piece(window)]
        size, begin = len(inside), windows.begin[window]
        if not size:
            continue
        column = np.arange(size)
        around = np.minimum(column, column[::-1]) + 0.01 * size
        here = np.flatnonzero(around > most[begin:begin + size])
        padded = np.append(inside[:, 1], np.full(longest - 1, -np.inf))
        ends = np.lib.stride_tricks.sliding_window_view(padded, longest)
        most[begin + here] = around[here]
        starts[begin + here] = inside[here, 0]
        spans[begin + here] = inside[here, :1] + ends[here]
    return starts, spans


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` highest finite scores, highest first, of equal ones the first first."""
    places = np.flatnonzero(scores > -np.inf)
    if len(places) > count:
        places = np.sort(places[np.argpartition(scores[places], -count)[-count:]])
    return places[np.argsort(-scores[places], kind="stable")]


def _with_marks(context: str, end: int) -> int:
    """Past the accents that follow as characters of their own: an uncased tokenizer leaves them out."""
    while end < len(context) and unicodedata.category(context[end]) == "Mn":
        end += 1
    return end


def mean_loss(outputs: np.ndarray, encoded: Encoded) -> float:
    """The mean over windows of `heads.span_cross_entropy`, computed on the ragged outputs of a whole split."""
    outputs, begins = outputs.astype(np.float64), encoded.offsets[:-1]
    highest = np.maximum.reduceat(outputs, begins)
    rest = np.exp(outputs - np.repeat(highest, encoded.lengths, axis=0))
    total = highest + np.log(np.add.reduceat(rest, begins))
    right = np.take_along_axis(outputs, begins[:, None] + encoded.labels, axis=0)
    return float((total - right).mean())


class SpanFamily(Family):
    """Extractive question answering.

    Where questions may have no answer, "" is said if the score of no answer leads that of the best one by more
    than a threshold: --null_threshold, or else the one with the highest F1 on dev.
    """

    per_token = True

    def encode(self, tokenizer: Any, examples: SpanExamples, name: str = "inputs") -> Windows:
        return encode(tokenizer, examples, self.config, f"tokenising {name}")

    def _found(self, outputs: np.ndarray, encoded: Windows, examples: SpanExamples) -> list[Found]:
        return list(find(outputs, encoded, examples.contexts, self.config.n_best, self.config.max_answer_length))

    def _threshold(self, dev: Mapping[str, float] | None) -> float:
        """No answer beyond it; infinite where every question has one."""
        if not self.task.unanswerable:
            return np.inf
        given = self.config.null_threshold
        return (dev or {}).get("null_threshold", 0.0) if given is None else given

    def scores(self, outputs: np.ndarray, encoded: Windows, examples: SpanExamples,
               dev: Mapping[str, float] | None = None) -> dict[str, float]:
        """`loss`, the mean over windows, and `span_metrics.summary`; `null_threshold` where the task has one."""
        found = self._found(outputs, encoded, examples)
        loss, golds = mean_loss(outputs, encoded), _golds(examples)
        if not self.task.unanswerable:
            return {"loss": loss, **span_metrics.evaluate([each.best.text for each in found], golds)}
        odds = np.array([each.odds for each in found])
        answered = span_metrics.judged([each.best.text for each in found], golds, True)
        silent = span_metrics.judged([""] * len(found), golds, True)
        threshold = self._threshold(dev)
        if dev is None and self.config.null_threshold is None:
            threshold = span_metrics.best_threshold(odds, answered[:, 1], silent[:, 1])
        each = np.where(odds[:, None] > threshold, silent, answered)
        answerable = np.array([len(accepted) > 0 for accepted in golds])
        return {"loss": loss, **span_metrics.summary(each, answerable), "null_threshold": threshold}

    def answers(self, outputs: np.ndarray, encoded: Windows, examples: SpanExamples,
                dev: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """{"answer", "start", "end", "score"}: context[start:end], and its probability among the n best.

        No answer: "" with start and end None, and the probability of that. A question that has an id in its file
        has it here too, as "id".
        """
        threshold, said = self._threshold(dev), []
        named = examples.named or [False] * len(examples)
        for name, own, found in zip(examples.ids, named, self._found(outputs, encoded, examples), strict=True):
            ranked = self._ranked(found)
            silent = found.odds > threshold or not found.answers
            answer, probability = next(pair for pair in ranked if silent == (pair[0].start is None))
            said.append({**({"id": name} if own else {}), "answer": answer.text, "start": answer.start,
                         "end": answer.end, "score": probability})
        return said

    def _ranked(self, found: Found) -> list[tuple[Answer, float]]:
        """The n best, no answer among them where that may be, each with its probability: softmax of the scores."""
        answers = [*found.answers, *([found.null] if self.task.unanswerable or not found.answers else [])]
        answers.sort(key=lambda answer: -answer.score)
        return list(zip(answers, softmax(np.array([answer.score for answer in answers])).tolist(), strict=True))

    def write(self, split: str, outputs: np.ndarray, encoded: Windows, examples: SpanExamples, folder: Path,
              dev: Mapping[str, float] | None = None) -> None:
        """predictions.json, nbest.json and, where questions may have no answer, null_odds.json; by question id.

        The names of other splits' files than test's begin with the split: dev.predictions.json.
        """
        threshold, found = self._threshold(dev), self._found(outputs, encoded, examples)
        files: dict[str, list[Any]] = {
            "predictions": ["" if each.odds > threshold else each.best.text for each in found],
            "nbest": [[{"text": answer.text, "probability": probability, "start_logit": answer.first,
                        "end_logit": answer.score - answer.first} for answer, probability in self._ranked(each)]
                      for each in found]}
        if self.task.unanswerable:
            files["null_odds"] = [each.odds for each in found]
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in files.items():
            content = dict(zip(examples.ids, values, strict=True))
            (folder / f"{'' if split == 'test' else f'{split}.'}{name}.json").write_text(
                json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")

    def score_file(self, path: Path, examples: SpanExamples) -> dict[str, float]:
        """Of {question id: answer} as JSON, "" where there is none; every question needs its prediction."""
        try:
            pairs = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=tuple)
        except ValueError as error:
            raise InputError(f"{path}: no JSON ({error})") from error
        if not isinstance(pairs, tuple):
            raise InputError(f"{path}: no predictions; expected an object, {{question id: answer}}")
        said: dict[str, str] = {}
        for name, text in pairs:
            if name in said:
                raise InputError(f"{path}: two predictions for {name}")
            if not isinstance(text, str):
                raise InputError(f"{path}: the prediction for {name} is {text!r:.60}; it must be a text")
            said[name] = text
        texts = in_order(path, said, examples.ids)
        return span_metrics.evaluate(texts, _golds(examples), self.task.unanswerable)

    def inputs(self, values: Sequence[Any]) -> SpanExamples:
        """From pairs (question, context), or dicts of the two."""
        pairs = []
        for i, value in enumerate(values):
            if isinstance(value, dict):
                value = value.get("question"), value.get("context")
            if not isinstance(value, tuple | list) or len(value) != 2 or \
                    not all(isinstance(part, str) and part.strip() for part in value):
                raise InputError(f"input {i}: {values[i]!r:.60} is no pair of texts, question and context")
            pairs.append(value)
        return SpanExamples([question for question, _ in pairs], [context for _, context in pairs], None,
                            list(map(str, range(len(pairs)))))


def _golds(examples: SpanExamples) -> list[list[str]]:
    return [[text for text, _ in accepted] for accepted in examples.answers]
