"""RSA, CKA and shift: closed forms, independent NumPy, tokens in portions, and what is undefined."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist
from small import refused

from flaxbert.analysis import rsa as module
from flaxbert.analysis.cka import Moments, cka
from flaxbert.analysis.rsa import Correlation, anchored_rsa, anchors, rsa
from flaxbert.analysis.shift import Sums, shift
from flaxbert.analysis.states import Sample

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers():
    """Whatever tests ran before."""
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def turned(x):
    """x times a random orthogonal matrix."""
    return x @ np.linalg.qr(normal(x.shape[1], x.shape[1]))[0]


# --- RSA

def test_rsa_does_not_see_turns_mirrors_and_lengths():
    a = normal(40, 8)
    assert rsa(a, -3 * turned(a) * RNG.uniform(0.5, 2, (40, 1))) == pytest.approx(1, abs=1e-6)
    assert rsa(a, a + 5) < 0.9  # a common direction is seen: cosines are not centred


def test_rsa_is_pearson_of_the_upper_triangles(monkeypatch):
    a, b = normal(50, 8), normal(50, 12)
    expected = stats.pearsonr(pdist(a, "cosine"), pdist(b, "cosine"))[0]
    assert rsa(a, b) == pytest.approx(expected, abs=1e-9)
    monkeypatch.setattr(module, "ROWS", 7)
    assert rsa(a, b) == pytest.approx(expected, abs=1e-9)
    assert rsa(b, a) == pytest.approx(expected, abs=1e-9)


def test_rsa_of_unrelated_tokens_is_about_zero():
    assert abs(rsa(normal(300, 32), normal(300, 32))) < 0.02


def test_a_correlation_of_portions_is_that_of_the_whole():
    u, v = 1e3 + normal(3, 400), normal(3, 400)
    found = Correlation()
    for portion in np.array_split(np.arange(400), 9):
        found.add(u[:, portion], v[:, portion])
    assert found.value == pytest.approx(stats.pearsonr(u.ravel(), v.ravel())[0], abs=1e-6)


def test_anchored_rsa_takes_the_words_out():
    words = np.repeat(np.arange(12), 40)
    meaning = 3 * normal(12, 16)[words]  # what both models agree on; all else is noise
    a, b = meaning + normal(480, 16), meaning + normal(480, 16)
    anchor = np.arange(480) % 40 < 15
    each = [x[~anchor] for x in (a, b)], [x[anchor] for x in (a, b)]
    assert rsa(*each[0]) > 0.8
    assert abs(anchored_rsa(*each[0], *each[1], words[anchor])) < 0.1
    assert anchored_rsa(a[~anchor], 2 * a[~anchor], a[anchor], 3 * a[anchor], words[anchor]) == pytest.approx(1)


def test_anchored_rsa_by_hand(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 7)
    a, b, anchors_a, anchors_b = normal(20, 6), normal(20, 6), normal(5, 6), normal(5, 6)
    words = np.array([1, 0, 1, 0, 0])

    def residuals(x, y):
        cosines = np.array([[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in y] for u in x])
        for word in (0, 1):
            cosines[:, words == word] -= cosines[:, words == word].mean(axis=1, keepdims=True)
        return cosines.ravel()
    expected = stats.pearsonr(residuals(a, anchors_a), residuals(b, anchors_b))[0]
    assert anchored_rsa(a, b, anchors_a, anchors_b, words) == pytest.approx(expected, abs=1e-6)


def test_anchors_are_common_words_in_many_contexts(monkeypatch):
    monkeypatch.setattr(module, "WORDS", 2)
    tokens = np.array([1] * 50 + [2] * 9 + [3] * 12 + [4] * 11 + [5] * 10)
    ordinary = np.array([True, False, True, True, True, True])
    found = anchors(tokens, ordinary, seed=0)
    assert np.bincount(tokens[found]).tolist() == [0, 0, 0, 10, 10]  # 1 is not ordinary, of 2 there are too few
    assert (np.diff(found) > 0).all()
    assert np.array_equal(found, anchors(tokens, ordinary, seed=0))
    assert not np.array_equal(found, anchors(tokens, ordinary, seed=1))
    assert not len(anchors(tokens[50:59], ordinary, seed=0))


@pytest.mark.parametrize(("a", "says"), [
    (normal(2, 4), "2 tokens are too few, 3 are needed"),
    (np.ones((5, 4)), "5 tokens are all equally alike, so the correlation is undefined"),
    (np.eye(4), "4 tokens are all equally alike"),
    (np.eye(5)[:, :4], "1 of 5 tokens are vectors of zeros"),
])
def test_rsa_says_what_is_undefined(a, says):
    assert says in refused(rsa, a, normal(len(a), 4))
    assert says in refused(rsa, normal(len(a), 4), a)


# --- CKA

def test_cka_does_not_see_turns_shifts_and_scale():
    x = normal(30, 8)
    for unbiased in (True, False):
        assert cka(x, x, unbiased) == pytest.approx(1, abs=1e-9)
        assert cka(x, 0.1 * turned(x) + 7, unbiased) == pytest.approx(1, abs=1e-5)


def hsic(k: np.ndarray, l: np.ndarray) -> float:
    """The unbiased estimator from Gram matrices, as cka.py writes it down (Song 2012, equation 5).

    Args:
      k, l: [N, N], N of 4 at least.
    """
    count = len(k)
    k, l = (np.asarray(x, np.float64) * (1 - np.eye(count)) for x in (k, l))
    rows = k.sum(axis=0) @ l.sum(axis=1)
    return float(((k * l).sum() + k.sum() * l.sum() / ((count - 1) * (count - 2)) - 2 / (count - 2) * rows)
                 / (count * (count - 3)))


def test_cka_agrees_with_its_definitions():
    x, y = normal(25, 6) + 2, normal(25, 9)
    y[:, :6] += x
    k, l = x @ x.T, y @ y.T
    assert cka(x, y) == pytest.approx(hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l)), abs=1e-6)
    centred = [z - z.mean(axis=0) for z in (x, y)]
    product, *own = (np.linalg.norm(u.T @ v) for u, v in (centred, centred[:1] * 2, centred[1:] * 2))
    assert cka(x, y, unbiased=False) == pytest.approx(product ** 2 / np.prod(own), abs=1e-6)


def test_hsic_is_the_mean_over_quadruples():
    """Song 2012, equation 4: a U-statistic over all four different tokens."""
    from itertools import permutations
    x, y = normal(6, 2), normal(6, 3)
    k, l = x @ x.T, y @ y.T
    each = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in permutations(range(6), 4)]
    assert hsic(k, l) == pytest.approx(np.mean(each), abs=1e-6)


def test_tokens_in_portions_are_the_whole():
    x, y = normal(101, 5) + 100, normal(101, 7)
    moments = Moments(5, 7)
    for part in np.array_split(np.arange(101), 8):
        moments.add(x[part], y[part])
    for unbiased in (True, False):
        assert moments.cka(unbiased) == pytest.approx(cka(x, y, unbiased), abs=1e-10)


def test_of_independent_tokens_the_unbiased_one_is_about_zero():
    found = np.array([[cka(normal(40, 30), normal(40, 30), unbiased) for unbiased in (True, False)]
                      for _ in range(60)])
    error = found[:, 0].std() / 60 ** 0.5
    assert abs(found[:, 0].mean()) < 4 * error < 0.05
    assert found[:, 1].mean() > 0.4  # why it is not the one that is used


@pytest.mark.parametrize(("x", "says"), [
    (normal(3, 4), "3 tokens are too few, 4 are needed"),
    (np.full((6, 4), np.float32(0.1)), "all 6 tokens have the same vector"),
    (normal(1, 4) * (1 + 1e-7 * normal(6, 1)), "all 6 tokens have the same vector"),
])
def test_cka_says_what_is_undefined(x, says):
    assert says in refused(cka, x, normal(len(x), 4))
    assert says in refused(cka, normal(len(x), 4), x)


# --- shift

def test_shift_of_known_angles():
    a = np.array([[2.0, 0], [2, 0], [2, 0], [2, 0]])
    b = np.array([[5.0, 0], [0, 1], [-3, 0], [1, 1]])
    assert shift(a, b) == pytest.approx([0, 1, 2, 1 - 0.5 ** 0.5])
    small = 1e-6
    assert shift(a[:1], np.array([[1, small]])) == pytest.approx([small ** 2 / 2], rel=1e-6)
    assert "1 of 4 tokens are vectors of zeros" in refused(shift, a, a * np.array([[1], [1], [0], [1]]))


def test_mean_shift_of_portions():
    before, after = normal(20, 3, 4), normal(20, 3, 4)
    sums = Sums(3)
    for part in (slice(0, 13), slice(13, 20)):
        sums.take(np.arange(20)[part], before[part], after[part])
    cosines = (before * after).sum(-1) / np.linalg.norm(before, axis=-1) / np.linalg.norm(after, axis=-1)
    expected = np.transpose([(1 - cosines).mean(axis=0), cosines.std(axis=0)])
    np.testing.assert_allclose([sums.moments(layer) for layer in range(3)], expected, atol=1e-6)
    after[2, 1] = 0
    sums.take(np.arange(20), before, after)
    assert refused(sums.moments, 1).startswith("1 of 40 tokens are vectors of zeros")
    assert sums.moments(0)[0] > 0  # the other layers have theirs


# --- samples

def test_a_sample_holds_its_tokens_in_order_however_they_come():
    before, after = normal(30, 2, 3), normal(30, 2, 3)
    numbers = np.array([0, 4, 5, 17, 29])
    sample = Sample(numbers, (2, 3))
    for part in np.array_split(RNG.permutation(30), 4):
        sample.take(part, before[part], after[part])
    assert np.array_equal(sample.before, before[numbers].swapaxes(0, 1))
    assert np.array_equal(sample.after, after[numbers].swapaxes(0, 1))
