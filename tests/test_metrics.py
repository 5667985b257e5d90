"""Metrics against closed forms, and on the degenerate inputs that a diverged or lazy model produces."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxbert import metrics
from flaxbert.errors import InputError

BITS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def one_hot(predictions, classes):
    return np.eye(classes, dtype=np.float32)[predictions]


@given(BITS)
@settings(max_examples=50, deadline=None)
def test_two_classes_match_the_closed_forms(pairs):
    predicted, labels = np.array(pairs).T
    tp, fp = int((predicted & labels).sum()), int((predicted & ~labels & 1).sum())
    fn, tn = int((~predicted & labels & 1).sum()), int((~predicted & ~labels & 1).sum())
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    expected = {
        "accuracy": (tp + tn) / len(pairs),
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp else 0.0,
        "mcc": (tp * tn - fp * fn) / math.sqrt(product) if product else 0.0,
        "exact_match": (tp + tn) / len(pairs),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.evaluate("classification", tuple(expected), one_hot(predicted, 2), labels)
    assert found == pytest.approx(expected, abs=1e-12)
    assert all(type(value) is float for value in found.values())


def test_more_classes_are_averaged_class_by_class():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    found = metrics.evaluate("classification", ("f1", "precision", "recall"), one_hot(predicted, 3), labels)
    assert found["precision"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert found["recall"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_three_classes_are_averaged_even_where_only_two_occur():
    labels = np.array([0, 0, 1, 1])
    predicted = np.array([0, 0, 0, 1])
    found = metrics.evaluate("classification", ("f1",), one_hot(predicted, 3), labels)
    assert found["f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_multi_label_counts_every_decision():
    labels = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], np.float32)
    logits = np.array([[2.0, -1.0, -0.1], [-3.0, -1.0, 0.0], [0.5, 4.0, 0.2]], np.float32)
    names = ("f1", "precision", "recall", "exact_match", "accuracy")
    found = metrics.evaluate("multi_label", names, logits, labels)
    assert found == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "exact_match": 1 / 3, "accuracy": 7 / 9})


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_correlations_match_the_closed_forms(pairs):
    x, y = np.array(pairs, np.float64).T

    def pearson(a, b):
        a, b = a - a.mean(), b - b.mean()
        return float(a @ b / math.sqrt((a @ a) * (b @ b))) if (a @ a) * (b @ b) else 0.0

    def ranks(a):
        return np.array([(a < value).sum() + ((a == value).sum() + 1) / 2 for value in a])

    found = metrics.evaluate("regression", ("pearson", "spearman"), x[:, None].astype(np.float32), y)
    assert found == pytest.approx({"pearson": pearson(x, y), "spearman": pearson(ranks(x), ranks(y))}, abs=1e-9)


@pytest.mark.parametrize(("logits", "labels"), [
    ([[3.3], [3.3], [3.3]], [1, 2, 3]),  # constant predictions
    ([[1.0], [2.0], [3.0]], [2, 2, 2]),  # constant labels
    ([[1.0]], [1]),
    ([[float("nan")], [1.0]], [1, 2]),
    ([[float("inf")], [1.0]], [1, 2]),
])
def test_correlation_that_does_not_exist_is_zero_without_a_warning(logits, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.evaluate("regression", ("pearson", "spearman"), np.array(logits, np.float32),
                                 np.array(labels, np.float32))
    assert found == {"pearson": 0.0, "spearman": 0.0}


@pytest.mark.parametrize(("labels", "count", "names", "message"), [
    (None, 2, ("f1",), "no labels: f1"),
    (np.zeros(0), 0, ("f1",), "no examples"),
    (np.zeros(3), 2, ("f1",), "2 predictions for 3 labels"),
    (np.zeros(2), 2, ("bleu",), "valid: accuracy, f1"),
])
def test_what_cannot_be_judged_is_said(labels, count, names, message):
    with pytest.raises(InputError, match=message):
        metrics.evaluate("classification", names, np.zeros((count, 2), np.float32), labels)


def test_predictions_by_kind():
    logits = np.array([[0.1, 0.7], [2.0, -1.0]], np.float32)
    assert metrics.predictions("classification", logits).tolist() == [1, 0]
    assert metrics.predictions("multi_label", logits).tolist() == [[1, 1], [1, 0]]
    assert metrics.predictions("regression", logits[:, :1]).tolist() == pytest.approx([0.1, 2.0])
