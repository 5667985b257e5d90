"""Rates by depth, unfreezing, decay to the start, mixout, re-initialisation: by their formulas, and together."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import at_rest, config, equal, losses_of, refused, result_of, shape, stop_after

from flaxbert import optimizers, parallel, prepare, rates, remedies, strategies, train, trees
from flaxbert.checkpoint import Checkpoints, load_params
from flaxbert.config import Config
from flaxbert.steps import TrainState, make_train_step

LAYERS, EPOCH, STEPS = 2, 3, 14
SHAPES = {"bert/embeddings/word/embedding": (7, 3), "bert/embeddings/layer_norm/scale": (3,),
          "bert/layer_0/mlp/output/kernel": (3, 5), "bert/layer_0/mlp/output/bias": (5,),
          "bert/layer_1/mlp/output/kernel": (3, 5), "bert/layer_1/mlp/layer_norm/bias": (5,),
          "pooler/kernel": (4, 4), "head/kernel": (4, 2), "head/bias": (2,)}
DEPTHS = {"embeddings": 3, "layer_0": 2, "layer_1": 1}  # of the others 0


def depth(name):
    return DEPTHS.get(name.split("/")[1], 0)


def draw(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return trees.unflatten({name: (scale * rng.normal(size=size)).astype(np.float32)
                            for name, size in SHAPES.items()})


# --- a model whose loss is <c, W> on average over its rows, so that its gradient is c, and the step around it

SLOPES = draw(1)


def linear(params, batch, dropout):
    """[R, 1]: of each row x, x <c, W>."""
    inner = sum(jnp.vdot(c, w) for c, w in zip(jax.tree.leaves(SLOPES), jax.tree.leaves(params), strict=True))
    return batch["x"] * inner


BATCH = {"x": np.linspace(0.5, 1.5, 8, dtype=np.float32)[:, None], "weights": np.ones((8, 1), np.float32),
         "row": np.arange(8, dtype=np.int32)}


def ready(given, params, trained=lambda name: True, anchor=None):
    """(step function of (micro, axis), first state) of a run of STEPS steps."""
    c = Config.make(**{"learning_rate": 0.1, "warmup": 0.2, **given})
    each = rates.make(c, LAYERS, EPOCH)
    trains = trees.map_named(lambda name, _: trained(name), params)
    tx, schedule = optimizers.make(c, STEPS, each)
    tx = strategies.wrap(tx, trains)
    anchor = anchor or remedies.anchor(c, params, trains)

    def step(micro=1, axis=None):
        made = make_train_step(linear, tx, schedule, lambda logits, batch: logits, trains, micro, axis,
                               rates.begins(each, params), remedies.perturbation(c))
        return at_rest(made, trains, anchor)
    return step, TrainState.start(params, tx, c.seed)


def in_float64(given, params, steps, trained=lambda name: True):
    """Parameters and norms after each step, written out from the papers; gradients are the slopes."""
    d = {"discriminative": 1 / 2.6}.get(given.get("unfreeze"), given.get("layerwise_decay", 1.0))
    epoch = EPOCH if given.get("unfreeze") == "gradual" else 0
    wd, toward = given.get("weight_decay", 0.01), given.get("pretrained_decay", 0.0)
    p = {name: x.astype(np.float64) for name, x in trees.flatten(params).items()}
    first, m, v = dict(p), dict.fromkeys(p, 0.0), dict.fromkeys(p, 0.0)
    warm, states, norms = int(0.2 * STEPS), [], []
    for s in range(steps):
        now = {name: x.astype(np.float64) for name, x in trees.flatten(SLOPES).items()
               if trained(name) and s >= epoch * depth(name)}
        norm = math.sqrt(sum((g**2).sum() for g in now.values()))
        peak = 0.1 * (s / warm if s < warm else (STEPS - s) / (STEPS - warm))
        for name, g in now.items():
            g, t = g / max(norm, 1), s - epoch * depth(name) + 1
            m[name], v[name] = 0.9 * m[name] + 0.1 * g, 0.999 * v[name] + 0.001 * g**2
            u = m[name] / (1 - 0.9**t) / (np.sqrt(v[name] / (1 - 0.999**t)) + 1e-8)
            rate = peak * d ** depth(name)
            old, new = p[name], p[name] - rate * u
            decayed = new if given.get("decay_updated_weights") else old
            if name.endswith("bias") or "layer_norm" in name:
                p[name] = new
            elif toward and name.startswith(("bert/", "pooler/")):
                p[name] = new - rate * toward * (decayed - first[name])
            else:
                p[name] = new - rate * wd * decayed
        states.append(dict(p))
        norms.append(norm)
    return states, norms


TOGETHER = dict(unfreeze="gradual", layerwise_decay=0.7, pretrained_decay=0.3, weight_decay=0.2)
CASES = [dict(weight_decay=0.2), dict(layerwise_decay=0.8, weight_decay=0.2), dict(unfreeze="discriminative"),
         dict(unfreeze="gradual", weight_decay=0.2), dict(pretrained_decay=0.3), TOGETHER]


@pytest.mark.usefixtures("strict_ranks")
@pytest.mark.parametrize("updated", [False, True])
@pytest.mark.parametrize("given", CASES, ids=lambda given: "+".join(given))
@pytest.mark.parametrize("frozen", ["", "bert/(embeddings|layer_0)/.*"], ids=["full", "freeze"])
def test_steps_follow_the_formulas(given, updated, frozen):
    """Rates, clipping, moments, bias corrections, both decays in both variants, over a whole run."""
    given, params = {**given, "decay_updated_weights": updated}, draw(0)

    def trained(name):
        return not re.fullmatch(frozen, name)
    step, state = ready(given, params, trained)
    step, steps = jax.jit(step()), 12
    want, norms = in_float64(given, params, steps, trained)
    for s in range(steps):
        state, metrics = step(state, BATCH)
        assert float(metrics["grad_norm"]) == pytest.approx(norms[s], rel=1e-5)
        for name, leaf in trees.flatten(state.params).items():
            np.testing.assert_allclose(leaf, want[s][name], rtol=0, atol=3e-6, err_msg=f"step {s}: {name}")


def test_what_has_not_begun_is_bitwise_untouched():
    params = draw(0)
    step, state = ready(TOGETHER, params)
    step = jax.jit(step())
    for s in range(3 * EPOCH + 1):
        before, (state, _) = state, step(state, BATCH)
        moments = [trees.flatten(each) for each in _moments(state)]
        for name, leaf in trees.flatten(state.params).items():
            begun = s >= EPOCH * depth(name)
            # the first step of all has learning rate 0
            assert np.array_equal(leaf, trees.flatten(before.params)[name]) == (not begun or s == 0), (s, name)
            assert any(np.any(each[name]) for each in moments if name in each) == begun, (s, name)


def _moments(state):
    """The trees of first moments, one a part."""
    found = jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu"))
    return [trees.unflatten({name: leaf for name, leaf in trees.flatten(x.mu).items() if hasattr(leaf, "shape")})
            for x in found if hasattr(x, "mu")]


# --- every optimizer

def moved(tx, params, gradients, anchor=None):
    state = tx.init(params)
    tx = optax.with_extra_args_support(tx)
    for g in gradients:
        updates, state = tx.update(g, state, params, anchor=anchor)
        params = optax.apply_updates(params, updates)
    return params


def only(tree, wanted):
    return trees.unflatten({name: x for name, x in trees.flatten(tree).items() if depth(name) == wanted})


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("unfreeze", ["none", "gradual"])
def test_a_part_trains_as_if_alone_at_its_own_rate_from_its_own_start(name, unfreeze):
    base = dict(optimizer=name, learning_rate=0.01, schedule="constant", warmup=0.0, clip_norm=0.0,
                weight_decay=0.2)
    c = Config.make(**base, layerwise_decay=0.5, unfreeze=unfreeze)
    params, gradients = draw(0), [draw(10 + s, 0.1) for s in range(5)]
    each = rates.make(c, LAYERS, 1)
    begins = rates.begins(each, params) or trees.map_named(lambda *_: 0, params)
    shown = [jax.tree.map(lambda x, start, s=s: x * (s >= start), g, begins) for s, g in enumerate(gradients)]
    together = moved(optimizers.make(c, 10, each)[0], params, shown)
    for k in range(4):
        alone = optimizers.make(Config.make(**{**base, "learning_rate": 0.01 * 0.5**k}), 10)[0]
        own = [only(g, k) for g in gradients[k if unfreeze == "gradual" else 0:]]
        want = moved(alone, only(params, k), own)
        for leaf, value in trees.flatten(want).items():
            np.testing.assert_allclose(trees.flatten(together)[leaf], value, rtol=1e-6, atol=1e-7, err_msg=leaf)
            assert not np.array_equal(value, trees.flatten(params)[leaf])


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_pretrained_decay_takes_the_place_of_weight_decay_in_the_encoder(name):
    base = dict(optimizer=name, learning_rate=0.01, schedule="constant", warmup=0.0)
    params, start, gradient = draw(0), draw(2), draw(3, 0.1)

    def after(**given):
        tx, _ = optimizers.make(Config.make(**base, **given), 10)
        return trees.flatten(moved(tx, params, [gradient], start))
    got = after(weight_decay=0.2, pretrained_decay=0.3)
    plain, decayed = after(weight_decay=0.0), after(weight_decay=0.2)
    for leaf, value in got.items():
        old, first = trees.flatten(params)[leaf], trees.flatten(start)[leaf]
        held = leaf.startswith(("bert/", "pooler/")) and leaf.endswith(("kernel", "embedding"))
        want = plain[leaf] - 0.01 * 0.3 * (old - first) if held else decayed[leaf]
        np.testing.assert_allclose(value, want, rtol=1e-6, atol=1e-7, err_msg=leaf)


# --- rates

def test_rates_by_depth():
    each = rates.make(Config.make(layerwise_decay=0.9), 12, 100)
    assert list(each) == ["head", *(f"layer_{i}" for i in range(11, -1, -1)), "embeddings"]
    assert each["head"] == (1.0, 0)
    assert each["layer_11"].share == pytest.approx(0.9)  # not ELECTRA's 0.81
    assert each["layer_0"].share == pytest.approx(0.9**12)
    assert each["embeddings"].share == pytest.approx(0.9**13)
    paper = rates.make(Config.make(unfreeze="discriminative"), 2, 100)
    assert [each.share for each in paper.values()] == pytest.approx([1, 1 / 2.6, 1 / 2.6**2, 1 / 2.6**3])
    gradual = rates.make(Config.make(unfreeze="gradual"), 2, 100)
    assert [tuple(each) for each in gradual.values()] == [(1.0, 0), (1.0, 100), (1.0, 200), (1.0, 300)]
    assert rates.make(Config.make(), 12, 100) == {}


def test_parts_of_names():
    assert [rates.part(name) for name in (
        "bert/embeddings/layer_norm/scale", "bert/layer_11/mlp/output/kernel", "pooler/bias", "head/kernel",
        "crf/transitions", "mlm/transform/kernel")] == ["embeddings", "layer_11", "head", "head", "head", "head"]


def test_what_a_short_run_never_reaches_does_not_train_and_is_told(capsys):
    params = draw(0)
    begins = rates.begins(rates.make(Config.make(unfreeze="gradual"), LAYERS, EPOCH), params)
    trains = trees.map_named(lambda name, _: "layer_0" not in name, params)
    found = trees.flatten(rates.in_time(trains, begins, 2 * EPOCH))
    assert {name for name, yes in found.items() if yes} == {name for name in SHAPES if depth(name) < 2}
    assert "before the turn of embeddings; more --epochs" in capsys.readouterr().err
    assert rates.in_time(trains, begins, 3 * EPOCH + 1) == trains
    assert not capsys.readouterr().err


# --- mixout

def mask_of(rate, key=0):
    """1 - M of every mixed leaf, drawn as for W = 1 and W0 = 0, by name."""
    ones = trees.map_named(lambda _, x: np.ones_like(x), draw(0))
    zeros = trees.map_named(lambda _, x: np.zeros_like(x), draw(0))
    return {name: np.asarray(x) for name, x in trees.flatten(
        remedies.mixout(ones, zeros, jax.random.key(key), rate)).items()}


def test_mixout_follows_the_formula():
    p, w, start = 0.25, trees.flatten(draw(0)), trees.flatten(draw(1))
    got = trees.flatten(remedies.mixout(trees.unflatten(w), trees.unflatten(start), jax.random.key(0), p))
    for name, shown in mask_of(p).items():
        if not (name.startswith(("bert/", "pooler/")) and name.endswith("kernel")):
            np.testing.assert_array_equal(got[name], w[name])
            continue
        assert set(np.unique(shown)) <= {0, np.float32(1 / (1 - p))}
        m = (shown == 0).astype(np.float64)
        want = ((1 - m) * w[name] + m * start[name] - p * start[name]) / (1 - p)
        np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-6)


def test_masks_of_mixout_have_the_rate_and_differ_by_leaf_and_step():
    big = {"bert": {f"layer_{i}": {"kernel": np.ones((200, 300), np.float32)} for i in range(2)}}
    zeros = jax.tree.map(np.zeros_like, big)
    drawn = [trees.flatten(remedies.mixout(big, zeros, jax.random.key(key), 0.7)) for key in (0, 0, 1)]
    a, b = (np.asarray(drawn[0][f"bert/layer_{i}/kernel"]) for i in range(2))
    assert abs((a == 0).mean() - 0.7) < 5 * (0.7 * 0.3 / a.size) ** 0.5
    assert a.mean() == pytest.approx(1, abs=0.04)
    assert equal(drawn[0], drawn[1])
    for other in (b, np.asarray(drawn[2]["bert/layer_0/kernel"])):
        assert abs(np.corrcoef((a == 0).ravel(), (other == 0).ravel())[0, 1]) < 0.02


def test_a_step_sees_mixed_weights_and_its_gradient_goes_through_them():
    """Loss <c, W~>, so the gradient is (1 - M) / (1 - p) c; gradient descent at rate 1 takes it away."""
    params, given = draw(0), dict(mixout=0.5, optimizer="sgd", learning_rate=1.0, warmup=0.0, schedule="constant",
                                  clip_norm=0.0, weight_decay=0.0)
    step, state = ready(given, params, anchor=only_kernels(draw(5)))  # far from the weights, as late in training
    after, metrics = jax.jit(step())(state, BATCH)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 0)
    ones, zeros = (jax.tree.map(f, params) for f in (np.ones_like, np.zeros_like))
    shown = trees.flatten(remedies.mixout(ones, zeros, key, 0.5))
    inner = 0.0
    slopes, starts, moved_to = (trees.flatten(tree) for tree in (SLOPES, draw(5), after.params))
    for name, w in trees.flatten(params).items():
        c, kept, start = slopes[name], np.asarray(shown[name]), starts[name]
        inner += (c * (start + kept * (w - start))).sum()
        np.testing.assert_allclose(w - moved_to[name], kept * c, rtol=1e-4, atol=1e-5, err_msg=name)
    assert float(metrics["loss"]) == pytest.approx(inner, rel=1e-5)
    assert {0.0, 2.0} <= set(np.unique(shown["bert/layer_0/mlp/output/kernel"]))


def only_kernels(tree):
    return trees.unflatten({name: x for name, x in trees.flatten(tree).items()
                            if name.startswith(("bert/", "pooler/")) and name.endswith("kernel")})


# --- all of them, on several devices and in micro-batches

EVERYTHING = {**TOGETHER, "mixout": 0.5, "clip_norm": 1.0}


@pytest.fixture(scope="module")
def alone():
    """Parameters and losses of twelve steps on one device in one piece."""
    step, state = ready(EVERYTHING, draw(0))
    step, losses = jax.jit(step()), []
    for _ in range(12):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["loss"]))
    return trees.flatten(jax.device_get(state.params)), losses


@pytest.mark.parametrize(("how", "devices", "micro"), [("jit", 4, 1), ("pmap", 4, 2), ("jit", 1, 4)])
def test_devices_and_micro_batches_change_nothing(alone, how, devices, micro):
    placement = parallel.make(Config.make(parallel=how, devices=devices))
    step, host = ready(EVERYTHING, draw(0))
    state, batch, losses = placement.put(host), placement.put_batch(BATCH, 8), []
    program = placement.compile_train(step(micro, placement.axis), state, batch)
    for _ in range(12):
        state, metrics = program(state, batch)
        losses.append(float(placement.get(metrics)["loss"]))
    np.testing.assert_allclose(losses, alone[1], rtol=1e-5)
    for name, leaf in trees.flatten(placement.get(state.params)).items():
        np.testing.assert_allclose(leaf, alone[0][name], rtol=1e-5, atol=1e-6, err_msg=name)


# --- re-initialisation

TOP = {"bert/layer_1/mlp/output/kernel", "bert/layer_1/mlp/layer_norm/bias"}


def renewed(params=None, trained=lambda name: True, layers=LAYERS, **given):
    params = params or draw(0)
    return remedies.reinitialise(params, Config.make(**given), shape(layers, initializer_range=0.02), layers,
                                 trees.map_named(lambda name, _: trained(name), params))


@pytest.mark.parametrize(("given", "changed"), [
    (dict(), set()), (dict(reinit_layers=1), TOP), (dict(reinit_pooler=True), {"pooler/kernel"}),
    (dict(reinit_layers=2, reinit_pooler=True),
     TOP | {"pooler/kernel", "bert/layer_0/mlp/output/kernel", "bert/layer_0/mlp/output/bias"})])
def test_what_is_drawn_anew(given, changed):
    old, new = trees.flatten(draw(0)), trees.flatten(renewed(**given))
    assert {name for name in old if not np.array_equal(old[name], new[name])} == changed
    assert all(new[name].dtype == np.float32 for name in new)
    assert all(not np.any(new[name]) for name in changed if name.endswith("bias"))


def test_new_weights_are_a_plain_normal_of_the_seed_alone():
    big = {"bert": {"layer_0": {"mlp": {"output": {"kernel": np.ones((300, 400), np.float32),
                                                   "bias": np.ones(400, np.float32)},
                                        "layer_norm": {"scale": np.full(400, 3, np.float32)}}}}}
    a, again, b = (trees.flatten(renewed(big, layers=1, reinit_layers=1, seed=seed)) for seed in (0, 0, 1))
    kernel = a["bert/layer_0/mlp/output/kernel"]
    assert equal(a, again)
    assert not np.array_equal(kernel, b["bert/layer_0/mlp/output/kernel"])
    assert kernel.std() == pytest.approx(0.02, rel=0.01)
    assert abs(kernel.mean()) < 2e-4
    assert (np.abs(kernel) > 0.04).mean() == pytest.approx(0.0455, abs=0.003)  # a truncated one has none beyond
    assert np.all(a["bert/layer_0/mlp/layer_norm/scale"] == 1)


# --- bad input

@pytest.mark.parametrize(("given", "said"), [
    (dict(reinit_layers=3), "--reinit_layers=3: the head stands on 2 layers; valid: 0 to 2"),
    (dict(reinit_layers=1, strategy="bitfit"), "--reinit_layers=1: what is drawn anew has to train; "
     "--strategy=bitfit leaves bert/layer_1/mlp/output/kernel as it is"),
    (dict(reinit_pooler=True, strategy="head"), "--reinit_pooler: this model has no pooler")])
def test_bad_re_initialisation_is_one_line(given, said):
    params = draw(0)
    if given.get("reinit_pooler"):
        del params["pooler"]
    strategy = strategies.make(Config.make(**given), LAYERS)
    trains = strategy.trains(params)
    assert refused(renewed, params, lambda name: trees.flatten(trains)[name], **given) == said


@pytest.mark.parametrize(("given", "said"), [
    (dict(strategy="head", mixout=0.5), "--mixout=0.5: --strategy=head trains no dense matrix of the encoder"),
    (dict(strategy="features", layerwise_decay=0.9),
     "--layerwise_decay=0.9: --strategy=features trains nothing of the encoder"),
    (dict(strategy="head", unfreeze="gradual"),
     "--unfreeze=gradual: --strategy=head trains nothing of the encoder"),
    (dict(strategy="bitfit", mixout=0.5), "--mixout=0.5: --strategy=bitfit trains no dense matrix of the encoder"),
    (dict(strategy="bitfit", pretrained_decay=0.1),
     "--pretrained_decay=0.1: --strategy=bitfit trains no matrix of the encoder")])
def test_remedies_that_would_do_nothing_are_refused(given, said):
    c, params = Config.make(**given), draw(0)
    trains = strategies.make(c, LAYERS).trains(params)
    assert refused(remedies.check, c, trains) == said
    remedies.check(Config.make(**{**given, "strategy": "full"}), trees.map_named(lambda *_: True, params))


@pytest.mark.parametrize(("given", "said"), [
    (dict(unfreeze="slowly"), "--unfreeze=slowly: unknown; valid: none, gradual, discriminative"),
    (dict(unfreeze="discriminative", layerwise_decay=0.9),
     "--layerwise_decay=0.9: not with --unfreeze=discriminative, which is a decay of 1/2.6 itself"),
    (dict(layerwise_decay=0.0), "--layerwise_decay=0.0: out of range; valid: 0.01 to 1.0"),
    (dict(mixout=1.0), "--mixout=1.0: out of range; valid: 0.0 to 0.99")])
def test_values_that_cannot_be(given, said):
    assert refused(Config.make, **given) == said


# --- whole runs

def test_layers_are_counted_from_the_last_one_that_is_read(deep, tmp_path):
    given = dict(layers="1", pooling="pooler", layerwise_decay=0.9, unfreeze="gradual", max_train_examples=8)
    made = prepare.prepare(config(deep, tmp_path / "run", reinit_layers=1, epochs=9.0, **given), 1)
    begins, read = trees.flatten(made.begins), trees.flatten(made.pretrained.params)
    name = "bert/layer_{}/attention/query/kernel"
    assert begins[name.format(0)] == begins["bert/embeddings/word/embedding"] / 2 == made.epochs.steps_per_epoch
    new = trees.flatten(made.params)
    assert not np.array_equal(new[name.format(0)], read[name.format(0)])
    assert np.array_equal(new[name.format(1)], read[name.format(1)])
    trains = trees.flatten(made.trains)
    assert trains[name.format(0)]
    assert not trains[name.format(1)]
    assert refused(prepare.prepare, config(deep, tmp_path / "run", reinit_layers=2, **given), 1) == (
        "--reinit_layers=2: the head stands on 1 layers; valid: 0 to 1")


def test_a_run_with_all_of_them_goes_on_bitwise(tiny, tmp_path):
    """Stopped in its second epoch, after the layer has begun, and resumed: nothing differs."""
    given = dict(epochs=3.0, unfreeze="gradual", layerwise_decay=0.9, pretrained_decay=0.1, mixout=0.3,
                 reinit_layers=1, reinit_pooler=True, evals_per_epoch=0, max_train_examples=24)
    result = train.finetune(config(tiny, tmp_path / "whole", **given))
    stop_after(5, config(tiny, tmp_path / "parts", **given))
    train.finetune(config(tiny, tmp_path / "parts", resume=True, **given))
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    assert equal(load_params(tmp_path / "parts", "last")[0], load_params(tmp_path / "whole", "last")[0])
    # 9 steps: epochs 0 to 2, of which the last is that of the embeddings.
    assert result["parameters_trained"] == result["parameters_total"]

    made = prepare.prepare(config(tiny, tmp_path / "whole", **given), 1)
    state = made.start()
    anchor = trees.flatten(made.parted(state)[1].anchor)
    assert set(anchor) == {
        name for name in trees.flatten(state.params) if name.startswith(("bert/", "pooler/"))
        and name.endswith(("kernel", "embedding"))}
    checkpoints = Checkpoints(tmp_path / "whole")
    restored, _ = checkpoints.restore(state)
    checkpoints.close()
    moved = trees.flatten(restored.params)
    assert all(not np.array_equal(moved[name], first) for name, first in anchor.items())


def test_a_run_that_ends_early_counts_what_it_trains(deep, tmp_path, capsys):
    given = dict(unfreeze="gradual", max_steps=10, max_train_examples=64, frozen_layers=1, evals_per_epoch=0)
    train.finetune(config(deep, tmp_path / "run", **given, checkpoints=False))
    made = prepare.prepare(config(deep, tmp_path / "run", **given), 1)
    names = {name for name, yes in trees.flatten(made.trains).items() if yes}
    assert {rates.part(name) for name in names} == {"head", "layer_1"}
    assert result_of(tmp_path / "run")["parameters_trained"] == trees.count(made.params, made.trains)
