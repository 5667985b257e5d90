"""The step as a pure function: packed equals padded, dropout by rows, micro-batches, weights."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import OPTIMIZED, worst_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from small import apply_of, as_jax, batch_of, encoded, lively, shape

from flaxbert import bert, heads, parallel, trees
from flaxbert.bert import RowDropout
from flaxbert.config import Config
from flaxbert.steps import TrainState, make_eval_step, make_train_step, micro_batches

pytestmark = pytest.mark.usefixtures("strict_ranks")
KINDS = {"classification": 3, "regression": 1, "multi_label": 4}
# Compiling takes nearly all the time of these tests: one program for many batches.
ROWS, SLOTS = 16, 8
STILL = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@cache
def model_of(kind="classification", layers=1, dropout=True):
    model = heads.SequenceModel(shape(layers, **({} if dropout else STILL)), KINDS[kind])
    return model, lively(heads.shapes(model))


def batch(split, examples, packed=True, rows=ROWS):
    """The plan and arrays of one batch in the shape that all of these tests share."""
    return batch_of(split, examples, packed=packed, multiple=rows, slots=SLOTS)


@cache
def compute_of(model, kind):
    """A compiled (params, batch) -> ((loss, logits), gradients) without dropout, straight from the definition."""
    def loss(params, batch):
        logits = model.apply({"params": params}, batch)
        losses = heads.LOSSES[kind](logits, batch)
        return (losses * batch["weights"]).sum() / batch["weights"].sum(), logits
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@cache
def step_of(kind="classification", micro=1, dropout=True):
    """A compiled step of plain gradient descent at rate 1, whose update is the gradient, and its first state."""
    model, params = model_of(kind, dropout=dropout)
    optimizer = optax.sgd(1.0)
    step = make_train_step(apply_of(model), optimizer, optax.constant_schedule(1.0), heads.LOSSES[kind],
                           trees.map_named(lambda *_: True, params), micro)
    return jax.jit(step), TrainState.start(params, optimizer, 0)


def gradient(before, after):
    """What one step at rate 1 took away, by name."""
    before, after = trees.flatten(before.params), trees.flatten(after.params)
    return {name: np.asarray(leaf) - np.asarray(after[name]) for name, leaf in before.items()}


def logits_in_order(logits, plan):
    """[B, C] in the order of the plan's examples."""
    return np.asarray(logits)[plan.row, plan.slot]


# --- packed equals padded

@pytest.mark.parametrize("kind", KINDS)
def test_packed_equals_padded(kind, record_property):
    model, params = model_of(kind, layers=2 if kind == "classification" else 1)
    split = encoded(14, kind=kind, outputs=KINDS[kind])
    compute = compute_of(model, kind)
    results = []
    for packed in (True, False):
        plan, arrays = batch(split, range(14), packed)
        (loss, logits), gradients = compute(params, arrays)
        results.append((float(loss), logits_in_order(logits, plan), trees.flatten(jax.device_get(gradients))))
    assert plan.rows == 14
    (loss, logits, got), (want_loss, want_logits, want) = results
    record_property("worst", str((np.abs(logits - want_logits).max(), worst_gradient(got, want))))
    assert np.abs(want_logits).max() > 0.3
    assert np.abs(logits - want_logits).max() < 1e-5
    assert abs(loss - want_loss) < 1e-5
    assert worst_gradient(got, want)[0] < 1, worst_gradient(got, want)


@pytest.fixture(scope="module")
def neighbourhood():
    """A model, compiled, and one batch whose rows hold several sequences and padding."""
    model, params = model_of(layers=2)
    plan, arrays = batch(encoded(12, longest=14), range(12))
    assert plan.slots >= 2
    return jax.jit(make_eval_step(apply_of(model))), params, plan, arrays


@settings(max_examples=25)
@given(st.integers(0, 11), st.integers(0, 2**31))
def test_neighbours_and_padding_never_change_logits(neighbourhood, example, seed):
    evaluate, params, plan, arrays = neighbourhood
    rng = np.random.default_rng(seed)
    row, slot = plan.row[example], plan.slot[example]
    mine = np.zeros(arrays["sequence"].shape, bool)
    mine[row] = arrays["sequence"][row] == slot + 1
    changed = {name: np.where(mine, arrays[name], rng.integers(0, limit, mine.shape)).astype(np.int32)
               for name, limit in (("tokens", 50), ("types", 2), ("positions", 32))}
    first = evaluate(params, arrays)[row, slot]
    np.testing.assert_array_equal(evaluate(params, {**arrays, **changed})[row, slot], first)
    assert not np.array_equal(evaluate(params, {**arrays, **changed}), evaluate(params, arrays))


# --- dropout

def masks(rows, rate=0.25, key=0, site=3, shape_of_row=(5, 11)):
    ones = jnp.ones((len(rows), *shape_of_row))
    return np.asarray(RowDropout(jax.random.key(key), jnp.asarray(rows, jnp.int32))(ones, site, rate))


def test_a_rows_mask_does_not_depend_on_the_rows_beside_it():
    alone = masks([7])[0]
    np.testing.assert_array_equal(masks(range(16))[7], alone)
    np.testing.assert_array_equal(masks([7, 2, 7])[[0, 2]], [alone, alone])


def test_masks_differ_by_row_site_and_step():
    base = masks(range(4))
    assert len({row.tobytes() for row in base}) == 4
    assert not np.array_equal(masks(range(4), site=4), base)
    assert not np.array_equal(masks(range(4), key=1), base)
    np.testing.assert_array_equal(masks(range(4)), base)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate):
    x = masks(range(400), rate, shape_of_row=(10, 101))
    dropped = (x == 0).mean()
    deviation = (rate * (1 - rate) / x.size) ** 0.5
    assert abs(dropped - rate) < 5 * deviation
    kept = np.unique(x[x > 0])
    assert len(kept) == 1
    threshold = round(rate * 65536)  # the rate that sixteen bits can draw, and the scale that belongs to it
    assert kept[0] == pytest.approx(1 / (1 - threshold / 65536), rel=1e-6)
    assert x.mean() == pytest.approx(1, abs=5 * deviation / (1 - rate))


def test_neighbouring_elements_are_dropped_independently():
    kept = masks(range(300), 0.5, shape_of_row=(200,)) > 0
    for shift in (1, 2):  # two elements share one random word
        assert abs(np.corrcoef(kept[:, :-shift].ravel(), kept[:, shift:].ravel())[0, 1]) < 0.02


def test_rate_zero_leaves_everything():
    np.testing.assert_array_equal(masks([0, 1], rate=0.0), 1)


def test_every_site_of_the_model_has_its_own_mask(monkeypatch):
    """Counts the draws of a forward pass: embeddings, three a layer, pooled output; no site twice."""
    seen, dropped, real = [], [], bert.drop

    class Spy(RowDropout):
        def keys(self, sites):
            seen.extend(np.ravel(sites).tolist())
            return super().keys(sites)

    def spy(x, keys, rate):
        dropped.append(x.shape)
        return real(x, keys, rate)
    monkeypatch.setattr(bert, "drop", spy)
    model, params = model_of(layers=3)
    _, arrays = batch(encoded(4), range(4))
    jax.eval_shape(lambda: model.apply({"params": params}, as_jax(arrays),
                                       Spy(jax.random.key(0), jnp.asarray(arrays["row"]))))
    assert len(seen) == len(set(seen)) == len(dropped) == 1 + 3 * 3 + 1


def test_the_loss_of_a_step_changes_with_seed_and_step_but_not_otherwise():
    _, arrays = batch(encoded(6), range(6))
    step, state = step_of()
    loss = [float(step(s, arrays)[1]["loss"]) for s in (
        state, state, state.replace(step=np.int32(1)), TrainState.start(state.params, optax.sgd(1.0), 1))]
    assert loss[0] == loss[1]
    assert len(set(loss)) == 3


# --- the step

@pytest.mark.parametrize("kind", KINDS)
def test_the_step_follows_the_definition(kind):
    model, params = model_of(kind, dropout=False)
    split = encoded(9, kind=kind, outputs=KINDS[kind])
    plan, arrays = batch(split, range(9))
    step, state = step_of(kind, dropout=False)
    after, metrics = step(state, arrays)
    (loss, logits), gradients = compute_of(model, kind)(params, arrays)
    z, y = logits_in_order(logits, plan).astype(np.float64), split.labels
    losses = {"classification": lambda: np.log(np.exp(z).sum(-1)) - z[np.arange(9), y],
              "regression": lambda: (z[:, 0] - y) ** 2,
              "multi_label": lambda: (np.log1p(np.exp(z)) - z * y).mean(-1)}[kind]()
    assert float(metrics["loss"]) == pytest.approx((losses * split.weights).sum() / split.weights.sum(), rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-6)
    want = trees.flatten(jax.device_get(gradients))
    assert worst_gradient(gradient(state, after), want)[0] < 1
    assert float(metrics["grad_norm"]) == pytest.approx(
        float(np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in want.values()))), rel=1e-5)
    assert int(after.step) == 1
    assert float(metrics["learning_rate"]) == 1.0


@pytest.mark.parametrize("micro", [2, 4])
def test_micro_batches_equal_one_batch_with_dropout_on(micro):
    plan, arrays = batch(encoded(30), range(30))
    assert ROWS > plan.rows > ROWS // 2  # every micro-batch has sequences, one has empty rows
    one, state = step_of()
    several, _ = step_of(micro=micro)
    (after, metrics), (other, other_metrics) = one(state, arrays), several(state, arrays)
    assert float(other_metrics["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-6)
    assert float(other_metrics["grad_norm"]) == pytest.approx(float(metrics["grad_norm"]), rel=1e-5)
    largest = max(np.abs(g).max() for g in gradient(state, after).values())
    for name, got in trees.flatten(other.params).items():
        np.testing.assert_allclose(got, trees.flatten(after.params)[name], rtol=0, atol=2e-6 * max(1, largest),
                                   err_msg=name)


def test_micro_batches_deal_out_every_row_once():
    parts = micro_batches({"row": jnp.arange(12), "tokens": jnp.arange(24).reshape(12, 2)}, 3)
    assert parts["row"].shape == (3, 4)
    assert sorted(np.asarray(parts["row"]).ravel()) == list(range(12))
    np.testing.assert_array_equal(parts["tokens"][..., 0], 2 * parts["row"])


def test_the_last_partial_batch_counts_its_own_examples_only():
    """Three examples in a program for eight rows: empty rows change neither loss nor gradient."""
    split = encoded(3)
    step, state = step_of()
    (after, metrics), (padded, padded_metrics) = (
        step(state, batch(split, range(3), rows=rows)[1]) for rows in (1, ROWS))
    assert float(padded_metrics["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-6)
    assert worst_gradient(gradient(state, padded), gradient(state, after))[0] < 1


def test_weights_count_as_often_as_they_say():
    """An example of weight 2 is the same as the example twice."""
    split = encoded(6)
    split.weights[:] = [1, 2, 1, 1, 3, 1]
    twice = np.repeat(np.arange(6), split.weights.astype(int))
    step, state = step_of(dropout=False)
    after, metrics = step(state, batch(split, range(6))[1])
    split.weights[:] = 1
    other, other_metrics = step(state, batch(split, twice)[1])
    assert float(metrics["loss"]) == pytest.approx(float(other_metrics["loss"]), rel=1e-5)
    assert worst_gradient(gradient(state, after), gradient(state, other))[0] < 1


# --- several terms, each with weights of its own

def two_terms(logits, batch):
    """Cross entropy, and the squared error of the first logit, of every slot."""
    return {"class": heads.cross_entropy(logits, batch), "square": heads.squared_error(logits, batch)}


def with_two_terms(arrays):
    """The batch with weights of their own for the two terms; the second counts every third slot only."""
    third = np.arange(arrays["weights"].size).reshape(arrays["weights"].shape) % 3 == 0
    return {**arrays, "weights": {"class": arrays["weights"], "square": arrays["weights"] * 2 * third}}


@cache
def two_term_step(micro=1, axis=None):
    """An uncompiled step of gradient descent at rate 1 on both terms, and its first state."""
    model, params = model_of(dropout=False)
    optimizer = optax.sgd(1.0)
    step = make_train_step(apply_of(model), optimizer, optax.constant_schedule(1.0), two_terms,
                           trees.map_named(lambda *_: True, params), micro, axis)
    return step, TrainState.start(params, optimizer, 0)


@pytest.fixture(scope="module")
def sum_of_two_means():
    """(batch, loss, gradient by name) of mean of one term + mean of the other, straight from the definition."""
    model, params = model_of(dropout=False)
    arrays = with_two_terms(batch(encoded(30), range(30))[1])
    assert arrays["weights"]["class"].sum() != pytest.approx(arrays["weights"]["square"].sum())

    def loss(params):
        terms = two_terms(model.apply({"params": params}, arrays), arrays)
        return sum((terms[name] * w).sum() / w.sum() for name, w in arrays["weights"].items())
    value, gradients = jax.jit(jax.value_and_grad(loss))(params)
    return arrays, float(value), trees.flatten(jax.device_get(gradients))


@pytest.mark.parametrize("micro", [1, 4])
def test_two_terms_are_the_sum_of_their_means_whatever_the_micro_batches(sum_of_two_means, micro):
    arrays, loss, want = sum_of_two_means
    step, state = two_term_step(micro)
    after, metrics = jax.jit(step)(state, arrays)
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
    assert worst_gradient(gradient(state, after), want)[0] < 1, worst_gradient(gradient(state, after), want)


@pytest.mark.parametrize(("how", "micro"), [("jit", 1), ("pmap", 1), ("pmap", 2)])
def test_two_terms_are_the_sum_of_their_means_whatever_the_devices(sum_of_two_means, how, micro):
    arrays, loss, want = sum_of_two_means
    placement = parallel.make(Config.make(parallel=how, devices=4))
    step, host = two_term_step(micro, placement.axis)
    state, placed = placement.put(host), placement.put_batch(arrays, ROWS)
    after, metrics = placement.get(placement.compile_train(step, state, placed)(state, placed))
    assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5)
    assert worst_gradient(gradient(host, after), want)[0] < 1, worst_gradient(gradient(host, after), want)


# --- the compiler

def test_jitted_gradients_equal_eager_ones():
    """jaxlib has computed wrong numbers on CPU in some releases, without a word."""
    model, params = model_of()
    arrays = as_jax(batch(encoded(6), range(6))[1])

    def loss(params):
        return heads.cross_entropy(model.apply({"params": params}, arrays), arrays).mean()
    want = trees.flatten(jax.device_get(jax.grad(loss)(params)))
    got = trees.flatten(jax.device_get(jax.jit(jax.grad(loss), compiler_options=OPTIMIZED)(params)))
    assert worst_gradient(got, want)[0] < 1, worst_gradient(got, want)


def test_the_known_fault_of_jaxlib_0_10_2_is_not_here():
    """jax-ml/jax#39103: a vmapped matrix-vector product and a sum, wrong under jit past 32,768 rows."""
    x = np.zeros((32_769, 3), np.float32)
    x[:, 0] = np.arange(len(x))
    identity = jnp.eye(3)
    got = jax.jit(jax.vmap(lambda row: jnp.square(identity @ row).sum()), compiler_options=OPTIMIZED)(x)
    np.testing.assert_allclose(got, x[:, 0].astype(np.float64) ** 2, rtol=1e-6)


def test_class_weights_of_several_labels_weigh_each_label():
    logits = np.array([[0.5, -1.0, 2.0], [0.0, 3.0, -0.5]])
    labels = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    weights = np.array([1.0, 2.0, 0.5])
    each = np.logaddexp(0, np.where(labels > 0, -logits, logits))
    got = heads.loss("multi_label", tuple(weights))(jnp.float32(logits), {"labels": jnp.float32(labels)})
    np.testing.assert_allclose(got, (each * weights).sum(1) / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(heads.loss("multi_label")(jnp.float32(logits), {"labels": jnp.float32(labels)}),
                               each.mean(1), rtol=1e-6)
