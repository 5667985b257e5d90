"""Low-rank updates: the formula, what they save, and that a merged model is the same one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import (
    apply_of,
    as_jax,
    at_rest,
    batch_of,
    config,
    encoded,
    equal,
    lively,
    losses_of,
    refused,
    result_of,
    shape,
    stop_after,
)

import flaxbert
from flaxbert import bert, evaluation, export, heads, lora, optimizers, pretrained, strategies, train, trees
from flaxbert.checkpoint import load_params
from flaxbert.config import Config
from flaxbert.steps import TrainState, make_train_step

LAYERS = 2
EVERY = tuple(lora.TARGETS)


def extended(layers=LAYERS, moved=True, **given):
    """A model, its parameters with updates beside the targets, and the same before; `moved`: B is not zero."""
    model = heads.SequenceModel(shape(layers), 3)
    plain = lively(heads.shapes(model))
    params = lora.extend(plain, Config.make(strategy="lora", lora_rank=2, **given))
    if moved:
        rng = np.random.default_rng(1)
        params = trees.map_named(lambda name, x: rng.normal(0, 0.3, x.shape).astype(np.float32)
                                 if name.endswith("lora_b") else x, params)
    return model, params, plain


def logits(model, params):
    _, batch = batch_of(encoded(8), range(8))
    return np.asarray(model.apply({"params": params}, as_jax(batch)))


# --- the formula

def test_a_dense_layer_adds_the_product_of_two_thin_matrices():
    rng = np.random.default_rng(0)
    sizes = (2, 3, 6), (6, 5), (5,), (6, 2), (2, 5)
    x, w, b, a, c = (rng.normal(size=size).astype(np.float32) for size in sizes)
    leaves = {"kernel": w, "bias": b, "lora_a": a, "lora_b": c, "lora_scale": np.array(4.0, np.float32)}
    got = bert.Dense(5, jnp.float32, 0.02).apply({"params": leaves}, x)
    np.testing.assert_allclose(got, x @ w + b + 4 * (x @ a @ c), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("strict_ranks")
def test_it_starts_as_the_model_was():
    model, params, plain = extended(moved=False, lora_targets=EVERY)
    np.testing.assert_array_equal(logits(model, params), logits(model, plain))


def test_leaves_stand_beside_the_targets_and_nowhere_else():
    for targets in (("query", "value"), ("mlp_output",), EVERY):
        _, params, plain = extended(lora_targets=targets, lora_alpha=8.0)
        flat, modules = trees.flatten(params), [lora.TARGETS[target] for target in targets]
        assert set(flat) - set(trees.flatten(plain)) == {
            f"bert/layer_{i}/{module}/lora_{leaf}" for i in range(LAYERS) for module in modules
            for leaf in ("a", "b", "scale")}
        for name in flat:
            if name.endswith("lora_a"):
                rows, columns = flat[name.replace("lora_a", "kernel")].shape
                assert flat[name].shape == (rows, 2)
                assert flat[name.replace("lora_a", "lora_b")].shape == (2, columns)
                assert flat[name.replace("lora_a", "lora_scale")] == 8 / 2


def test_a_is_normal_of_the_width_by_seed_and_leaf_and_b_is_zero():
    big = {"bert": {f"layer_{i}": {"attention": {"query": {"kernel": np.zeros((600, 300), np.float32)}}}
                    for i in range(2)}}
    drawn = [trees.flatten(lora.extend(big, Config.make(strategy="lora", lora_rank=200, seed=seed,
                                                        lora_targets=("query",)))) for seed in (0, 0, 1)]
    a = drawn[0]["bert/layer_0/attention/query/lora_a"]
    assert a.std() == pytest.approx((3 * 600) ** -0.5, rel=0.01)
    assert equal(drawn[0], drawn[1])
    assert not np.array_equal(a, drawn[2]["bert/layer_0/attention/query/lora_a"])
    assert not np.array_equal(a, drawn[0]["bert/layer_1/attention/query/lora_a"])
    assert not np.any(drawn[0]["bert/layer_0/attention/query/lora_b"])


def test_merged_it_is_the_same_model():
    model, params, plain = extended(lora_targets=EVERY)
    merged = lora.merge(params)
    assert not trees.mismatches(merged, plain)
    assert np.abs(logits(model, params) - logits(model, plain)).max() > 0.1
    for same in (model, model.clone(remat=True)):
        np.testing.assert_allclose(logits(same, params), logits(model, merged), rtol=0, atol=1e-5)
    flat = trees.flatten(params)
    module = "bert/layer_1/mlp/output"
    a, b = flat[f"{module}/lora_a"].astype(np.float64), flat[f"{module}/lora_b"].astype(np.float64)
    np.testing.assert_allclose(trees.flatten(merged)[f"{module}/kernel"],
                               flat[f"{module}/kernel"] + 16 / 2 * a @ b, rtol=1e-5, atol=1e-5)
    assert equal(lora.merge(plain), plain)


@pytest.mark.parametrize(("given", "said"), [
    (dict(lora_targets=("query", "pooler")),
     "--lora_targets=pooler: unknown; valid: query, key, value, output, intermediate, mlp_output"),
    (dict(lora_targets=()), "--lora_targets=: none; valid: query, key, value, output, intermediate, mlp_output"),
    (dict(lora_rank=17), "--lora_rank=17: bert/layer_0/attention/query/kernel is 16 x 16; valid: 1 to 16")])
def test_bad_settings_are_one_line(given, said):
    _, _, plain = extended()
    assert refused(lora.extend, plain, Config.make(strategy="lora", **given)) == said


# --- what it saves

def test_no_gradient_of_a_frozen_matrix_is_computed(record_property):
    """Three products a matrix and step become two: at most 0.75 of the compiled work of training all."""
    width = dict(hidden_size=64, intermediate_size=256, num_attention_heads=4, hidden_dropout_prob=0.0,
                 attention_probs_dropout_prob=0.0)
    model, flops = heads.SequenceModel(shape(4, **width), 2), {}
    _, batch = batch_of(encoded(64), range(64), multiple=32)
    for strategy in ("full", "lora"):
        c = Config.make(strategy=strategy, **({"lora_rank": 2} if strategy == "lora" else {}))
        params = trees.to_host(heads.init(model, 0))
        params = lora.extend(params, c) if strategy == "lora" else params
        trains = strategies.make(c, 4).trains(params)
        tx = strategies.wrap(optimizers.make(c, 10)[0], trains)
        step = make_train_step(apply_of(model), tx, optax.constant_schedule(1.0), heads.cross_entropy, trains)
        compiled = jax.jit(at_rest(step, trains)).lower(TrainState.start(params, tx, 0), batch).compile()
        flops[strategy] = compiled.cost_analysis()["flops"]
    record_property("share", float(flops["lora"] / flops["full"]))
    print(f"share of the work: {flops['lora'] / flops['full']:.3f}")
    assert 0.5 < flops["lora"] / flops["full"] < 0.75


# --- runs

LORA = dict(strategy="lora", lora_rank=4, lora_targets=("query", "value", "intermediate"), learning_rate=5e-3)


@pytest.fixture(scope="module")
def run(deep, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "run"
    train.finetune(config(deep, folder, epochs=2.0, save_every=5, **LORA))
    return folder


def test_a_run_trains_the_updates_alone(run, deep):
    start, end = pretrained.load(deep).params, trees.flatten(load_params(run, "last")[0])
    for name, leaf in trees.flatten({"bert": start["bert"]}).items():
        np.testing.assert_array_equal(end[name], leaf)
    moved = [name for name in end if name.endswith("lora_b")]
    assert len(moved) == 3 * 2
    assert all(np.any(end[name]) for name in moved)
    trained = sum(end[name].size for name in end if name.endswith(("lora_a", "lora_b"))
                  or not name.startswith("bert/"))
    assert result_of(run)["parameters_trained"] == trained


def test_a_run_goes_on_bitwise(run, deep, tmp_path):
    given = partial(config, deep, tmp_path / "parts", epochs=2.0, save_every=5, **LORA)
    stop_after(7, given())
    train.finetune(given(resume=True))
    assert losses_of(tmp_path / "parts") == losses_of(run)
    assert equal(load_params(tmp_path / "parts", "last")[0], load_params(run, "last")[0])


def test_a_run_is_a_plain_model_to_everybody_else(run, tmp_path):
    """Predicting, scoring, exporting, and starting anew from it see the merged weights."""
    loaded = pretrained.load(str(run))
    assert not any("lora" in name for name in trees.flatten(loaded.params))
    scores, result = evaluation.evaluate(str(run)), result_of(run)
    assert {name: scores[name] for name in ("loss", "accuracy")} == pytest.approx(
        {name: result["best"]["dev"][name] for name in ("loss", "accuracy")}, abs=1e-5)
    export.export(run, tmp_path / "exported")
    texts = ["The bread was not good.", "I liked the film.", "Nobody came."]
    for ours, theirs in zip(flaxbert.load(str(run))(texts), flaxbert.load(str(tmp_path / "exported"))(texts),
                            strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)
    again = train.finetune(config(str(run), tmp_path / "again", max_steps=2))
    assert again["status"] == "finished"


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_four_devices_equal_one(run, deep, tmp_path, how):
    train.finetune(config(deep, tmp_path / "run", **{**LORA, "epochs": 2.0, "devices": 4, "parallel": how},
                          checkpoints=False))
    four, one = losses_of(tmp_path / "run"), losses_of(run)
    assert max(abs(four[step] - one[step]) for step in one) < 1e-5
