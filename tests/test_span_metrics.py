"""SQuAD's scores against a second implementation, on strings chosen to be difficult, and the tuned threshold."""

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxbert import span_metrics
from flaxbert.span_metrics import best_threshold, evaluate, judge, normalised, summary

# --- the second implementation: character by character, words crossed off a list

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def words(text):
    kept = "".join(c for c in text.lower() if c not in PUNCTUATION)
    found, word = [], ""
    for piece in re.findall(r"\w+|\W", kept):  # an article counts where no letter touches it
        word = word + piece if not piece.isspace() and piece not in ("a", "an", "the") else word
        if piece.isspace() or piece in ("a", "an", "the"):
            found, word = [*found, word], ""
    return [word for word in [*found, word] if word]


def overlap(prediction, gold):
    left, shared = words(gold), 0
    for word in words(prediction):
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(words(prediction)), shared / len(words(gold))
    return 2 * precision * recall / (precision + recall)


def version_1(prediction, golds):
    return (float(any(words(prediction) == words(gold) for gold in golds)),
            max(overlap(prediction, gold) for gold in golds))


def version_2(prediction, golds):
    golds = [gold for gold in golds if words(gold)] or [""]

    def f1(gold):
        return float(words(prediction) == words(gold)) if not (words(prediction) and words(gold)) \
            else overlap(prediction, gold)
    return float(any(words(prediction) == words(gold) for gold in golds)), max(map(f1, golds))


PIECES = ["the", "a", "an", "The", "A", "theatre", "cat", "Cat", "cats", "dog", "é", "É", "ß", "İ", "don't",
          "dont", "42", "4.2", "$", ".", ",", "-", "_", "–", "“", " ", "  ", "\t", "\n", "\u00a0", "\u2009",
          "北京", "🙂", "e\u0301"]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
                  st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join), st.text(max_size=12))


def test_no_disagreement_over_thousands_of_strings():
    rng = random.Random(0)

    def text():
        return rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randrange(7)))
    seen = set()
    for _ in range(6000):
        prediction, golds = text(), [text() for _ in range(rng.randrange(4))]
        if golds:
            assert judge(prediction, golds) == pytest.approx(version_1(prediction, golds)), (prediction, golds)
        got = judge(prediction, golds, unanswerable=True)
        assert got == pytest.approx(version_2(prediction, golds)), (prediction, golds)
        seen.add(got)
    assert len(seen) > 10  # not all nothing


@settings(max_examples=300)
@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_any_strings_agree(prediction, golds):
    assert judge(prediction, golds, True) == pytest.approx(version_2(prediction, golds))
    if golds:
        assert judge(prediction, golds) == pytest.approx(version_1(prediction, golds))


@settings(max_examples=200)
@given(TEXTS, TEXTS, st.booleans())
def test_what_holds_for_all_texts(prediction, gold, unanswerable):
    exact, f1 = judge(prediction, [gold], unanswerable)
    assert exact in (0.0, 1.0)
    assert 0 <= f1 <= 1
    assert exact <= f1 or not normalised(gold)
    assert normalised(normalised(prediction)) == normalised(prediction)
    assert judge(gold, [prediction], False) == (exact, f1) or unanswerable  # it is symmetric
    assert judge(prediction, [gold, prediction], False)[0] == 1
    shouted = judge(f" The {prediction}!? ", [gold], unanswerable)
    assert shouted == (exact, f1)


@pytest.mark.parametrize(("prediction", "golds", "want"), [
    ("Denver Broncos", ["Denver Broncos"], (1, 1)), ("the Denver  broncos.", ["Denver Broncos"], (1, 1)),
    ("Broncos", ["Denver Broncos"], (0, 2 / 3)), ("Denver Denver", ["Denver"], (0, 2 / 3)),
    ("gold", ["silver", "the gold"], (1, 1)), ("Santa Clara, California", ["Santa Clara", "California"], (0, 0.8)),
    ("theatre", ["atre"], (0, 0)), ("1,234", ["1234"], (1, 1)), ("well-known", ["well known"], (0, 0)),
    ("", ["x"], (0, 0)),
])
def test_examples_by_hand(prediction, golds, want):
    assert judge(prediction, golds) == pytest.approx(want)
    assert judge(prediction, golds, True) == pytest.approx(want)


def test_where_the_versions_differ():
    assert judge("$", ["$"]) == (1, 0)  # nothing is left: equal, but without a word in common
    assert judge("$", ["$"], True) == (1, 1)
    assert judge("", ["."]) == (1, 0)
    assert judge("", [".", "x"], True) == (0, 0)  # "." is no answer there
    assert judge("", [], True) == (1, 1)
    assert judge("the", [], True) == (1, 1)
    assert judge("x", [], True) == (0, 0)


def test_a_split_and_its_parts():
    predictions, golds = ["gold", "silver", "", "tin"], [["gold"], ["silver coin"], [], []]
    got = evaluate(predictions, golds, unanswerable=True)
    assert got == pytest.approx({"f1": (1 + 2 / 3 + 1) / 4, "exact_match": 0.5, "has_answer_f1": (1 + 2 / 3) / 2,
                                 "has_answer_exact_match": 0.5, "no_answer_exact_match": 0.5})
    assert evaluate(predictions[:2], golds[:2]) == pytest.approx({"f1": 5 / 6, "exact_match": 0.5})
    assert set(evaluate(predictions[2:], golds[2:], True)) == {"f1", "exact_match", "no_answer_exact_match"}
    assert set(evaluate(predictions[:2], golds[:2], True)) == {"f1", "exact_match", "has_answer_f1",
                                                               "has_answer_exact_match"}
    assert summary(np.array([[0.0, 0.5], [1.0, 1.0]])) == {"f1": 0.75, "exact_match": 0.5}
    assert all(type(value) is float for value in got.values())


# --- the threshold

VALUES = st.tuples(st.integers(-4, 4).map(float), st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([0.0, 1.0]))


@settings(max_examples=300)
@given(st.lists(VALUES, min_size=1, max_size=12))
def test_no_threshold_is_better_than_the_best(rows):
    odds, answered, silent = np.array(rows).T

    def total(threshold):
        return np.where(odds <= threshold, answered, silent).sum()
    best = best_threshold(odds, answered, silent)
    assert math.isfinite(best)
    assert total(best) == pytest.approx(max(total(threshold) for threshold in [-99, *odds, 99]))
    assert np.abs(odds - best).min() >= 0.5  # rounding moves no question across it


def test_the_threshold_does_not_look_at_the_order_of_the_questions():
    rng = np.random.default_rng(0)
    odds, answered, silent = rng.normal(size=200), rng.random(200), rng.integers(0, 2, 200).astype(float)
    order = rng.permutation(200)
    assert best_threshold(odds, answered, silent) == best_threshold(odds[order], answered[order], silent[order])


def test_a_gold_answer_is_normalised_once():
    span_metrics.normalised.cache_clear()
    evaluate(["x"] * 50, [["The Gold"]] * 50)
    assert span_metrics.normalised.cache_info().misses == 2
