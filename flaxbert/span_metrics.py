"""How good answers in a text's own words are: exact match and word F1, by SQuAD's definition.

Answers are compared without case, ASCII punctuation, articles and spacing. A question that cannot be answered has
no gold answers, and its prediction should be "".

Letters: N questions. Source: Rajpurkar et al. 2016 (1606.05250), section 6.1; 2018 (1806.03822), section 5.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


@lru_cache(maxsize=2**17)  # the gold answers of a split are met at each evaluation
def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, one space between words."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def f1(prediction: str, gold: str) -> float:
    """2 P R / (P + R) of the words that both normalised texts have, counted as often as both do; 0 without any."""
    ours, theirs = normalised(prediction).split(), normalised(gold).split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def judge(prediction: str, golds: Sequence[str], unanswerable: bool = False) -> tuple[float, float]:
    """(exact match, F1) of one prediction, each the best over the gold answers.

    Args:
      prediction: "" says that there is no answer.
      golds: at least one, or none where there is no answer.
      unanswerable: by the rules of version 2: gold answers of which normalising leaves nothing are dropped, and
        no answer where there is none scores 1. Version 1 gives such a pair of empty texts an F1 of 0.
    """
    if unanswerable:
        golds = [gold for gold in golds if normalised(gold)]
        if not golds:
            return (1.0, 1.0) if not normalised(prediction) else (0.0, 0.0)
    exact = any(normalised(prediction) == normalised(gold) for gold in golds)
    return float(exact), max(f1(prediction, gold) for gold in golds)


def judged(predictions: Sequence[str], golds: Sequence[Sequence[str]], unanswerable: bool = False) -> np.ndarray:
    """[N, 2] exact match and F1 of each question; arguments as of `judge`."""
    return np.array([judge(*pair, unanswerable) for pair in zip(predictions, golds, strict=True)])


def summary(each: np.ndarray, answerable: np.ndarray | None = None) -> dict[str, float]:
    """Means over the questions.

    Args:
      each: [N, 2] from `judged`.
      answerable: [N] bool, for version 2: the means over those with and without an answer too, where there are
        any. Without an answer F1 is the exact match.

    Returns:
      f1, exact_match; of version 2 also has_answer_f1, has_answer_exact_match, no_answer_exact_match.
    """
    def means(prefix: str, part: np.ndarray) -> dict[str, float]:
        return {f"{prefix}f1": float(part[:, 1].mean()), f"{prefix}exact_match": float(part[:, 0].mean())}
    found = means("", each)
    if answerable is not None and answerable.any():
        found |= means("has_answer_", each[answerable])
    if answerable is not None and not answerable.all():
        found["no_answer_exact_match"] = float(each[~answerable, 0].mean())
    return found


def evaluate(predictions: Sequence[str], golds: Sequence[Sequence[str]],
             unanswerable: bool = False) -> dict[str, float]:
    """The scores of a whole split; arguments as of `judge`, results as of `summary`."""
    answerable = np.array([len(accepted) > 0 for accepted in golds])
    return summary(judged(predictions, golds, unanswerable), answerable if unanswerable else None)


def best_threshold(odds: np.ndarray, answered: np.ndarray, silent: np.ndarray) -> float:
    """The t that makes sum(answered[odds <= t]) + sum(silent[odds > t]) the largest: exactly, in one sweep.

    Args:
      odds: [N] by how much the score of no answer leads.
      answered, silent: [N] what each question scores with its answer, and without one.

    Returns:
      A number halfway between two of the odds, so that rounding changes no answer; the lowest of equally good
      ones. Before the first of them (after the last), where nothing (everything) is best answered.
    """
    order = np.argsort(odds)
    odds = odds[order]
    gains = np.concatenate([[0.0], np.cumsum((answered - silent)[order])])  # of answering the first 0, 1, ... N
    possible = np.concatenate([[True], odds[1:] > odds[:-1], [True]])
    answers = int(np.where(possible, gains, -np.inf).argmax())
    edges = np.concatenate([[odds[0] - 2], odds, [odds[-1] + 2]])
    return float((edges[answers] + edges[answers + 1]) / 2)
