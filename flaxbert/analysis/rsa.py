"""Representational similarity analysis: whether tokens that were alike before fine-tuning still are.

The cosine similarities of all pairs of sampled tokens, in one model and in the other, are correlated (Merchant
2020). Two tokens of one word are alike in any model, whatever it makes of their contexts, and such pairs may carry
the correlation. So there is a second, anchored one of our own: each token is compared with anchors, which are
common words in many contexts, and counts by which of a word's anchors it is nearer to. What word the anchor is,
and how near the token is to that word in general, drops out.

Letters: N tokens, M anchors, n tokens at a time, S = L + 1 states of a token, D and E widths.
"""

from collections.abc import Callable

import numpy as np

from flaxbert.analysis.base import Row
from flaxbert.analysis.states import Sample, Values
from flaxbert.analysis.subject import Subject
from flaxbert.analysis.texts import Text
from flaxbert.errors import InputError, note

LEAST = 3  # tokens, which are three pairs: two lie on a line whatever they are
CONSTANT = 1e-20  # a variance of cosines that is rounding
ROWS = 512  # of a matrix of similarities that are computed at a time
WORDS, CONTEXTS = 20, 10  # anchors: so many of the commonest words, each in so many contexts


class Correlation:
    """Pearson's r of pairs of numbers that come in portions, in float64."""

    def __init__(self):
        self._offset: np.ndarray | None = None
        self._count, self._sum, self._products = 0, np.zeros(2), np.zeros((2, 2))

    def add(self, u: np.ndarray, v: np.ndarray) -> None:
        """Takes in u and v, of one shape."""
        both = np.stack([u.ravel(), v.ravel()]).astype(np.float64)
        if not both.size:
            return
        if self._offset is None:  # off all of them, so that squares lose few digits
            self._offset = both.mean(axis=1, keepdims=True)
        both -= self._offset
        self._count += both.shape[1]
        self._sum += both.sum(axis=1)
        self._products += both @ both.T

    @property
    def value(self) -> float:
        """r, or NaN where u or v is constant."""
        mean = self._sum / self._count
        covariance = self._products / self._count - np.outer(mean, mean)
        variances = np.diag(covariance)
        if (variances <= CONSTANT).any():
            return float("nan")
        return float(np.clip(covariance[0, 1] / np.sqrt(variances.prod()), -1, 1))


def _units(x: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length one, float64."""
    x = np.asarray(x, np.float64)
    sizes = np.linalg.norm(x, axis=1, keepdims=True)
    if not sizes.all():
        zeros = int((sizes == 0).sum())
        raise InputError(f"{zeros} of {len(x)} tokens are vectors of zeros, whose cosine is undefined")
    return x / sizes


def _correlated(blocks: Callable[[int], tuple[np.ndarray, np.ndarray]], count: int) -> float:
    """r of the similarities that `blocks` makes for ROWS tokens from a number on."""
    if count < LEAST:
        raise InputError(f"{count} tokens are too few, {LEAST} are needed; give more text, or more --tokens")
    found = Correlation()
    for begin in range(0, count, ROWS):
        found.add(*blocks(begin))
    if np.isnan(found.value):
        raise InputError(f"{count} tokens are all equally alike, so the correlation is undefined")
    return found.value


def rsa(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of the upper triangles of the two matrices of cosines, without the diagonals.

    1 where b is a turned, mirrored and scaled, token by token too.

    Args:
      a: [N, D].
      b: [N, E], of the same tokens.

    Raises:
      InputError: fewer than 3 tokens, a vector of zeros, or all cosines are the same.
    """
    units = [_units(x) for x in (a, b)]

    def block(begin: int) -> tuple[np.ndarray, np.ndarray]:
        cosines = [x[begin:begin + ROWS] @ x[begin:].T for x in units]
        above = np.triu_indices(len(cosines[0]), 1, cosines[0].shape[1])
        return cosines[0][above], cosines[1][above]
    return _correlated(block, len(units[0]))


def anchored_rsa(a: np.ndarray, b: np.ndarray, anchors_a: np.ndarray, anchors_b: np.ndarray,
                 words: np.ndarray) -> float:
    """Pearson's r of cos(token, anchor) less its mean over the anchors of the same word.

    Args:
      a: [N, D] tokens, none of them an anchor.
      b: [N, E], of the same tokens.
      anchors_a: [M, D].
      anchors_b: [M, E], of the same anchors.
      words: [M] what word an anchor is; of each two at least.

    Raises:
      InputError: as `rsa`.
    """
    units = [(_units(x), _units(anchors)) for x, anchors in ((a, anchors_a), (b, anchors_b))]
    same = (words[:, None] == words[None]).astype(np.float64)
    residual = np.eye(len(words)) - same / same.sum(axis=1)  # takes a word's mean off

    def block(begin: int) -> tuple[np.ndarray, np.ndarray]:
        first, second = (x[begin:begin + ROWS] @ (anchors.T @ residual) for x, anchors in units)
        return first, second
    return _correlated(block, len(a))


def anchors(tokens: np.ndarray, ordinary: np.ndarray, seed: int) -> np.ndarray:
    """Numbers of the anchors in a text: CONTEXTS occurrences of each of its WORDS commonest words.

    Args:
      tokens: the ids of all tokens of the text.
      ordinary: [V] bool, which ids may be anchors.
      seed: draws the occurrences.

    Returns:
      [M] ascending; none where no word occurs CONTEXTS times.
    """
    counts = np.bincount(tokens, minlength=len(ordinary)) * ordinary
    random = np.random.default_rng([seed, 2])
    chosen = [random.choice(np.flatnonzero(tokens == word), CONTEXTS, replace=False)
              for word in np.argsort(-counts, kind="stable")[:WORDS] if counts[word] >= CONTEXTS]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


class Similarities(Sample):
    """The states of the sampled tokens and of the anchors.

    Args:
      text: they are of.
      tokens: numbers of the sampled ones.
      anchored: numbers of the anchors.
      shape: S and D.
    """

    def __init__(self, text: Text, tokens: np.ndarray, anchored: np.ndarray, shape: tuple[int, int]):
        super().__init__(np.union1d(tokens, anchored), shape)
        self.is_anchor, self.is_token = np.isin(self.numbers, anchored), np.isin(self.numbers, tokens)
        self.words = text.encoded.tokens[anchored]


def collector(subject: Subject, text: Text) -> Similarities:
    """Of --tokens tokens of a text, and of its anchors."""
    pair, settings = subject.pair, subject.settings
    vocabulary = pair.tokenizer.convert_ids_to_tokens(list(range(pair.shape.vocab_size)))
    ordinary = np.array([bool(word) and word.isalpha() for word in vocabulary])
    anchored = anchors(text.encoded.tokens, ordinary, settings.seed)
    if not len(anchored):
        note(f"rsa, {text.name} text: no word occurs {CONTEXTS} times, so there are no anchors; give more text")
    return Similarities(text, text.sample(settings.tokens, settings.seed), anchored,
                        (pair.layers + 1, pair.shape.hidden_size))


def measure(subject: Subject) -> list[Row]:
    """{"text", "layer", "measure", "value", "tokens"}: rsa, and where there are anchors anchored rsa.

    The value is None in a layer where it is undefined.
    """
    rows, values = [], Values()
    for text, found in subject.collected("rsa").items():
        chosen, anchor = found.is_token, found.is_anchor
        others = chosen & ~anchor
        for layer, (before, after) in enumerate(zip(found.before, found.after, strict=True)):
            rows.append({"text": text, "layer": layer, "measure": "rsa", "tokens": int(chosen.sum()),
                         "value": values.of("rsa", text, layer, rsa, before[chosen], after[chosen])})
            if others.sum() >= LEAST and anchor.any():
                rows.append({"text": text, "layer": layer, "measure": "anchored rsa",
                             "tokens": int(others.sum()), "anchors": int(anchor.sum()),
                             "value": values.of("anchored rsa", text, layer, anchored_rsa, before[others],
                                                after[others], before[anchor], after[anchor], found.words)})
    values.tell()
    return rows
