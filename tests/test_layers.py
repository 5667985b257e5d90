"""Which layers a head reads, how they are mixed, and that no other layer is run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import worst_gradient
from small import as_jax, batch_of, encoded, lively, refused, shape, units

from flaxbert import heads, trees
from flaxbert.bert import RowDropout
from flaxbert.config import Config
from flaxbert.heads import HeadConfig
from flaxbert.heads.layers import Mix, Mixing, normalised, parse

pytestmark = pytest.mark.usefixtures("strict_ranks")
SEQUENCE = np.array([[1, 1, 1, 2, 2, 0], [0, 1, 2, 2, 2, 2]], np.int32)


# --- --layers

@pytest.mark.parametrize(("text", "layers", "how"), [
    ("embeddings", (0,), "concat"), ("last", (12,), "concat"), ("second_to_last", (11,), "concat"),
    ("sum_last4", (9, 10, 11, 12), "sum"), ("concat_last4", (9, 10, 11, 12), "concat"),
    ("sum_all", tuple(range(1, 13)), "sum"), ("scalar_mix", tuple(range(13)), "scalar_mix"),
    ("4", (4,), "concat"), ("8,0,12", (8, 0, 12), "concat")])
def test_names_and_numbers_of_layers(text, layers, how):
    assert parse(text, 12) == (layers, how)


@pytest.mark.parametrize(("text", "count", "said"), [
    ("4,13", 12, "--layers=4,13: the model has no layer 13; valid: 0 (the embeddings) to 12"),
    ("-1", 12, "--layers=-1: the model has no layer -1; valid: 0 (the embeddings) to 12"),
    ("4,8,4", 12, "--layers=4,8,4: layer 4 twice; give each number once, from 0 to 12"),
    ("sum_last4", 3, "--layers=sum_last4: the model has 3 layers; valid with 4 or more"),
    ("second_to_last", 1, "--layers=second_to_last: the model has 1 layers; valid with 2 or more"),
    ("top", 2, "--layers=top: unknown; valid: embeddings, last, second_to_last, sum_last4, concat_last4, sum_all, "
               "scalar_mix, or numbers from 0 to 2 with commas between"),
    ("1,,2", 2, "--layers=1,,2: unknown; valid: ")])
def test_wrong_layers_are_refused(text, count, said):
    assert refused(parse, text, count).startswith(said)


# --- the head that the settings describe

def head_of(kind="classification", **given):
    """Of a task of pairs, on four layers."""
    return HeadConfig.of(Config.make(**given), kind, True, 4)


def test_defaults_are_berts_own_head():
    for kind in heads.MODELS:
        assert head_of(kind) == HeadConfig()
    assert head_of(layers="4") == HeadConfig()  # of four layers the last


@pytest.mark.parametrize(("given", "pooling"), [
    (dict(strategy="head"), "pooler"), (dict(head="mlp"), "pooler"), (dict(strategy="features"), "mean"),
    (dict(layers="sum_all"), "mean"), (dict(head="bilstm"), "mean"), (dict(pair="separate"), "mean"),
    (dict(layers="sum_all", pooling="pooler"), "pooler"), (dict(strategy="features", pooling="max"), "max")])
def test_automatic_pooling(given, pooling):
    assert head_of(**given).pooling == pooling


@pytest.mark.parametrize(("kind", "given", "said"), [
    ("classification", dict(layers="5"), "--layers=5: the model has no layer 5; valid: 0 (the embeddings) to 4"),
    ("classification", dict(crf=True), "--crf=true: only for tasks that label words; leave it out"),
    ("token", dict(crf=True, class_weights=(1.0, 2.0)), "--crf=true: its labels have no weights"),
    ("token", dict(pooling="max"), "--pooling=max: this task asks for tokens, not for whole texts"),
    ("span", dict(pooling="cls"), "--pooling=cls: this task asks for tokens, not for whole texts"),
    ("choice", dict(pair="separate"), "--pair=separate: only for classes and scores of pairs"),
    ("span", dict(pair="separate"), "--pair=separate: only for classes and scores of pairs"),
    ("choice", dict(pooling="pooler", layers="concat_last4"), "--pooling=pooler: BERT's own reads one state of "),
    ("regression", dict(pooling="pooler", head="bilstm"), "--pooling=pooler: BERT's own reads one state of "),
    ("token", dict(head_width=8), "--head_width=8: needs --head=mlp or bilstm"),
    ("token", dict(head="mlp", head_layers=3), "--head_layers=3: needs --head=bilstm"),
    ("pretraining", dict(layers="sum_all"), "--layers=sum_all: pre-training has heads of its own; leave it out"),
    ("pretraining", dict(pooling="mean"), "--pooling=mean: pre-training has heads of its own; leave it out")])
def test_heads_that_a_task_cannot_take_are_refused(kind, given, said):
    assert refused(head_of, kind, **given).startswith(said)


def test_single_texts_are_no_pairs():
    said = refused(HeadConfig.of, Config.make(pair="separate"), "classification", False, 4)
    assert said == "--pair=separate: only for classes and scores of pairs; leave it out"


@pytest.mark.parametrize(("name", "value"), [("head", "tree"), ("pooling", "sum"), ("pair", "both"),
                                              ("head_layers", 0), ("head_width", -1)])
def test_values_outside_their_range_are_refused(name, value):
    assert refused(Config.make, **{name: value}).startswith(f"--{name}={value}: ")


# --- mixes

def mixed(how, states, norm=False, **params):
    mix = Mix(Mixing(tuple(range(len(states))), how), norm, jnp.float32)
    made = mix.init(jax.random.key(0), states, SEQUENCE).get("params", {})
    return np.asarray(mix.apply({"params": {**made, **params}}, states, SEQUENCE)), made


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(0)
    return [rng.normal(n, n + 1, size=(*SEQUENCE.shape, 4)).astype(np.float32) for n in range(3)]


def test_mixes_follow_their_formulas(states):
    weights, gamma = np.array([0.3, -1.0, 2.0], np.float32), np.float32(1.7)
    shares = np.exp(weights) / np.exp(weights).sum()
    by_hand = sum(share * state for share, state in zip(shares, states, strict=True))
    plain, made = mixed("sum", states)
    np.testing.assert_allclose(plain, np.mean(states, axis=0), atol=1e-6)
    np.testing.assert_array_equal(made["weights"], [0, 0, 0])
    np.testing.assert_allclose(mixed("sum", states, weights=weights)[0], by_hand, atol=1e-5)
    plain, made = mixed("scalar_mix", states)
    np.testing.assert_allclose(plain, np.mean(states, axis=0), atol=1e-6)
    assert made["gamma"] == 1
    np.testing.assert_allclose(mixed("scalar_mix", states, weights=weights, gamma=gamma)[0], gamma * by_hand,
                               atol=1e-5)
    side_by_side, made = mixed("concat", states)
    np.testing.assert_array_equal(side_by_side, np.concatenate(states, -1))
    assert made == {}


def test_a_normalised_layer_is_that_of_each_sequence_alone(states):
    got = np.asarray(normalised(states[2], SEQUENCE))
    for row, number in ((0, 1), (0, 2), (1, 1), (1, 2)):
        mine = SEQUENCE[row] == number
        own = states[2][row, mine].astype(np.float64)
        np.testing.assert_allclose(got[row, mine], (own - own.mean()) / own.std(), atol=1e-5)
        other = np.where((np.arange(2) == row)[:, None, None] & mine[None, :, None], states[2], 100.0)
        np.testing.assert_array_equal(normalised(other.astype(np.float32), SEQUENCE)[row, mine], got[row, mine])
    np.testing.assert_array_equal(got[SEQUENCE == 0], 0)
    np.testing.assert_allclose(mixed("sum", states, norm=True)[0],
                               np.mean([normalised(state, SEQUENCE) for state in states], axis=0), atol=1e-6)


# --- which layers run

DEPTH = 3


def model_of(kind="token", depth=DEPTH, dropout=0.1, cached=(), frozen_prefix=-1, **top):
    settings = shape(depth, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return heads.MODELS[kind](settings, 1 if kind == "choice" else 2, frozen_prefix=frozen_prefix,
                              top=HeadConfig(**top), cached=cached)


def params_of(model):
    return lively(heads.shapes(model))


@functools.cache
def program(model):
    return jax.jit(lambda params, batch: model.apply({"params": params}, batch))


@functools.cache
def states_program(model, key):
    """All layers' states; with dropout where there is a key."""
    def states(params, batch):
        dropout = None if key is None else RowDropout(jax.random.key(key), batch["row"])
        return model.apply({"params": params}, batch, method=lambda m, b: m.bert(b, dropout))
    return jax.jit(states)


@pytest.fixture(scope="module")
def batch():
    """Six sequences in packed rows."""
    return as_jax(batch_of(encoded(6), range(6))[1])


def spoilt(params, layers, embeddings=False):
    """The parameters with NaN in some of the encoder's layers."""
    names = tuple(f"bert/layer_{i}/" for i in layers) + ("bert/embeddings/",) * embeddings
    return trees.map_named(lambda name, x: x * np.nan if name.startswith(names) else x, params)


@pytest.mark.parametrize(("layers", "highest"), [("embeddings", 0), ("second_to_last", 2), ("0,1", 1)])
def test_no_layer_above_the_last_one_that_is_read_is_computed(layers, highest, batch):
    model = model_of(layers=layers)
    params = params_of(model)
    assert {f"layer_{i}" for i in range(DEPTH)} < set(params["bert"]), "all of the encoder is there"
    assert model.reads[-1] == highest
    got = program(model)(spoilt(params, range(highest, DEPTH)), batch)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got, program(model)(params, batch))
    if highest:
        assert np.isnan(program(model)(spoilt(params, [highest - 1]), batch)).any()


@pytest.mark.parametrize(("layers", "cached"), [
    ("last", (1,)), ("last", (0,)), ("last", (3,)), ("scalar_mix", (0, 1)), ("scalar_mix", (0, 1, 2, 3)),
    ("3,1", (1, 2)), ("embeddings", (0,))])
def test_from_cached_states_on_it_is_the_same(layers, cached, batch):
    model = model_of(layers=layers)
    params = params_of(model)
    states = states_program(model_of(), None)(params, batch)
    short = {name: x for name, x in batch.items() if name not in ("tokens", "types", "positions")}
    got = program(model.clone(cached=cached))(spoilt(params, range(cached[-1]), embeddings=True),
                                              {**short, "hidden": jnp.stack([states[n] for n in cached], axis=2)})
    np.testing.assert_allclose(got, program(model)(params, batch), atol=1e-6)


def test_embeddings_and_k_frozen_prefix_run_without_dropout(batch):
    params = params_of(model_of())
    still = states_program(model_of(), None)(params, batch)
    for frozen_prefix in (-1, 0, 1, DEPTH):
        for n, state in enumerate(states_program(model_of(frozen_prefix=frozen_prefix), 0)(params, batch)):
            assert np.array_equal(state, still[n]) == (n <= frozen_prefix), (frozen_prefix, n)


# --- every head on every kind of task

def examples_of(kind, top):
    """Eight examples with labels of the kind."""
    if kind == "choice" or top.get("pair") == "separate":
        return units(8, most=2, alike=True)
    split, rng = encoded(8, outputs=2), np.random.default_rng(1)
    count = len(split.tokens)
    others = {"token": dict(labels=rng.integers(0, 2, count), weights=rng.random(count) < 0.6),
              "span": dict(labels=np.tile([0, 2], (8, 1)), weights=split.weights)}.get(kind)
    return dataclasses.replace(split, labelled=kind, labels=others["labels"].astype(np.int32),
                               weights=others["weights"].astype(np.float32)) if others else split


HEADS = [
    ("classification", dict(layers="scalar_mix", mix_layer_norm=True, head="bilstm", head_width=3, pooling="max")),
    ("multi_label", dict(layers="0,2", head="mlp", head_width=9, pooling="attention")),
    ("regression", dict(layers="sum_all", head="mlp", pooling="mean", pair="separate")),
    ("choice", dict(layers="second_to_last", head="bilstm", pooling="attention")),
    ("span", dict(layers="sum_all", head="bilstm", head_layers=1)),
    ("span", dict(layers="0,1", head="mlp")),
    ("token", dict(layers="embeddings", head="bilstm", crf=True)),
    ("token", dict(layers="scalar_mix", head="mlp"))]


@pytest.mark.parametrize(("kind", "top"), HEADS)
def test_packed_equals_unpacked_in_loss_and_gradient(kind, top):
    outputs = 1 if kind == "regression" else 2
    model, split = model_of(kind, depth=2, dropout=0.0, **top).clone(outputs=outputs), examples_of(kind, top)
    if kind == "multi_label":
        split = dataclasses.replace(split, labels=np.eye(2, dtype=np.float32)[split.labels])
    if kind == "choice":
        model = model.clone(outputs=1)
    params = params_of(model)

    @jax.jit
    def compute(params, batch):
        def loss(params):
            losses = heads.loss(kind, chain=top.get("crf", False))(model.apply({"params": params}, batch), batch)
            return (losses * batch["weights"]).sum() / batch["weights"].sum()
        return jax.value_and_grad(loss)(params)
    (loss, grads), (other, others) = (
        compute(params, as_jax(batch_of(split, range(8), packed=packed, multiple=8, slots=4)[1]))
        for packed in (True, False))
    assert float(loss) == pytest.approx(float(other), abs=1e-5)
    assert worst_gradient(trees.flatten(grads), trees.flatten(others))[0] < 1
    for part in params:
        assert max(np.abs(g).max() for g in jax.tree.leaves(grads[part])) > 0, part


def test_the_sites_of_dropout_are_all_different():
    """Every mask of a forward pass has a key of its own, whatever stands on the encoder."""
    seen = []

    class Spy(RowDropout):
        def keys(self, sites):
            seen.extend(np.ravel(sites).tolist())
            return super().keys(sites)
    arrays = as_jax(batch_of(encoded(4), range(4))[1])
    for top, more in ((dict(head="bilstm", head_layers=3), 3), (dict(head="mlp"), 1)):
        model = model_of(**top)
        params = params_of(model)
        seen.clear()
        jax.eval_shape(lambda model=model, params=params: model.apply(
            {"params": params}, arrays, Spy(jax.random.key(0), arrays["row"])))
        assert len(seen) == len(set(seen)) == 1 + 3 * DEPTH + 1 + more


def test_bfloat16_is_near_and_remat_is_the_same(batch):
    model = model_of("classification", depth=2, layers="scalar_mix", mix_layer_norm=True, head="bilstm",
                     pooling="attention")
    params, real = params_of(model), np.asarray(batch["weights"]) > 0
    exact = program(model)(params, batch)
    near = program(model.clone(dtype=jnp.bfloat16))(params, batch)
    assert near.dtype == jnp.float32
    assert 0 < np.abs(near - exact)[real].max() < 0.1
    np.testing.assert_allclose(program(model.clone(remat=True))(params, batch), exact, atol=1e-5)
