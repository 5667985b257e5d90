"""The linear chain against all its paths, one by one; and a run with it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from flaxbert import evaluation, export, heads, predict, train
from flaxbert.heads import crf
from flaxbert.heads.crf import Chain

CLASSES = 3
LOSS, TOLD = jax.jit(crf.loss), jax.jit(crf.told)
# Row 0: chains of 3 and 1 labelled tokens, others between them; row 1: one of 4, and a sequence without any; row
# 2: nothing.
SEQUENCE = np.array([[1, 1, 1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 0, 2, 2, 2, 0], [0] * 9], np.int32)
LABELLED = np.array([[0, 1, 1, 0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0], [0] * 9], bool)
CHAINS = [(0, [1, 2, 4]), (0, [5]), (1, [0, 1, 2, 3])]


@pytest.fixture(scope="module")
def drawn():
    """A chain with random scores, and a batch."""
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=shape).astype(np.float32)
              for shape in ((*SEQUENCE.shape, CLASSES), CLASSES, CLASSES, (CLASSES, CLASSES)))
    labels = rng.integers(0, CLASSES, SEQUENCE.shape).astype(np.int32)
    return Chain(*map(jnp.asarray, scores)), {
        "sequence": jnp.asarray(SEQUENCE), "weights": jnp.asarray(LABELLED.astype(np.float32)),
        "labels": jnp.asarray(labels)}


def paths(chain, row, columns):
    """Every path of one chain, and its score by the definition."""
    x, start, end, transitions = (np.asarray(part, np.float64) for part in chain)
    every = np.array([*itertools.product(range(CLASSES), repeat=len(columns))])
    scores = start[every[:, 0]] + end[every[:, -1]] + x[row, columns, every].sum(1) \
        + transitions[every[:, :-1], every[:, 1:]].sum(1)
    return every, scores


@pytest.mark.usefixtures("strict_ranks")
def test_loss_marginals_and_best_labels_are_those_of_all_paths(drawn):
    chain, batch = drawn
    losses, told = np.asarray(LOSS(chain, batch)), np.asarray(TOLD(chain, batch))
    assert told.shape == (*SEQUENCE.shape, CLASSES + 2)
    for row, columns in CHAINS:
        every, scores = paths(chain, row, columns)
        log_z = np.log(np.exp(scores).sum())
        gold = (every == np.asarray(batch["labels"])[row, columns]).all(1)
        assert losses[row, columns].sum() == pytest.approx(log_z - scores[gold].item(), abs=1e-5)
        p = np.exp(scores - log_z)
        marginals = np.stack([[p[every[:, t] == c].sum() for c in range(CLASSES)] for t in range(len(columns))])
        np.testing.assert_allclose(told[row, columns, :CLASSES], marginals, atol=1e-5)
        np.testing.assert_array_equal(told[row, columns, CLASSES], every[scores.argmax()])
    np.testing.assert_array_equal(losses[~LABELLED], 0)
    np.testing.assert_allclose(told[..., -1], losses, atol=1e-6)


def test_increments_are_of_beginnings(drawn):
    """The t-th is what the first t labels add, the end left out until the last."""
    chain, batch = drawn
    row, columns = CHAINS[2]
    for count in (1, 2, 3):
        every, scores = paths(chain._replace(end=jnp.zeros(CLASSES)), row, columns[:count])
        gold = (every == np.asarray(batch["labels"])[row, columns[:count]]).all(1)
        want = np.log(np.exp(scores).sum()) - scores[gold].item()
        assert np.asarray(LOSS(chain, batch))[row, columns[:count]].sum() == pytest.approx(want, abs=1e-5)


def test_gradients_are_those_of_all_paths(drawn):
    chain, batch = drawn

    def by_paths(chain):
        total = 0.0
        for row, columns in CHAINS:
            every = np.array([*itertools.product(range(CLASSES), repeat=len(columns))])
            scores = chain.start[every[:, 0]] + chain.end[every[:, -1]] \
                + chain.emissions[row, np.array(columns)[None], every].sum(1) \
                + chain.transitions[every[:, :-1], every[:, 1:]].sum(1)
            gold = (every == np.asarray(batch["labels"])[row, columns]).all(1)
            total += jax.nn.logsumexp(scores) - scores[gold.argmax()]
        return total
    got = jax.jit(jax.grad(lambda chain: (crf.loss(chain, batch) * batch["weights"]).sum()))(chain)
    for a, b in zip(got, jax.jit(jax.grad(by_paths))(chain), strict=True):
        assert np.abs(b).max() > 0.1
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_neighbours_other_tokens_and_padding_change_nothing(drawn):
    chain, batch = drawn
    row, columns = CHAINS[0]
    rng = np.random.default_rng(1)
    other = np.where((SEQUENCE == 1)[..., None] & LABELLED[..., None],
                     chain.emissions, rng.normal(size=chain.emissions.shape)).astype(np.float32)
    other[1:] = rng.normal(size=other[1:].shape)
    labels = np.where(LABELLED & (SEQUENCE == 1), batch["labels"], 0)
    changed = chain._replace(emissions=jnp.asarray(other)), {**batch, "labels": jnp.asarray(labels)}
    told = [np.asarray(TOLD(*each)) for each in ((chain, batch), changed)]
    np.testing.assert_array_equal(told[0][row, columns], told[1][row, columns])
    assert not np.array_equal(*told)


def test_without_transitions_it_is_the_cross_entropy(drawn):
    chain, batch = drawn
    free = Chain(chain.emissions, *(jnp.zeros_like(part) for part in chain[1:]))
    want = np.where(LABELLED, heads.cross_entropy(chain.emissions, batch), 0)
    np.testing.assert_allclose(LOSS(free, batch), want, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(TOLD(free, batch))[LABELLED][:, CLASSES],
                                  chain.emissions[LABELLED].argmax(-1))


def test_of_equal_paths_one_is_taken():
    """Transitions allow no 0 after 0: of the paths 0 1 and 1 0, which score the same, it is one or the other."""
    zeros, ones = jnp.zeros(2), jnp.ones((1, 2), jnp.int32)
    chain = Chain(jnp.array([[[1.0, 0.0], [1.0, 0.0]]]), zeros, zeros, jnp.array([[-9.0, 0.0], [0.0, 0.0]]))
    batch = {"sequence": ones, "weights": ones, "labels": ones}
    assert sorted(np.asarray(TOLD(chain, batch))[0, :, 2]) == [0, 1]


def test_very_likely_chains_stay_finite(drawn):
    chain, batch = drawn
    sure = Chain(*(300 * part for part in chain))
    got = jax.jit(jax.grad(lambda chain: crf.loss(chain, batch).sum()))(sure)
    assert np.isfinite(np.asarray(TOLD(sure, batch))).all()
    assert all(np.isfinite(part).all() for part in got)


# --- runs

@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run of a chain on a BiLSTM on a mix of frozen layers."""
    folder = tmp_path_factory.mktemp("crf") / "run"
    train.finetune(small.config(tiny, folder, task="toy_token", max_length=48, crf=True, head="bilstm",
                                head_width=6, head_layers=1, layers="scalar_mix", strategy="features",
                                learning_rate=0.03, epochs=2.0))
    return folder


def test_a_run_learns_its_transitions_and_is_read_back(run):
    rows = small.rows_of(run)
    assert np.mean([row["loss"] for row in rows[-4:]]) < 0.8 * np.mean([row["loss"] for row in rows[:4]])
    result = small.result_of(run)["best"]["dev"]
    scores = evaluation.evaluate(str(run), "dev")
    assert {name: scores[name] for name in ("loss", "f1", "accuracy")} == pytest.approx(
        {name: result[name] for name in ("loss", "f1", "accuracy")}, abs=1e-5)
    predictor = predict.load(str(run))
    assert np.abs(predictor._params["crf"]["transitions"]).max() > 1e-3
    answer, = predictor([["The", "Lisbon", "office", "opened"]])
    assert [word["label"] in predictor.labels for word in answer["words"]] == [True] * 4
    assert all(0 < word["probability"] <= 1 for word in answer["words"])


def test_an_export_is_refused_in_a_line_that_says_what_would_do(run, tmp_path):
    said = small.refused(export.export, run, tmp_path / "out")
    assert "--layers=scalar_mix" in said
    assert "--crf=true" in said
    assert "flaxbert.load" in said
    assert not (tmp_path / "out").exists()
