"""The numbers of many seeds: against closed forms, brute force and the standard library."""

import dataclasses
import itertools
import math
import statistics
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxbert import metrics
from flaxbert.errors import InputError
from flaxbert.statistics import comparison, figures, selection
from flaxbert.statistics.distribution import interval, spreads, summary
from flaxbert.statistics.runs import Runs

SCORES = np.array([0.81, 0.84, 0.84, 0.68, 0.86, 0.83, 0.79])
FEW = st.lists(st.sampled_from([0.0, 0.5, 0.684, 0.7, 0.71, 0.9]), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def runs(scores, name="a", task="rte", metric="accuracy", baseline=0.53, first=1):
    return Runs(name, task, metric, dict(enumerate(scores, first)), baseline)


# --- one sample

def test_summary_agrees_with_the_standard_library():
    found = summary(SCORES, SCORES < 0.7)
    assert found["n"] == 7
    assert found["failed"] == 1
    assert found["mean"] == pytest.approx(statistics.fmean(SCORES))
    assert found["std"] == pytest.approx(statistics.stdev(SCORES))
    assert found["median"] == statistics.median(SCORES)
    assert (found["min"], found["max"]) == (0.68, 0.86)
    assert found["mean_interval"][0] < found["mean"] < found["mean_interval"][1]
    assert found["mean_interval"][0] < interval(np.mean, SCORES)[0]  # BCa leans to the side of the long tail
    assert summary(SCORES, SCORES < 0.7) == found


def test_one_seed_and_equal_seeds():
    one = summary([0.7], [False])
    assert (one["std"], one["mean_interval"], one["median_interval"]) == (None, None, None)
    assert (one["mean"], one["median"], one["n"], one["failed"]) == (0.7, 0.7, 1, 0)
    equal = summary([0.684] * 5, [True] * 5)
    assert equal["std"] == pytest.approx(0, abs=1e-12)
    assert equal["mean_interval"] == pytest.approx([0.684, 0.684])
    assert equal["failed"] == 5


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide():
    scores = np.random.default_rng(0).normal(size=100)
    low, high = interval(np.mean, scores)
    assert high - low == pytest.approx(2 * 1.96 * scores.std() / 10, rel=0.05)
    low, high = interval(lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis), scores, 3 * scores)
    assert high - low == pytest.approx(2 * 1.96 * scores.std() * math.sqrt(10) / 10, rel=0.05)


@given(FEW)
@settings(max_examples=40, deadline=None)
def test_intervals_of_few_scores_exist(scores):
    found = summary(scores, [False] * len(scores))
    for name in ("mean_interval", "median_interval"):
        if len(scores) == 1:
            assert found[name] is None
        else:
            assert min(scores) - 1e-9 <= found[name][0] <= found[name][1] <= max(scores) + 1e-9


def test_spreads():
    random = np.random.default_rng(0)
    narrow, wide = random.normal(0, 1, 30), random.normal(5, 4, 30)
    assert spreads(narrow, wide) < 0.001
    assert spreads(narrow, narrow + 5) == pytest.approx(1)
    assert spreads(np.array([0.5, 0.5, 0.5]), np.array([0.6, 0.6, 0.6])) is None
    assert spreads(np.array([0.1, 0.1, 0.3, 0.3]), np.array([0.6, 0.7, 0.6, 0.7])) is None  # all equally far
    assert spreads(np.array([0.5, 0.6]), narrow) is None


# --- the best of k

@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("scores", [[0.3], [0.9, 0.1], [0.5, 0.1, 0.9, 0.5, 0.2]])
def test_the_expected_best_is_that_of_all_draws(scores, replacement):
    found = selection.expected_best(scores, replacement)
    for k in range(1, len(scores) + 1):
        draws = itertools.product(scores, repeat=k) if replacement else itertools.combinations(scores, k)
        best = [max(draw) for draw in draws]
        assert found["mean"][k - 1] == pytest.approx(np.mean(best))
        assert found["std"][k - 1] == pytest.approx(np.std(best), abs=1e-7)
        assert found["low"][k - 1] <= found["mean"][k - 1] + 1e-12
    assert all(low <= high for low, high in zip(found["low"], found["high"], strict=True))


def test_without_replacement_the_estimate_is_unbiased():
    population, sizes = [0.1, 0.2, 0.6, 0.7, 0.9], range(1, 4)
    truth = [np.mean([max(draw) for draw in itertools.product(population, repeat=k)]) for k in sizes]
    samples = np.array(list(itertools.product(population, repeat=3)))  # all that three seeds may score
    for replacement in (False, True):
        weights = selection.rank_weights(3, replacement)
        mean = (np.sort(samples, axis=1) @ weights.T).mean(axis=0)
        assert np.allclose(mean, truth) != replacement
        assert (mean < np.array(truth) + 1e-9).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_selection_curve_is_the_mean_over_all_subsets(pairs):
    chosen_by, other = np.array(pairs, float).T
    found = selection.selection_curve(chosen_by, other)
    for k in range(1, len(pairs) + 1):
        expected = []
        for subset in map(list, itertools.combinations(range(len(pairs)), k)):
            best = chosen_by[subset].max()
            expected.append((best, other[subset][chosen_by[subset] == best].mean()))
        assert [curve[k - 1] for curve in found] == pytest.approx(np.mean(expected, axis=0))


def test_halves_of_dev_and_seeds_that_are_equally_good():
    """Nothing is gained by choosing, and the half that chooses says otherwise."""
    right = np.random.default_rng(0).random((12, 600)) < 0.8
    found = selection.over_halvings(lambda rows: right[:, rows].mean(axis=1), 600)
    assert found["chosen"][0] == pytest.approx(right.mean())
    assert found["other"][0] == pytest.approx(right.mean())
    assert (np.diff(found["chosen"]) > 0).all()
    assert found["chosen"][-1] > right.mean() + 0.02
    assert found["other"][-1] == pytest.approx(right.mean(), abs=0.012)
    assert (np.array(found["other_low"]) <= np.array(found["other"]) + 1e-12).all()
    assert (np.array(found["other_high"]) >= np.array(found["other"]) - 1e-12).all()
    assert selection.over_halvings(lambda rows: right[:, rows].mean(axis=1), 600) == found


def test_halves_of_dev_and_seeds_that_differ_much():
    """Both halves choose the same seed, and are right; by any metric."""
    labels = np.arange(400) % 2
    good = np.where(np.random.default_rng(0).random((4, 400)) < np.array([[0.1], [0.3], [0.5], [0.95]]), labels, 0)
    found = selection.over_halvings(
        lambda rows: [metrics.mcc(each[rows], labels[rows]) for each in good], 400, halvings=5)
    assert found["chosen"] == pytest.approx(found["other"], abs=0.01)
    assert found["other"][-1] > found["other"][0] + 0.3


# --- two samples

@given(FEW, FEW)
@settings(max_examples=30, deadline=None)
def test_improvement_counts_pairs_and_ties_half(a, b):
    found = comparison.improvement(np.array(a), np.array(b))
    assert found["probability"] == pytest.approx(np.mean([(x > y) + (x == y) / 2 for x in a for y in b]))
    assert 0 < found["p"] <= 1
    if found["interval"]:
        assert 0 <= found["interval"][0] <= found["probability"] + 1e-12
        assert found["probability"] - 1e-12 <= found["interval"][1] <= 1


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=8))
@settings(max_examples=15, deadline=None)
def test_flipped_signs_are_all_gone_through(differences):
    d = np.array(differences, float) / 100
    found = comparison.paired_difference(0.5 + d, np.full(len(d), 0.5))
    means = np.array([np.mean(d * signs) for signs in itertools.product((1, -1), repeat=len(d))])
    assert found["mean"] == pytest.approx(d.mean())
    assert found["p"] == pytest.approx(np.mean(np.abs(means) >= abs(d.mean()) - 1e-12))


def test_many_signs_are_drawn():
    d = np.random.default_rng(0).normal(0.3, 1, 18)
    signs = 1 - 2 * (np.arange(2 ** 18)[:, None] >> np.arange(18) & 1)
    exact = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    assert comparison.paired_difference(d, np.zeros(18))["p"] == pytest.approx(exact, abs=0.01)


def test_scores_are_dealt_out_anew():
    a, b = np.array([0.8, 0.9, 0.85]), np.array([0.7, 0.6, 0.82, 0.65])
    both = np.concatenate([a, b])
    means = np.array([both[list(rows)].mean() - np.delete(both, rows).mean()
                      for rows in itertools.combinations(range(7), 3)])
    ahead = a.mean() - b.mean()
    found = comparison.unpaired_difference(a, b)
    assert found["mean"] == pytest.approx(ahead)
    assert found["p"] == pytest.approx(2 * min(np.mean(means >= ahead - 1e-12), np.mean(means <= ahead + 1e-12)))
    assert found["interval"][0] < ahead < found["interval"][1]
    assert comparison.unpaired_difference(a, b[:1]) == {"mean": pytest.approx(0.15), "interval": None, "p": None}


def test_over_examples():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 500)
    a, b = (np.where(random.random(500) < share, labels, 1 - labels) for share in (0.9, 0.8))
    found = comparison.over_examples(metrics.accuracy, a, b, labels)
    each = (a == labels) * 1.0 - (b == labels)
    low, high = found["interval"]
    assert found["difference"] == pytest.approx(each.mean())
    assert high - low == pytest.approx(2 * 1.96 * each.std() / math.sqrt(500), rel=0.1)
    assert comparison.over_examples(metrics.accuracy, a, a, labels) == {"difference": 0.0, "interval": [0.0, 0.0]}


def test_mcnemar_is_the_binomial_test():
    a = np.array([True] * 8 + [False] * 2 + [True] * 5)
    b = np.array([False] * 8 + [True] * 2 + [True] * 5)
    expected = 2 * sum(math.comb(10, i) for i in range(3)) / 2 ** 10
    assert comparison.mcnemar(a, b) == {"only_a": 8, "only_b": 2, "p": pytest.approx(expected)}
    assert comparison.mcnemar(a, a)["p"] == 1


# --- two recipes

def test_the_same_seeds_are_compared_in_pairs():
    a, b = runs([0.8, 0.82, 0.81, 0.84]), runs([0.7, 0.53, 0.72, math.nan, 0.99], "b")
    found = comparison.compare(a, b)
    assert found["paired"] == [1, 2, 3, 4]
    assert found["ahead"]["mean"] == pytest.approx(np.mean([0.1, 0.29, 0.09, 0.31]))  # nan counts as 0.53
    assert found["ahead"]["p"] == 2 / 2 ** 4
    assert [found[letter]["failed"] for letter in "ab"] == [0, 2]
    assert [found[letter]["n"] for letter in "ab"] == [4, 5]
    assert found["improvement"]["probability"] == pytest.approx(16 / 20)
    assert found["best"][1] == pytest.approx([0.8175, np.mean([0.7, 0.53, 0.72, 0.53, 0.99])])
    assert found["best"][4] == pytest.approx([0.84, 0.8 * 0.99 + 0.2 * 0.72])  # one of five sets lacks the highest
    lines = comparison.describe(found)
    assert lines[0] == "rte, dev accuracy; failed: no better than the best constant answer, 0.5300"
    assert lines[1:3] == ["A: a", "B: b"]
    assert lines[4].split()[:4] == ["A", "4", "0", "0.8175"]
    assert lines[6].startswith("A is ahead of B by +0.1975 (95 %: ")
    assert lines[6].endswith("over the 4 seeds that both have; p = 0.125 (signs flipped)")


def test_other_seeds_are_compared_unpaired():
    found = comparison.compare(runs([0.8, 0.82, 0.81]), runs([0.7, 0.75], "b", first=3))  # seed 3 alone in common
    assert found["paired"] == []
    assert found["ahead"]["mean"] == pytest.approx(0.81 - 0.725)
    assert "with no two seeds in common; p = 0.200 (seeds dealt out anew)" in comparison.describe(found)[6]


def test_lower_perplexity_is_ahead():
    a, b = (runs(scores, name, "pretrain", "perplexity", None)
            for name, scores in (("a", [40.0, 41.0, 42.0]), ("b", [50.0, 52.0, 51.0])))
    found = comparison.compare(a, b)
    assert found["ahead"]["mean"] == pytest.approx(10)
    assert found["improvement"]["probability"] == 1
    assert found["a"]["mean"] == pytest.approx(41)
    assert "failed: the loss was not finite" in comparison.describe(found)[0]


@pytest.mark.parametrize(("a", "b"), [([0.7], [0.6]), ([0.7], [0.6, 0.8]), ([0.5, 0.53], [math.nan, 0.53]),
                                      ([math.nan] * 3, [math.nan] * 3), ([0.7] * 4, [0.7] * 4)])
def test_what_few_or_failed_seeds_cannot_tell_is_left_open(a, b, tmp_path):
    found = comparison.compare(runs(a), runs(b, "b"))
    text = "\n".join(comparison.describe(found))
    assert "nan" not in text
    assert "None" not in text
    if len(a) == 1:
        assert found["ahead"]["interval"] is None
        assert "p not defined" in text
    figures.difference(runs(a), runs(b, "b"), found, tmp_path / "figure.png")


@pytest.mark.parametrize(("other", "message"), [
    (dict(task="cola"), "task rte and cola"), (dict(metric="mcc"), "metric accuracy and mcc"),
    (dict(baseline=0.6), "constant answer on dev 0.53 and 0.6")])
def test_only_runs_of_one_task_are_compared(other, message):
    a = runs([0.7, 0.8])
    with pytest.raises(InputError, match=f"a and b cannot be compared: .*{message}"):
        comparison.compare(a, dataclasses.replace(a, name="b", **other))


def test_an_earlier_version_s_runs_take_the_constant_answer_of_the_others():
    a, b = runs([0.7, 0.5], baseline=None), runs([0.7, 0.5], "b")
    for found in (comparison.compare(a, b), comparison.compare(b, a)):
        assert found["baseline"] == 0.53
        assert (found["a"]["failed"], found["b"]["failed"]) == (1, 1)


# --- pictures

def test_failed_seeds_are_crosses(tmp_path, monkeypatch):
    from matplotlib.axes import Axes
    drawn, scatter = {"x": 0, "o": 0}, Axes.scatter

    def noted(self, x, y, **how):
        drawn[how.get("marker", "o")] += len(x)
        return scatter(self, x, y, **how)
    monkeypatch.setattr(Axes, "scatter", noted)
    arms = [runs(SCORES), runs([0.53, math.nan, 0.8], "b"), runs([0.1, -0.2], "a", "cola", "mcc", 0.0)]
    figures.boxes(arms, tmp_path / "boxes.png", "many seeds")
    assert drawn == {"x": 3, "o": 9}
    figures.difference(*arms[:2], comparison.compare(*arms[:2]), tmp_path / "difference.png")
    assert sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size > 5000) == [
        "boxes.png", "difference.png"]
