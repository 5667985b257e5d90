"""Averages of what several runs say."""

import numpy as np
import pytest

from flaxbert.families.ensembles import ENSEMBLES, of_chains
from flaxbert.metrics import softmax

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["classification", "choice", "token"])
def test_probabilities_of_classes_are_averaged(kind):
    logits = (3 * RNG.normal(size=(5, 7, 3))).astype(np.float32)
    together = ENSEMBLES[kind](logits)
    np.testing.assert_allclose(softmax(together.astype(np.float64)), softmax(logits.astype(np.float64)).mean(0),
                               atol=1e-6)
    np.testing.assert_allclose(softmax(ENSEMBLES[kind](logits[:1])), softmax(logits[0]), atol=1e-6)


def test_a_choice_that_is_not_there_stays_out():
    logits = np.array([[[1.0, 2.0, np.finfo(np.float32).min]], [[0.0, 1.0, np.finfo(np.float32).min]]], np.float32)
    together = ENSEMBLES["choice"](logits)
    assert np.isfinite(together).all()
    assert softmax(together.astype(np.float64))[0, 2] == 0


def test_switches_are_averaged_one_by_one():
    logits = np.array([[[800.0, -1.0, 0.0]], [[2.0, -800.0, 0.0]]], np.float32)
    together = 1 / (1 + np.exp(-ENSEMBLES["multi_label"](logits).astype(np.float64)))
    want = (1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))).mean(0)
    np.testing.assert_allclose(together, want, atol=1e-6)


@pytest.mark.parametrize("kind", ["regression", "span"])
def test_numbers_are_averaged(kind):
    numbers = RNG.normal(size=(4, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(ENSEMBLES[kind](numbers), numbers.mean(0))


def test_chains_give_the_most_probable_label_of_each_word():
    """Probabilities (0.6, 0.4) and (0.1, 0.9): the second label, though one chain says the first."""
    told = np.array([[[0.6, 0.4, 0, 0.5]], [[0.1, 0.9, 1, 0.1]]], np.float32)
    np.testing.assert_allclose(of_chains(told), [[0.35, 0.65, 1, 0.3]], atol=1e-6)
