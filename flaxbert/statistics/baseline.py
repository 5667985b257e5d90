"""When a run has failed: it is no better than an answer that does not look at its input.

Letters: N examples, C classes, n runs. Source of the rule: Mosbach et al. 2021 (2006.04884), section 4.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from flaxbert import span_metrics, token_metrics
from flaxbert.metrics import METRICS
from flaxbert.tasks.base import ChoiceExamples, Examples, SpanExamples, Split, Task, TokenExamples
from flaxbert.tasks.conll import marks_spans

ROUNDING = 1e-9


def failed(scores: Sequence[float | None] | np.ndarray, baseline: float | None,
           lowest: bool = False) -> np.ndarray:
    """Which runs failed: the loss was not finite, or the score is no better than the baseline, to rounding.

    Args:
      scores: [n] of the task's main metric on dev after the last step; None or nan where the loss was not finite.
      baseline: from `majority_baseline`; None where it is not known, and only the loss can tell.
      lowest: the lowest score is the best one.

    Returns:
      [n] bool.
    """
    scores = np.array(scores, np.float64)
    if baseline is None:
        return ~np.isfinite(scores)
    ahead = baseline - scores if lowest else scores - baseline
    return ~(np.isfinite(scores) & (ahead > ROUNDING))


def majority_baseline(task: Task, examples: Split) -> float | None:
    """What the best answer that is the same for all examples scores, by the task's main metric.

    One class, or the right choice's number: the one that scores most; with F1 that may be a class that is not the
    most frequent. Several classes: the set that scores most. Numbers: their mean. Words: the most frequent label.
    Spans: no answer, which scores 0 where each question has one. Every correlation, Matthews' too, is 0.

    Args:
      task: with its labels.
      examples: dev, with labels.

    Returns:
      None for pre-training: what it is to beat, the unigram model, stands among its scores.
    """
    return max(CONSTANTS[task.kind](task, examples), default=None)


def _one_class(task: Task, examples: Examples | ChoiceExamples) -> Iterable[float]:
    labels = np.asarray(examples.labels)
    classes = len(task.labels) or int(labels.max()) + 1  # choices have no names
    metric = METRICS[task.main_metric]
    return [metric(np.full_like(labels, answer), labels, classes=classes) for answer in range(classes)]


def _set_of_classes(task: Task, examples: Examples) -> Iterable[float]:
    """Of all 2^C sets only those that can be best: the k most frequent classes, and rows that there are."""
    labels = np.asarray(examples.labels)
    rank = np.argsort(np.argsort(-labels.mean(axis=0), kind="stable"))
    most_frequent = rank < np.arange(len(rank) + 1)[:, None]
    metric = METRICS[task.main_metric]
    return [metric(np.broadcast_to(answer, labels.shape).astype(labels.dtype), labels)
            for answer in (*most_frequent, *np.unique(labels, axis=0))]


def _mean(task: Task, examples: Examples) -> Iterable[float]:
    labels = np.asarray(examples.labels)
    return [METRICS[task.main_metric](np.full_like(labels, labels.mean()), labels)]


def _one_label(task: Task, examples: TokenExamples) -> Iterable[float]:
    gold = [[task.labels[label] for label in labels] for labels in examples.labels]
    [(label, _)] = Counter(label for labels in gold for label in labels).most_common(1)
    said = [[label] * len(labels) for labels in gold]
    if marks_spans(task):
        return [token_metrics.span_scores(gold, said, ())[task.main_metric]]
    return [token_metrics.accuracy(gold, said)]


def _no_answer(task: Task, examples: SpanExamples) -> Iterable[float]:
    golds = [[text for text, _ in accepted] for accepted in examples.answers]
    return [span_metrics.evaluate([""] * len(golds), golds, task.unanswerable)[task.main_metric]]


# Kind of a task -> what constant answers score.
CONSTANTS: dict[str, Callable[[Task, Split], Iterable[float]]] = {
    "classification": _one_class, "choice": _one_class, "multi_label": _set_of_classes, "regression": _mean,
    "token": _one_label, "span": _no_answer, "pretraining": lambda task, examples: (),
}
