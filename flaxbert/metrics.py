"""What a model is judged by. All are fractions under the names that result.json uses.

Letters: N examples, C classes. Predictions and labels of a metric are [N] class numbers, [N] scores, or
[N, C] zeros and ones for multi-label.
"""

from collections.abc import Callable

import numpy as np

from flaxbert.errors import InputError, one_of


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(x) / sum exp(x) over the last axis."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def accuracy(predictions: np.ndarray, labels: np.ndarray, classes: int = 2) -> float:
    """Share of right decisions; multi-label: over all N * C of them."""
    return float(np.mean(predictions == labels))


def exact_match(predictions: np.ndarray, labels: np.ndarray, classes: int = 2) -> float:
    """Share of examples that are right in full: all C decisions for multi-label."""
    right = predictions == labels
    return float(np.mean(right.all(axis=1) if right.ndim == 2 else right))


def _counted(name: str) -> Callable[..., float]:
    """precision, recall or F1: of class 1 where there are two, macro where more, micro for multi-label."""

    def metric(predictions: np.ndarray, labels: np.ndarray, classes: int = 2) -> float:
        import sklearn.metrics
        average = "micro" if labels.ndim == 2 else "binary" if classes <= 2 else "macro"
        score = getattr(sklearn.metrics, f"{name}_score")
        return float(score(labels.astype(int), predictions.astype(int), average=average, zero_division=0))

    metric.__name__ = name
    return metric


def _constant(values: np.ndarray) -> bool:
    """No correlation can be had from it: fewer than 2 values, all equal to rounding, or not finite."""
    values = np.asarray(values, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return True
    return float(np.ptp(values)) <= 1e-12 * float(np.abs(values).max())


def mcc(predictions: np.ndarray, labels: np.ndarray, classes: int = 2) -> float:
    """Matthews' correlation; 0 where predictions or labels are all the same."""
    if _constant(predictions) or _constant(labels):
        return 0.0
    from sklearn.metrics import matthews_corrcoef
    return float(matthews_corrcoef(labels, predictions))


def _correlation(name: str) -> Callable[..., float]:
    """pearson or spearman; 0 where one side is constant, is not finite, or has fewer than 2 values."""

    def metric(predictions: np.ndarray, labels: np.ndarray, classes: int = 1) -> float:
        if _constant(predictions) or _constant(labels):
            return 0.0
        import scipy.stats
        function = getattr(scipy.stats, f"{name}r")
        return float(function(np.asarray(predictions, np.float64), np.asarray(labels, np.float64)).statistic)

    metric.__name__ = name
    return metric


METRICS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy, "f1": _counted("f1"), "mcc": mcc, "pearson": _correlation("pearson"),
    "spearman": _correlation("spearman"), "precision": _counted("precision"), "recall": _counted("recall"),
    "exact_match": exact_match,
}

LOWER_IS_BETTER = ("perplexity",)

# From the head's output [N, C] to predictions. Multi-label: sigmoid above 0.5 is a logit above 0.
PREDICTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "classification": lambda logits: logits.argmax(axis=-1).astype(np.int32),
    "regression": lambda logits: logits[:, 0].astype(np.float32),
    "multi_label": lambda logits: (logits > 0).astype(np.int32),
}


def predictions(kind: str, logits: np.ndarray) -> np.ndarray:
    """Predictions from logits.

    Args:
      kind: a task's kind.
      logits: [N, C] float32; C = 1 for regression.

    Returns:
      [N] class numbers or scores, or [N, C] zeros and ones.
    """
    return PREDICTIONS[one_of(kind, tuple(PREDICTIONS), "kind")](np.asarray(logits))


def evaluate(kind: str, metric_names: tuple[str, ...], logits: np.ndarray,
             labels: np.ndarray | None) -> dict[str, float]:
    """Metrics of a whole split at once (never the mean of batches).

    Args:
      kind: a task's kind.
      metric_names: keys of METRICS.
      logits: [N, C] float32; C = 1 for regression.
      labels: [N], or [N, C] for multi-label.

    Raises:
      InputError: no labels, no examples, or an unknown metric.
    """
    if labels is None:
        raise InputError(f"no labels: {', '.join(metric_names)} cannot be computed on this split, only predicted")
    if len(logits) != len(labels):
        raise InputError(f"{len(logits)} predictions for {len(labels)} labels")
    if not len(labels):
        raise InputError(f"no examples: {', '.join(metric_names)} need at least one")
    logits, labels = np.asarray(logits), np.asarray(labels)
    predicted = predictions(kind, logits)
    return {name: METRICS[one_of(name, tuple(METRICS), "metric")](predicted, labels, classes=logits.shape[-1])
            for name in metric_names}
