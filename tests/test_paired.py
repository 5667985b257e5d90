"""Differences over few seeds: Student's interval, and what it says."""

import numpy as np
import pytest
from scipy import stats

from experiments import paired


def test_the_interval_is_students():
    # Of 1, 2, 3: mean 2, s = 1, and t of two degrees of freedom is 4.3027.
    low, high = paired.interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.30265 / np.sqrt(3), 2 + 4.30265 / np.sqrt(3)), abs=1e-4)


def test_the_interval_is_scipys():
    differences = np.random.default_rng(0).normal(0.3, 1.0, 7)
    theirs = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert paired.interval(differences.tolist()) == pytest.approx(tuple(theirs), abs=1e-9)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    drawn = np.random.default_rng(0).normal(1.0, 2.0, (1000, 3))
    held = [low <= 1.0 <= high for low, high in (paired.interval(each.tolist()) for each in drawn)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_differences_are_of_the_seeds_that_both_have():
    found = paired.difference({2: 0.7, 0: 0.9, 1: 0.8, 5: 0.0}, {0: 0.85, 1: 0.79, 2: 0.6})
    assert (found.mean, found.n) == (pytest.approx((0.05 + 0.01 + 0.1) / 3), 3)
    assert paired.difference({0: 1.0}, {1: 1.0}) is None
    assert paired.written(found) == "+0.053 (-0.059 to +0.165, 3 seeds)"


def test_one_seed_has_no_interval_and_says_nothing():
    found = paired.difference({0: 0.9, 1: 0.8}, {0: 0.8})
    assert found == (pytest.approx(0.1), None, 1)
    assert paired.written(found) == "+0.100, one seed"
    for answer in (paired.within(found, 1.0), paired.ahead(found), paired.behind(found), paired.ahead(None)):
        assert answer is None
    assert paired.written(None) == ""


@pytest.mark.parametrize(("interval", "within", "ahead", "behind"), [
    ((-0.01, 0.01), True, False, False), ((-0.005, 0.011), False, False, False),
    ((0.001, 0.01), True, True, False), ((0.02, 0.04), False, True, False), ((-0.04, -0.02), False, False, True),
    ((-0.04, 0.04), False, False, False)])
def test_within_is_two_sided(interval, within, ahead, behind):
    found = paired.Difference(sum(interval) / 2, interval, 3)
    assert (paired.within(found, 0.01), paired.ahead(found), paired.behind(found)) == (within, ahead, behind)
    assert paired.behind(found, 0.03) is False


def test_scores_by_seed():
    rows = [{"point": {"seed": seed}, "metric": "f1", "scores": {"f1": score, "loss": 1.0}}
            for seed, score in ((3, 0.5), (1, 0.25), (2, None))]
    assert paired.by_seed(rows) == {3: 0.5, 1: 0.25}
