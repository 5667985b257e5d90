"""How far apart two models look: closed forms, SciPy, and attention itself against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from small import as_jax, batch_of, encoded, lively, shape

from flaxbert import heads
from flaxbert.analysis import attention

SHAPE = shape(2)
jensen_shannon = jax.jit(attention.jensen_shannon)


@pytest.fixture(scope="module")
def encoders():
    """Two encoders of one shape."""
    params = heads.shapes(heads.SequenceModel(SHAPE, 2))["bert"]
    return tuple(jax.tree.map(jnp.asarray, lively(params, seed)) for seed in (1, 2))


@pytest.fixture(scope="module")
def batch():
    """Sequences packed into rows, with padding behind some."""
    return as_jax(batch_of(encoded(5, seed=3), range(5))[1])


def test_divergence_of_closed_forms():
    same, one, other = np.array([0.2, 0.8, 0]), np.array([1.0, 0, 0]), np.array([0, 0.5, 0.5])
    told = jensen_shannon(jnp.array([same, one, one]), jnp.array([same, other, one]))
    np.testing.assert_allclose(told, [0, np.log(2), 0], atol=1e-7)
    half = jensen_shannon(jnp.array([1.0, 0]), jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(half, 1.5 * np.log(2) - 0.75 * np.log(3), rtol=1e-6)  # H(3/4, 1/4) - H(1/2) / 2


def test_divergence_equals_scipy_and_is_symmetric():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(9, 0.3), (2, 50))
    p[:, 3] = 0
    p /= p.sum(-1, keepdims=True)
    told = np.asarray(jensen_shannon(jnp.float32(p), jnp.float32(q)))
    np.testing.assert_allclose(told, [jensenshannon(*each)**2 for each in zip(p, q, strict=True)], rtol=1e-5)
    np.testing.assert_allclose(told, jensen_shannon(jnp.float32(q), jnp.float32(p)), rtol=1e-6)


def test_divergence_neither_underflows_nor_loses_what_is_nearly_the_same():
    p = np.float32([1, 1e-38, 0])
    np.testing.assert_allclose(jensen_shannon(p, p[::-1].copy()), np.log(2), rtol=1e-6)
    near = np.float64([0.25, 0.25, 0.5])
    step = np.float64([1, -1, 0]) * 2.0**-12
    want = ((step**2) / (8 * near)).sum()  # to second order
    told = jensen_shannon(np.float32(near), np.float32(near + step))
    np.testing.assert_allclose(told, want, rtol=0.02)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_divergence_of_what_is_nearly_the_same_has_all_its_digits(size):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(16), 20).astype(np.float32)
    q = (p * (1 + size * rng.normal(size=p.shape))).astype(np.float32)
    t = (p.astype(np.float64) - q) / (p.astype(np.float64) + q)
    want = ((p.astype(np.float64) + q) * (2 * t * np.arctanh(t) + np.log1p(-t * t))).sum(-1) / 4
    np.testing.assert_allclose(jensen_shannon(p, q), want, rtol=1e-5)


@pytest.fixture(scope="module")
def looked(encoders, batch):
    """Of the first encoder: states as they are, and states and attention where that is kept."""
    def look(params, batch):
        model = attention.Bert(SHAPE)
        plain = model.apply({"params": params}, batch)
        kept, _ = model.apply({"params": params}, batch, mutable=["attention"])
        return plain, kept, attention.probabilities(SHAPE, params, batch)
    return jax.tree.map(np.asarray, jax.jit(look)(encoders[0], batch))


def test_attention_is_the_softmax_of_the_encoder_s_own_products(encoders, batch, looked):
    states, _, found = looked
    sequence = np.asarray(batch["sequence"])
    allowed = ((sequence[:, :, None] == sequence[:, None]) & (sequence > 0)[:, None])[:, None]
    for layer, (p, x) in enumerate(zip(found, states[:-1], strict=True)):
        w = jax.tree.map(np.asarray, encoders[0][f"layer_{layer}"]["attention"])
        q, k = (np.einsum("RTD,DE->RTE", x, w[name]["kernel"]) + w[name]["bias"] for name in ("query", "key"))
        q, k = (y.reshape(*y.shape[:2], 2, -1).astype(np.float64) for y in (q, k))
        scores = np.where(allowed, np.einsum("RTHK,RSHK->RHTS", q, k) / q.shape[-1]**0.5, -np.inf)
        asks = np.broadcast_to((sequence > 0)[:, None], scores.shape[:-1])
        want = np.exp(scores[asks] - scores[asks].max(-1, keepdims=True))
        np.testing.assert_allclose(p[asks], want / want.sum(-1, keepdims=True), atol=2e-6)


def test_keeping_attention_changes_no_state_and_nobody_else_gets_any(encoders, batch, looked):
    for a, b in zip(*looked[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    model = attention.Bert(SHAPE)

    def sown(name):
        return jax.eval_shape(lambda b: model.apply({"params": encoders[0]}, b, mutable=[name]), batch)[1]
    assert jax.tree.leaves(sown("attention"))
    assert not jax.tree.leaves(sown("intermediates"))  # what --diagnose_every reads
    assert {*jax.eval_shape(lambda b: model.init(jax.random.key(0), b), batch)} == {"params"}


def test_divergence_by_layer_and_head(encoders, batch):
    there = np.asarray(batch["sequence"]) > 0
    look = jax.jit(functools.partial(attention.divergences, SHAPE))

    def told(*pair):
        return np.asarray(look(pair, batch))[there]
    first, second = encoders
    assert told(first, second).shape == (there.sum(), 2, 2)
    assert (told(first, second) > 0).any()
    assert (told(first, second) <= np.log(2) + 1e-6).all()
    np.testing.assert_allclose(told(first, second), told(second, first), atol=1e-6)
    np.testing.assert_array_equal(told(first, first), 0)
    # Only the second layer's weights differ: the first looks as before.
    of_layers = told(first, {**first, "layer_1": second["layer_1"]}).mean((0, 2))
    assert of_layers[0] == 0
    assert of_layers[1] > 0


def test_sums_are_mean_and_deviation_of_all_tokens():
    found = np.random.default_rng(0).random((30, 2, 3)).astype(np.float32)
    sums = attention.Sums()
    for part in np.array_split(np.arange(30), 4):
        sums[part[0]:part[-1] + 1] = found[part]
    assert sums.count == 30
    np.testing.assert_allclose(sums.moments, [found.mean(0), found.std(0)], rtol=1e-5)
