"""Linear centred kernel alignment (Kornblith 2019) with the unbiased estimator of HSIC (Song 2012).

With K = X X', L = Y Y' and K~, L~ the same with zeros on the diagonal, 1 a vector of ones:

    HSIC(X, Y) = [tr(K~ L~) + 1'K~1 1'L~1 / ((N - 1)(N - 2)) - 2 / (N - 2) 1'K~L~1] / (N (N - 3))
    CKA(X, Y)  = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))

All of it are sums over tokens of products of features (`Moments`), so that tokens may come in any portions and the
N x N matrices are never made: what comes out is that of all tokens, not a mean over batches (Nguyen 2021). HSIC
does not change when a constant is added to all vectors, so the first tokens' mean is taken off: fewer digits are
lost.

Letters: N tokens, n at a time, S = L + 1 states of a token, D and E widths.
"""

import numpy as np

from flaxbert.analysis.base import Row
from flaxbert.analysis.states import Values
from flaxbert.analysis.subject import Subject
from flaxbert.analysis.texts import Text
from flaxbert.errors import InputError

LEAST = 4  # tokens: the estimator divides by N - 3
CONSTANT = 1e-12  # a variance of so little of the mean square is rounding


class _Side:
    """Sums over the tokens of one representation x: x, |x|^2, |x|^4, x |x|^2, x x'."""

    def __init__(self, width: int):
        self.offset: np.ndarray | None = None
        self.sum, self.weighted = np.zeros(width), np.zeros(width)
        self.square = self.fourth = 0.0
        self.product = np.zeros((width, width))

    def centred(self, x: np.ndarray) -> np.ndarray:
        """x [n, D] in float64 without the offset, which is the mean of the first x."""
        x = np.asarray(x, np.float64)
        if self.offset is None:
            self.offset = x.mean(axis=0)
        return x - self.offset

    def add(self, x: np.ndarray, squares: np.ndarray) -> None:
        self.sum += x.sum(axis=0)
        self.weighted += squares @ x
        self.square += float(squares.sum())
        self.fourth += float(squares @ squares)
        self.product += x.T @ x


class Moments:
    """The sums that CKA needs of two representations of the same tokens.

    Args:
      widths: D and E.

    Attributes:
      count: N, how many tokens have been added.
    """

    def __init__(self, *widths: int):
        self._x, self._y = (_Side(width) for width in widths)
        self._product, self._fourth = np.zeros(widths), 0.0
        self._x_by_y, self._y_by_x = (np.zeros(width) for width in widths)
        self.count = 0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Takes in x [n, D] and y [n, E] of the same n tokens."""
        x, y = self._x.centred(x), self._y.centred(y)
        kx, ky = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
        self._x.add(x, kx)
        self._y.add(y, ky)
        self._product += x.T @ y
        self._fourth += float(kx @ ky)
        self._x_by_y += ky @ x
        self._y_by_x += kx @ y
        self.count += len(x)

    def cka(self, unbiased: bool = True) -> float:
        """The alignment of all tokens that were added.

        Args:
          unbiased: False: |X'Y|^2 / (|X'X| |Y'Y|) of centred X and Y (Kornblith 2019), which is too high where N
            is not far more than the widths.

        Raises:
          InputError: fewer than 4 tokens (biased: 2), or one representation is the same for all.
        """
        least = LEAST if unbiased else 2
        if self.count < least:
            raise InputError(f"{self.count} tokens are too few, {least} are needed; give more text")
        for side in (self._x, self._y):
            variance = side.square / self.count - np.square(side.sum / self.count).sum()
            if variance <= CONSTANT * (np.square(side.offset).sum() + side.square / self.count):
                raise InputError(f"all {self.count} tokens have the same vector, so the alignment is undefined")
        covariance = self._unbiased if unbiased else self._biased
        x, y = self._x, self._y
        across = covariance(x, y, self._product, self._fourth, self._x_by_y, self._y_by_x)
        own = [covariance(side, side, side.product, side.fourth, side.weighted, side.weighted) for side in (x, y)]
        if min(own) <= 0:  # all that varies is one token, say
            raise InputError(f"{self.count} tokens vary too little for an unbiased estimate; give more text")
        return float(across / np.sqrt(own[0] * own[1]))

    def _biased(self, x: _Side, y: _Side, product: np.ndarray, *_: object) -> float:
        return float(np.square(product - np.outer(x.sum, y.sum) / self.count).sum())

    def _unbiased(self, x: _Side, y: _Side, product: np.ndarray, fourth: float, x_by_y: np.ndarray,
                  y_by_x: np.ndarray) -> float:
        """N (N - 3) HSIC, from sums over tokens: product x y', fourth |x|^2 |y|^2, x |y|^2, y |x|^2."""
        n = self.count
        trace = np.square(product).sum() - fourth
        totals = (x.sum @ x.sum - x.square) * (y.sum @ y.sum - y.square)
        rows = x.sum @ product @ y.sum - x_by_y @ x.sum - y_by_x @ y.sum + fourth
        return float(trace + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows)


def cka(a: np.ndarray, b: np.ndarray, unbiased: bool = True) -> float:
    """Linear CKA of two representations of the same tokens: 1 where b is a turned, mirrored and scaled.

    Args:
      a: [N, D].
      b: [N, E].
      unbiased: as of `Moments.cka`.

    Raises:
      InputError: as `Moments.cka`.
    """
    moments = Moments(a.shape[1], b.shape[1])
    moments.add(a, b)
    return moments.cka(unbiased)


class Layers:
    """The moments of each layer.

    Args:
      layers: S.
      width: D.
    """

    def __init__(self, layers: int, width: int):
        self.moments = [Moments(width, width) for _ in range(layers)]

    def take(self, numbers: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """See `states.Collector`."""
        for layer, moments in enumerate(self.moments):
            moments.add(before[:, layer], after[:, layer])


def collector(subject: Subject, text: Text) -> Layers:
    """Of all tokens of a text."""
    return Layers(subject.pair.layers + 1, subject.pair.shape.hidden_size)


def measure(subject: Subject) -> list[Row]:
    """{"text", "layer", "measure", "value", "tokens"}: of all tokens of a text; None where a layer has none."""
    values = Values()
    rows = [{"text": text, "layer": layer, "measure": "unbiased linear cka",
             "value": values.of("cka", text, layer, moments.cka), "tokens": moments.count}
            for text, layers in subject.collected("cka").items() for layer, moments in enumerate(layers.moments)]
    values.tell()
    return rows
