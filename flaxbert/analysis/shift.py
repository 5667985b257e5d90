"""How far tokens' vectors turned.

Letters: N tokens, n at a time, S = L + 1 states of a token, D width.
"""

import numpy as np

from flaxbert.analysis.base import Row
from flaxbert.analysis.states import naming
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
    sizes = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b)]
    zeros = sum(int((size == 0).sum()) for size in sizes)
    if zeros:
        raise InputError(f"{zeros} of {sizes[0].size} tokens are vectors of zeros, whose cosine is undefined")
    # |u - v|^2 / 2 of unit vectors: 1 - <u, v> would lose the digits of a small shift.
    return np.square(a / sizes[0] - b / sizes[1]).sum(axis=-1) / 2


class Sums:
    """Sums over tokens of the shift of each layer, and of its square.

    Args:
      layers: S.
      text: for messages.
    """

    def __init__(self, layers: int, text: str):
        self._text, self.count = text, 0
        self.total, self.squares = np.zeros(layers), np.zeros(layers)

    def take(self, numbers: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """See `states.Collector`."""
        self.count += len(numbers)
        for layer in range(len(self.total)):
            with naming("shift", self._text, layer):
                found = shift(before[:, layer], after[:, layer])
            self.total[layer] += found.sum()
            self.squares[layer] += np.square(found).sum()


def collector(subject: Subject, text: Text) -> Sums:
    """Of all tokens of a text."""
    return Sums(subject.pair.layers + 1, text.name)


def measure(subject: Subject) -> list[Row]:
    """{"text", "layer", "measure", "value", "spread", "tokens"}: mean and standard deviation over tokens."""
    rows = []
    for text, sums in subject.collected("shift").items():
        means = sums.total / sums.count
        spreads = np.sqrt(np.maximum(sums.squares / sums.count - means ** 2, 0))
        rows += [{"text": text, "layer": layer, "measure": "1 - cosine", "value": float(mean),
                  "spread": float(spread), "tokens": sums.count}
                 for layer, (mean, spread) in enumerate(zip(means, spreads, strict=True))]
    return rows
