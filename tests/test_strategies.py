"""What trains: names, frozen leaves that stay as they are, and what freezing saves."""

from functools import cache

import jax
import numpy as np
import optax
import pytest
from cases import ALIKE
from small import apply_of, as_jax, at_rest, batch_of, encoded, equal, lively, shape

from flaxbert import heads, lora, optimizers, rates, strategies, trees
from flaxbert.bert import RowDropout
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.steps import TrainState, make_train_step

pytestmark = pytest.mark.usefixtures("strict_ranks")
LAYERS = 3


def strategy_of(layers=LAYERS, **given):
    return strategies.make(Config.make(**given), layers)


def trained_parts(layers=LAYERS, **given):
    """The modules (embeddings, layer_i, pooler, head) of which some leaf, in fact every leaf, trains."""
    model = heads.SequenceModel(shape(layers), 2)
    params = heads.shapes(model)
    found = trees.flatten(strategy_of(layers, **given).trains(params))
    parts = {}
    for name, trains in found.items():
        parts.setdefault(name.split("/")[1 if name.startswith("bert/") else 0], set()).add(trains)
    assert all(len(values) == 1 for values in parts.values())
    return {part for part, values in parts.items() if True in values}


EVERYTHING = {"embeddings", "layer_0", "layer_1", "layer_2", "pooler", "head"}
ON_TOP = {"pooler", "head"}


@pytest.mark.parametrize(("given", "expected"), [
    (dict(), EVERYTHING),
    (dict(strategy="freeze", frozen_layers=0), EVERYTHING),
    (dict(frozen_layers=1), EVERYTHING - {"embeddings", "layer_0"}),
    (dict(frozen_layers=2), {"layer_2"} | ON_TOP),
    (dict(frozen_layers=3), ON_TOP),
    (dict(trained_layers=1), {"layer_2"} | ON_TOP),
    (dict(trained_layers=3), EVERYTHING - {"embeddings"}),
    (dict(strategy="head"), ON_TOP),
    (dict(strategy="features"), ON_TOP)])
def test_what_trains(given, expected):
    assert trained_parts(**given) == expected


@pytest.mark.parametrize(("strategy", "of_the_encoder"), [("bitfit", ("bias",)), ("lora", ("lora_a", "lora_b"))])
def test_what_trains_inside_modules(strategy, of_the_encoder):
    config = Config.make(strategy=strategy)
    params = heads.init(heads.SequenceModel(shape(LAYERS), 2), 0)
    params = lora.extend(params, config) if strategy == "lora" else params
    found = trees.flatten(strategies.make(config, LAYERS).trains(params))
    kept = ("bert/", "pooler/") if strategy == "bitfit" else ("bert/",)
    assert {name for name, trains in found.items() if trains} == {
        name for name in found if not name.startswith(kept) or name.split("/")[-1] in of_the_encoder}
    # Of BitFit: 2 of the embeddings' LayerNorm and 8 a layer, with q, k, v, o, two of the MLP and two LayerNorms.
    count = sum(trains for name, trains in found.items() if name.startswith("bert/"))
    assert count == {"bitfit": 1 + 8 * LAYERS, "lora": 2 * 2 * LAYERS}[strategy]


@pytest.mark.parametrize(("given", "frozen"), [
    (dict(), -1), (dict(strategy="freeze"), -1), (dict(frozen_layers=1), 1), (dict(frozen_layers=3), 3),
    (dict(trained_layers=1), 2), (dict(trained_layers=3), 0), (dict(strategy="head"), 3),
    (dict(strategy="features"), 3), (dict(strategy="bitfit"), -1), (dict(strategy="lora"), -1)])
def test_the_prefix_that_never_changes(given, frozen):
    assert strategy_of(**given).frozen_prefix == frozen


def test_layers_above_the_last_one_read_do_not_train():
    trains = strategies.reached(trees.map_named(lambda *_: True, jax.eval_shape(
        lambda: heads.init(heads.SequenceModel(shape(12), 2), 0))), 2)
    assert {name.split("/")[1] for name, yes in trees.flatten(trains).items() if yes and name.startswith("bert/")
            } == {"embeddings", "layer_0", "layer_1"}
    assert trains["head"]["kernel"]


def test_a_random_pooler_is_not_left_as_it_is():
    params = heads.init(heads.SequenceModel(shape(LAYERS), 2), 0)
    for strategy in ("full", "head", "lora"):
        strategies.check_new(Config.make(), strategy_of(strategy=strategy).trains(
            lora.extend(params, Config.make(strategy="lora"))), {"pooler", "head"})
    trains = strategy_of(strategy="bitfit").trains(params)
    strategies.check_new(Config.make(strategy="bitfit"), trains, {"head"})
    with pytest.raises(InputError, match="--strategy=bitfit: --model=bundled has no pooler"):
        strategies.check_new(Config.make(strategy="bitfit"), trains, {"pooler", "head"})


def test_layer_1_is_not_layer_10():
    assert trained_parts(12, frozen_layers=2) == {f"layer_{i}" for i in range(2, 12)} | {"pooler", "head"}
    assert trained_parts(12, frozen_layers=11) == {"layer_11", "pooler", "head"}


@pytest.mark.parametrize(("given", "line"), [
    (dict(frozen_layers=4), "--frozen_layers=4: the head stands on 3 layers; valid: 0 to 3"),
    (dict(strategy="full", frozen_layers=1), "--frozen_layers=1: needs --strategy=freeze, not full"),
    (dict(strategy="head", frozen_layers=1), "--frozen_layers=1: needs --strategy=freeze, not head"),
    (dict(strategy="half"), "--strategy=half: unknown; valid: full, freeze, head, features, last_n, bitfit, lora"),
    (dict(strategy="last_n"), "--trained_layers=0: the head stands on 3 layers; last_n trains 1 or more"),
    (dict(trained_layers=4), "--trained_layers=4: the head stands on 3 layers; last_n trains 1 or more"),
    (dict(frozen_layers=1, trained_layers=1), "--trained_layers=1: needs --strategy=last_n, not freeze"),
    (dict(lora_rank=4), "--lora_rank=4: needs --strategy=lora, not full"),
    (dict(frozen_dropout=True), "--frozen_dropout: nothing is frozen from the embeddings up with --strategy=full; "
     "leave it out"),
    (dict(strategy="bitfit", lora_alpha=1.0), "--lora_alpha=1.0: needs --strategy=lora, not bitfit"),
    (dict(lora_targets=("key", "output")), "--lora_targets=key,output: needs --strategy=lora, not full")])
def test_bad_strategies_are_refused_in_one_line(given, line):
    with pytest.raises(InputError) as caught:
        strategy_of(**given)
    assert str(caught.value) == line


def test_strategies_that_would_do_nothing_say_so(capsys):
    with pytest.raises(InputError, match="the head stands on the embeddings alone"):
        strategy_of(layers=0, strategy="lora")
    strategy_of(strategy="freeze")
    assert "everything trains; say with --frozen_layers how many layers do not" in capsys.readouterr().err


# --- steps

@cache
def program(frozen_layers, strategy="freeze", frozen_dropout=False, clip_norm=1.0):
    """A compiled step of AdamW, its first state and a batch."""
    config = Config.make(strategy=strategy, frozen_layers=frozen_layers, learning_rate=1e-2, warmup=0.0,
                         schedule="constant", clip_norm=clip_norm)
    made = strategies.make(config, LAYERS)
    model = heads.SequenceModel(shape(LAYERS), 3, frozen_prefix=-1 if frozen_dropout else made.frozen_prefix)
    params = lively(heads.shapes(model))
    trains = made.trains(params)
    optimizer, schedule = optimizers.make(config, 10)
    optimizer = strategies.wrap(optimizer, trains)
    step = make_train_step(apply_of(model), optimizer, schedule, heads.cross_entropy, trains)
    _, batch = batch_of(encoded(8), range(8), multiple=4, slots=6)
    step = jax.jit(at_rest(step, trains))
    return step, TrainState.start(params, optimizer, 0), batch, trains


@pytest.mark.parametrize(("k", "strategy"), [(2, "freeze"), (0, "head"), (0, "bitfit")])
def test_frozen_leaves_stay_bitwise_and_the_others_move(k, strategy):
    step, state, batch, trains = program(k, strategy)
    after = state
    for _ in range(4):
        after, _ = step(after, batch)
    chosen, rest = (trees.flatten(each) for each in trees.split(jax.device_get(after.params), trains))
    old = trees.flatten(state.params)
    assert rest
    assert all(np.array_equal(leaf, old[name]) for name, leaf in rest.items())
    for name, leaf in chosen.items():
        # A constant added to all scores of a token is nothing to softmax: the key's bias may rest.
        assert not np.array_equal(leaf, old[name]) or name.endswith("key/bias"), name


@pytest.mark.parametrize("given", [
    dict(), dict(frozen_layers=2), dict(trained_layers=1), dict(strategy="head"), dict(strategy="features"),
    dict(strategy="bitfit"), dict(strategy="lora"), dict(frozen_layers=1, layerwise_decay=0.9),
    dict(strategy="bitfit", unfreeze="gradual")], ids=str)
def test_the_optimizers_memory_is_that_of_what_trains(given):
    config = Config.make(**given)
    params = heads.init(heads.SequenceModel(shape(LAYERS), 2), 0)
    params = lora.extend(params, config) if config.strategy == "lora" else params
    trains = strategies.make(config, LAYERS).trains(params)
    each = rates.make(config, LAYERS, 5)
    optimizer = strategies.wrap(optimizers.make(config, 100, each)[0], trains)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(optimizer.init, params)))
    moments = 2 * 4 * trees.count(params, trains)
    assert moments <= held <= moments + 4 * 4 * max(1, len(each))  # and four counters for each part
    assert given == {} or trees.count(params, trains) < trees.count(params) * 0.9


def test_gradient_norm_and_clipping_see_the_trained_leaves_alone():
    """With dropout off in the frozen part and the same key, the trained gradients equal those of training all."""
    step, state, batch, trains = program(2, clip_norm=1e-3)
    model = heads.SequenceModel(shape(LAYERS), 3, frozen_prefix=2)

    def gradient(params):
        def loss(params):
            key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 0)
            logits = model.apply({"params": params}, batch, RowDropout(key, batch["row"]))
            return (heads.cross_entropy(logits, batch) * batch["weights"]).sum() / batch["weights"].sum()
        return jax.grad(loss)(params)
    grads = jax.jit(gradient)(state.params)
    trained = trees.split(grads, trains)[0]
    after, metrics = step(state, batch)
    norm, whole = float(optax.global_norm(trained)), float(optax.global_norm(grads))
    assert whole > 1.02 * norm
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    # Adam's first moment after one step is 0.1 of the clipped gradient.
    states = jax.tree.leaves(after.opt_state, is_leaf=lambda s: hasattr(s, "mu"))
    adam = next(s for s in states if hasattr(s, "mu"))
    assert float(optax.global_norm(adam.mu)) == pytest.approx(0.1 * 1e-3, rel=1e-4)


def test_freezing_nothing_equals_full():
    (step, state, batch, _), (full, full_state, _, _) = program(0), program(0, "full")
    assert equal(state.params, full_state.params)
    (after, metrics), (other, other_metrics) = step(state, batch), full(full_state, batch)
    assert equal(jax.device_get(after.params), jax.device_get(other.params))
    assert equal(jax.device_get(metrics), jax.device_get(other_metrics))


def test_frozen_layers_run_without_dropout_unless_asked():
    _, batch = batch_of(encoded(8), range(8))
    batch = as_jax(batch)

    def states(frozen_layers):
        model = heads.SequenceModel(shape(LAYERS), 3, frozen_prefix=frozen_layers)
        params = lively(heads.shapes(model))
        dropout = RowDropout(jax.random.key(0), batch["row"])
        run = jax.jit(lambda d: model.apply({"params": params}, batch, d, method=lambda m, b, d: m.bert(b, d)),
                      compiler_options=ALIKE)
        return run(None), run(dropout)
    still, frozen = states(2)
    for i in range(3):  # embeddings and two layers
        np.testing.assert_array_equal(frozen[i], still[i])
    assert not np.array_equal(frozen[3], still[3])
    still, embeddings = states(0)
    np.testing.assert_array_equal(embeddings[0], still[0])
    assert not np.array_equal(embeddings[1], still[1])
    still, lively_all = states(-1)
    assert not np.array_equal(lively_all[0], still[0])


def test_frozen_dropout_is_on_when_asked():
    step, state, batch, _ = program(LAYERS, frozen_dropout=True)
    still, still_state, _, _ = program(LAYERS)
    assert equal(state.params, still_state.params)
    assert float(step(state, batch)[1]["loss"]) != float(still(still_state, batch)[1]["loss"])


def test_no_backward_pass_runs_through_a_frozen_prefix(record_property):
    """Work of a step as it is traced: freezing 8 of 12 layers costs at most 0.62 of training all."""
    width = dict(hidden_size=64, intermediate_size=256, num_attention_heads=4)
    flops = {}
    for k in (0, 8):
        config = Config.make(frozen_layers=k, dropout=0.0)
        made = strategies.make(config, 12)
        model = heads.SequenceModel(shape(12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **width),
                                    2, frozen_prefix=made.frozen_prefix)
        params = heads.shapes(model)
        optimizer = strategies.wrap(optimizers.make(config, 10)[0], made.trains(params))
        step = make_train_step(apply_of(model), optimizer, optax.constant_schedule(1.0), heads.cross_entropy,
                               made.trains(params))
        step = at_rest(step, made.trains(params))
        state = jax.eval_shape(lambda params, optimizer=optimizer: TrainState(
            jax.numpy.int32(0), params, optimizer.init(params), jax.random.key_data(jax.random.key(0))), params)
        _, batch = batch_of(encoded(64), range(64), multiple=32)
        flops[k] = jax.jit(step).lower(state, batch).cost_analysis()["flops"]
    record_property("share", float(flops[8] / flops[0]))
    print(f"share of the work: {flops[8] / flops[0]:.3f}")
    assert flops[8] / flops[0] <= 0.62
    assert flops[8] / flops[0] > 0.4  # the forward pass is still there
