"""How far tokens' vectors turned.

Letters: N tokens, n at a time, S = L + 1 states of a token, D width.
"""

import numpy as np

from flaxbert.analysis.base import Row
from flaxbert.analysis.states import Values
from flaxbert.analysis.subject import Subject
from flaxbert.analysis.texts import Text
from flaxbert.errors import InputError


def shift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cos(a, b) of each token: 0 the same direction, 1 at right angles, 2 the opposite.

    Args:
      a, b: [..., D] vectors of the same tokens.

    Returns:
      [...] float64.

    Raises:
      InputError: a vector of zeros, which has no direction.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _refuse(_without_direction(a, b))
    sizes = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b)]
    # |u - v|^2 / 2 of unit vectors: 1 - <u, v> would lose the digits of a small shift.
    return np.square(a / sizes[0] - b / sizes[1]).sum(axis=-1) / 2


def _without_direction(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[...] of which vectors one is zero in either of [..., D]."""
    return ~(a.any(axis=-1) & b.any(axis=-1))


def _refuse(zeros: np.ndarray) -> None:
    if zeros.any():
        raise InputError(f"{zeros.sum()} of {zeros.size} tokens are vectors of zeros, whose cosine is undefined")


class Sums:
    """Sums over tokens of the shift of each layer, and of its square.

    Args:
      layers: S.
    """

    def __init__(self, layers: int):
        self._total, self._squares = np.zeros(layers), np.zeros(layers)
        self._zeros: list[np.ndarray] = []  # [n, S] of each portion

    def take(self, numbers: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """See `states.Collector`."""
        zeros = _without_direction(before, after)
        self._zeros.append(zeros)
        for layer, none in enumerate(zeros.T):
            found = shift(before[~none, layer], after[~none, layer])
            self._total[layer] += found.sum()
            self._squares[layer] += np.square(found).sum()

    @property
    def count(self) -> int:
        """Tokens."""
        return sum(map(len, self._zeros))

    def moments(self, layer: int) -> tuple[float, float]:
        """Mean and standard deviation of a layer; raises `InputError` as `shift`."""
        _refuse(np.concatenate(self._zeros)[:, layer])
        mean = self._total[layer] / self.count
        return float(mean), float(max(self._squares[layer] / self.count - mean ** 2, 0) ** 0.5)


def collector(subject: Subject, text: Text) -> Sums:
    """Of all tokens of a text."""
    return Sums(subject.pair.layers + 1)


def measure(subject: Subject) -> list[Row]:
    """{"text", "layer", "measure", "value", "spread", "tokens"}: mean and standard deviation over tokens.

    Both are None in a layer where a vector has no direction.
    """
    rows, values = [], Values()
    for text, sums in subject.collected("shift").items():
        for layer in range(subject.pair.layers + 1):
            mean, spread = values.of("shift", text, layer, sums.moments, layer) or (None, None)
            rows.append({"text": text, "layer": layer, "measure": "1 - cosine", "value": mean, "spread": spread,
                         "tokens": sums.count})
    values.tell()
    return rows
