"""What several runs say together: their probabilities, averaged.

Outputs are as families take them, [S, ...] of S runs in and [...] out: what reads those of one run reads these.

Letters: S runs, C outputs.
"""

from collections.abc import Callable

import numpy as np


def of_classes(outputs: np.ndarray) -> np.ndarray:
    """Logits [S, ..., C] of one of C -> log of the mean probabilities: log (1/S) sum_s softmax(z_s)."""
    z = outputs.astype(np.float64)
    z = z - z.max(-1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):  # a choice that is not there has probability 0
        return np.maximum(np.log(p.mean(0)), np.finfo(np.float32).min).astype(np.float32)


def of_switches(outputs: np.ndarray) -> np.ndarray:
    """Logits [S, ..., C] of C yes or no -> the logit of the mean probability of each."""
    log_yes, log_no = (-np.logaddexp(0, sign * outputs.astype(np.float64)) for sign in (-1, 1))
    yes, no = (np.logaddexp.reduce(each, axis=0) for each in (log_yes, log_no))
    return (yes - no).astype(np.float32)


def of_numbers(outputs: np.ndarray) -> np.ndarray:
    """Numbers, and the scores of spans' edges -> their mean."""
    return outputs.mean(0)


def of_chains(outputs: np.ndarray) -> np.ndarray:
    """What a CRF tells of each token, see `heads.crf.told` -> mean probabilities, the label with the highest, mean
    loss: the chains themselves cannot be averaged."""
    p, losses = outputs[..., :-2].mean(0), outputs[..., -1].mean(0)
    return np.concatenate([p, p.argmax(-1)[..., None], losses[..., None]], -1).astype(np.float32)


# Kind of task -> how.
ENSEMBLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "classification": of_classes, "choice": of_classes, "token": of_classes, "multi_label": of_switches,
    "regression": of_numbers, "span": of_numbers}
