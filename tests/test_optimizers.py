"""Optimizers against an independent float64 calculation, torch and optax; schedules; freezing; bad input."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxbert import optimizers
from flaxbert.config import DEFAULTS, RECIPES, Config
from flaxbert.errors import InputError

SHAPES = {"embeddings": {"word": {"embedding": (7, 3)}, "layer_norm": {"scale": (3,), "bias": (3,)}},
          "layer_0": {"output": {"kernel": (3, 5), "bias": (5,)}, "output_layer_norm": {"scale": (5,)}}}
DECAYS = {"embeddings": {"word": {"embedding": True}, "layer_norm": {"scale": False, "bias": False}},
          "layer_0": {"output": {"kernel": True, "bias": False}, "output_layer_norm": {"scale": False}}}


def draw(rng, scale=1.0):
    """A tree of `SHAPES`, normal, float32."""
    return jax.tree.map(lambda shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32), SHAPES,
                        is_leaf=lambda x: isinstance(x, tuple))


def draw_gradients(steps, decades=8):
    """Every other gradient is clipped; entries of one leaf span eight decades, so that epsilon shows."""
    rng = np.random.default_rng(1)
    spread = jax.tree.map(lambda g: 10.0 ** -np.linspace(0, decades, g.size).reshape(g.shape), draw(rng))
    return [jax.tree.map(lambda g, s: jnp.asarray(np.asarray(g) * s, jnp.float32),
                         draw(rng, scale=(0.05, 3.0)[t % 2]), spread) for t in range(steps)]


def run(tx, params, gradients):
    """The updates that `tx` gives, one tree a step; not compiled, which takes longer than the updates."""
    state, updates = tx.init(params), []
    for g in gradients:
        u, state = tx.update(g, state, params)
        params = optax.apply_updates(params, u)
        updates.append(u)
    return updates


def flat(trees):
    """[steps, parameters] float64."""
    return np.stack([np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(t)])
                     for t in trees])


def close(ours, reference, rtol=1e-5):
    """Whether every entry of [steps, parameters] is within `rtol`.

    Where positive and negative gradients cancel, the rounding of the terms is all that is left of a moment: a
    fifth of `rtol` is therefore relative to the largest update of the same parameter.
    """
    largest = np.abs(reference).max(axis=0, keepdims=True)
    return bool(np.all(np.abs(ours - reference) <= rtol * (np.abs(reference) + largest / 5)))


# --- the recipes, against a calculation that shares nothing with the package

#                              corrected  epsilon  before  decay  of updated  warm-up  jump
FACTS = {"devlin":            (False,     1e-6,    True,   0.01,  False,      0.1,     True),
         "mosbach":           (True,      1e-6,    True,   0.01,  True,       0.1,     False),
         "mosbach, as Devlin": (False,    1e-6,    True,   0.01,  True,       0.1,     False),
         "zhang":             (True,      1e-8,    True,   0.0,   True,       0.1,     False),
         "hf":                (True,      1e-8,    False,  0.0,   False,      0.0,     False)}
PEAK, TOTAL = 0.1, 40  # a peak far above BERT's, so that the parameters move and both forms of decay differ


def configure(arm, **given):
    if arm == "mosbach, as Devlin":
        arm, given = "mosbach", {"bias_correction": False, "epochs": 3.0, **given}
    return Config.make(recipe=arm, **{"learning_rate": PEAK, **given})


def recipe_in_float64(arm, params, gradients):
    """The first updates of a recipe, written out from the papers' code."""
    corrected, epsilon, before, weight_decay, of_updated, warm_up, jump = FACTS[arm]
    decays = np.concatenate([np.full(p.size, d) for p, d in
                             zip(jax.tree.leaves(params), jax.tree.leaves(DECAYS), strict=True)])
    p, gradients, updates = flat([params])[0], flat(gradients), []
    m, v, b1, b2 = np.zeros_like(p), np.zeros_like(p), 0.9, 0.999
    warm = int(warm_up * TOTAL)
    for step, g in enumerate(gradients):
        t, norm = step + 1, math.sqrt(float(g @ g))
        g = g if norm < 1 else g / norm
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        if not corrected:
            u = m / (np.sqrt(v) + epsilon)
        elif before:
            u = math.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + epsilon)
        else:
            u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + epsilon)
        if step < warm:
            rate = PEAK * step / warm
        else:
            rate = PEAK * (1 - step / TOTAL) if jump else PEAK * (TOTAL - step) / (TOTAL - warm)
        old = p
        if of_updated:
            p = p - rate * u
            p = p - rate * weight_decay * decays * p
        else:
            p = p - rate * (u + weight_decay * decays * p)
        updates.append(p - old)
    return np.stack(updates)


@pytest.mark.parametrize("arm", FACTS)
def test_first_ten_updates_of_each_recipe(arm):
    params, gradients = draw(np.random.default_rng(0)), draw_gradients(10)
    norms = [float(optax.tree.norm(g)) for g in gradients]
    assert min(norms) < 0.9
    assert sum(n > 1.1 for n in norms) >= 3
    reference = recipe_in_float64(arm, params, gradients)
    assert bool(np.all(reference[0] == 0)) == (FACTS[arm][5] > 0)

    def updates(**given):
        return flat(run(optimizers.make(configure(arm, **given), TOTAL)[0], params, gradients))

    assert close(updates(), reference)
    # The comparison sees each switch: turned the other way, it fails.
    config = configure(arm)
    for name in ("bias_correction", "epsilon_before_correction", "decay_updated_weights"):
        unseen = ((name == "epsilon_before_correction" and not config.bias_correction)
                  or (name == "decay_updated_weights" and config.weight_decay == 0))
        assert close(updates(**{name: not getattr(config, name)}), reference) == unseen, name
    for name, other in (("weight_decay", 0.02), ("epsilon", 3e-7), ("clip_norm", 2.0), ("beta2", 0.99),
                        ("warmup", 0.2), ("schedule", "constant")):
        assert not close(updates(**{name: other}), reference), name


def test_recipes_are_the_ones_of_the_facts():
    assert set(RECIPES) == {arm for arm in FACTS if "," not in arm}


# --- scale_by_adam

def test_adam_stays_exact_over_thousands_of_steps():
    steps, rng = 4000, np.random.default_rng(2)
    gradients = (rng.normal(size=(steps, 6)) + 0.5).astype(np.float32)
    for b1, b2 in ((0.9, 0.999), (0.0, 0.9999)):
        tx = optimizers.scale_by_adam(b1, b2)
        _, ours = jax.lax.scan(lambda s, g, tx=tx: tx.update(g, s)[::-1], tx.init(jnp.zeros(6)), gradients)
        m, v = np.zeros(6), np.zeros(6)
        for t, g in enumerate(gradients.astype(np.float64), 1):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            u = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
            np.testing.assert_allclose(ours[t - 1], u, rtol=2e-5, atol=2e-6)


def test_bias_corrections_are_exact_where_float32_powers_are_not():
    for decay in (0.9, 0.999, 0.999999):
        for count in (1, 2, 10, 1000, 100_000):
            ours = float(optimizers._one_minus_power(decay, jnp.int32(count)))
            assert ours == pytest.approx(1 - decay**count, rel=5e-7)
    assert float(optimizers._one_minus_power(0.0, jnp.int32(1))) == 1.0
    naive = float(1 - jnp.float32(0.999) ** 1)
    assert naive != pytest.approx(0.001, rel=1e-5)  # the reason why


def test_first_step_without_correction_is_three_times_as_large():
    g = jnp.asarray([0.3, -2.0])
    first = {}
    for corrected in (True, False):
        tx = optimizers.scale_by_adam(eps=1e-12, bias_correction=corrected)
        first[corrected], _ = tx.update(g, tx.init(g))
    np.testing.assert_allclose(first[True], jnp.sign(g), rtol=1e-6)
    np.testing.assert_allclose(first[False] / first[True], (1 - 0.9) / math.sqrt(1 - 0.999), rtol=1e-6)


def test_switches_and_rates_may_be_traced():
    params, gradients = draw(np.random.default_rng(0)), draw_gradients(4)
    base = Config.make(recipe="mosbach")
    varied = {"learning_rate": [0.1, 0.02, 0.1, 0.1], "bias_correction": [True, True, False, True],
              "weight_decay": [0.01, 0.01, 0.01, 0.3], "epsilon_before_correction": [True, False, True, True]}

    def updates(**values):
        tx, _ = optimizers.make(dataclasses.replace(base, **values), TOTAL)
        return run(tx, params, gradients)

    together = jax.jit(jax.vmap(lambda values: updates(**values)))(
        {k: jnp.asarray(v) for k, v in varied.items()})
    alone = [flat(updates(**{k: v[i] for k, v in varied.items()})) for i in range(4)]
    for i in range(4):
        ours = flat([jax.tree.map(lambda x, i=i: x[i], u) for u in together])
        assert [close(ours, a, rtol=3e-6) for a in alone] == [i == j for j in range(4)]


# --- against others

def test_adamw_equals_optax_adamw():
    params, gradients = draw(np.random.default_rng(0)), draw_gradients(20)
    config = Config.make(schedule="constant", warmup=0.0, learning_rate=0.01, clip_norm=0.0, weight_decay=0.1)
    ours = flat(run(optimizers.make(config, 20)[0], params, gradients))
    theirs = flat(run(optax.adamw(0.01, weight_decay=0.1, mask=DECAYS), params, gradients))
    # optax rounds 0.999 to float32 before it corrects, which is 6e-6 of the first update.
    assert close(ours, theirs, rtol=2e-5)
    assert not close(ours, flat(run(optax.adamw(0.01, weight_decay=0.1), params, gradients)), rtol=2e-5)


@pytest.mark.parametrize("arm", ["devlin", "mosbach"])
def test_compiled_equals_eager(arm):
    params, gradients = draw(np.random.default_rng(0)), draw_gradients(6)
    tx, _ = optimizers.make(configure(arm), TOTAL)
    compiled = optax.GradientTransformation(tx.init, jax.jit(tx.update))
    assert close(flat(run(compiled, params, gradients)), flat(run(tx, params, gradients)))


def test_lamb_equals_optax_lamb_on_kernels():
    params = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)}
    gradients = [{"kernel": g["layer_0"]["output"]["kernel"]} for g in draw_gradients(10)]
    config = Config.make(optimizer="lamb", schedule="constant", warmup=0.0, learning_rate=0.01, clip_norm=0.0)
    ours = flat(run(optimizers.make(config, 10)[0], params, gradients))
    assert close(ours, flat(run(optax.lamb(0.01, eps=1e-8, weight_decay=0.01), params, gradients)), rtol=2e-5)


def test_lamb_leaves_biases_to_adam():
    params, gradients = {"bias": jnp.asarray([0.5, -3.0])}, [{"bias": jnp.asarray([0.1, 0.02])}] * 5
    lamb, adam = (optimizers.make(Config.make(optimizer=name, weight_decay=0.5), 9)[0]
                  for name in ("lamb", "adam"))
    assert close(flat(run(lamb, params, gradients)), flat(run(adam, params, gradients)), rtol=1e-7)


# Adagrad's epsilon, 1e-10, stands beside the root in PyTorch and inside it in optax: compared well above it.
TORCH = {"adamw": ("AdamW", {}), "adam": ("Adam", {}), "sgd": ("SGD", {}), "rmsprop": ("RMSprop", {}),
         "momentum": ("SGD", {"momentum": 0.9}), "adagrad": ("Adagrad", {})}


@pytest.mark.parametrize("name", TORCH)
def test_equals_torch(name):
    torch = pytest.importorskip("torch", reason="torch is not installed: optimizers are not compared with it")
    params, gradients = draw(np.random.default_rng(0)), draw_gradients(20, 3 if name == "adagrad" else 8)
    config = Config.make(optimizer=name, schedule="linear", warmup=0.25, learning_rate=0.01, clip_norm=0.0,
                         weight_decay=0.1)
    tx, rate = optimizers.make(config, 20)
    leaves = [torch.nn.Parameter(torch.tensor(np.asarray(p, np.float64))) for p in jax.tree.leaves(params)]
    groups = [{"params": [x for x, d in zip(leaves, jax.tree.leaves(DECAYS), strict=True) if d == decays],
               "weight_decay": 0.1 * decays} for decays in (True, False)]
    kind, settings = TORCH[name]
    peer, theirs = getattr(torch.optim, kind)(groups, lr=1.0, **settings), []
    for step, g in enumerate(gradients):
        for group in peer.param_groups:
            group["lr"] = float(rate(step))
        before = [x.detach().clone() for x in leaves]
        for x, gx in zip(leaves, jax.tree.leaves(g), strict=True):
            x.grad = torch.tensor(np.asarray(gx, np.float64))
        peer.step()
        theirs.append([(x.detach() - b).numpy() for x, b in zip(leaves, before, strict=True)])
    ours = flat(run(tx, params, gradients))[1:]  # the first update has learning rate 0
    assert close(ours, flat(theirs)[1:])


# --- the table

@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_descends(name):
    config = Config.make(optimizer=name, schedule="constant", warmup=0.0, learning_rate=0.01)
    tx, _ = optimizers.make(config, 3)
    params = draw(np.random.default_rng(0))

    def loss(p):
        return sum(jnp.vdot(x, x) for x in jax.tree.leaves(p))

    @jax.jit
    def step(p, state):
        u, state = tx.update(jax.grad(loss)(p), state, p)
        return optax.apply_updates(p, u), state

    state, losses = tx.init(params), [float(loss(params))]
    for _ in range(3):
        params, state = step(params, state)
        losses.append(float(loss(params)))
    assert np.isfinite(losses).all()
    assert np.all(np.diff(losses) < 0), losses
    assert float(loss(params)) > 0


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_decays_kernels_only_and_reads_what_it_says(name):
    params, gradients = draw(np.random.default_rng(0)), draw_gradients(4)

    def updates(**given):
        config = Config.make(**{"optimizer": name, "learning_rate": 0.01, "warmup": 0.0, **given})
        return flat(run(optimizers.make(config, 10)[0], params, gradients))

    plain = updates(weight_decay=0.0)
    differs = np.any(plain != updates(weight_decay=0.5), axis=0)
    decays = np.concatenate([np.full(p.size, d) for p, d in
                             zip(jax.tree.leaves(params), jax.tree.leaves(DECAYS), strict=True)])
    np.testing.assert_array_equal(differs, decays)

    base = updates()
    for setting, other in (("beta1", 0.5), ("beta2", 0.5), ("epsilon", 1e-3), ("bias_correction", False),
                           ("epsilon_before_correction", True), ("decay_updated_weights", True)):
        if setting in optimizers.OPTIMIZERS[name].reads:
            assert np.any(updates(**{setting: other}) != base), setting
        else:
            with pytest.raises(InputError, match=f"does not read --{setting}="):
                updates(**{setting: other})


def test_decay_mask():
    assert optimizers.decay_mask(draw(np.random.default_rng(0))) == DECAYS
    assert optimizers.decay_mask({"head": {"biases": {"kernel": 0}}, "layer_norm": {"kernel": 0}}) == {
        "head": {"biases": {"kernel": True}}, "layer_norm": {"kernel": False}}
    # A mix of layers starts at equal shares and scale 1, a CRF at no preference: 0 is nothing to go back to.
    assert optimizers.decay_mask({"mix": {"weights": 0, "gamma": 0},
                                  "crf": {"start": 0, "end": 0, "transitions": 0}}) == {
        "mix": {"weights": False, "gamma": False}, "crf": {"start": False, "end": False, "transitions": True}}


def test_decay_needs_parameters():
    tx = optimizers.decay_weights(0.1, lambda step: 1.0)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update({"kernel": jnp.ones(2)}, tx.init({}))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_frozen_leaves_hold_nothing_and_do_not_count(name):
    params, gradients = draw(np.random.default_rng(0)), draw_gradients(4)
    config = Config.make(optimizer=name, learning_rate=0.1, warmup=0.0)
    tx, _ = optimizers.make(config, TOTAL)
    frozen = {"embeddings": jax.tree.map(lambda _: True, params["embeddings"]),
              "layer_0": jax.tree.map(lambda _: False, params["layer_0"])}
    half_frozen = optax.selective_transform(tx, freeze_mask=frozen)

    # (3,) and (7, 3) are shapes of frozen leaves only.
    held = {x.shape for x in jax.tree.leaves(tx.init(params))}
    assert (name == "sgd") != ((7, 3) in held and (3,) in held)
    assert not {x.shape for x in jax.tree.leaves(half_frozen.init(params))} & {(7, 3), (3,)}

    huge = [{**g, "embeddings": jax.tree.map(lambda x: 1e3 * x + 1e3, g["embeddings"])} for g in gradients]
    updates = run(half_frozen, params, huge)
    assert all(not np.any(x) for u in updates for x in jax.tree.leaves(u["embeddings"]))
    alone = run(tx, {"layer_0": params["layer_0"]}, [{"layer_0": g["layer_0"]} for g in gradients])
    assert close(flat([u["layer_0"] for u in updates]), flat(alone), rtol=1e-6)
    if name not in ("adafactor", "lion"):  # one normalises, the other takes the sign: not for them to show
        counted = run(tx, params, huge)
        assert not close(flat([u["layer_0"] for u in counted]), flat(alone), rtol=1e-3)


def test_clipping_can_be_off():
    config = Config.make(optimizer="sgd", learning_rate=0.5, warmup=0.0, weight_decay=0.0, clip_norm=0.0)
    for norm, expected in ((0.0, -1.5), (1.0, -0.5)):
        tx, _ = optimizers.make(dataclasses.replace(config, clip_norm=norm), 10)
        p = {"kernel": jnp.ones(1)}
        u, _ = tx.update({"kernel": jnp.asarray([3.0])}, tx.init(p), p)
        np.testing.assert_allclose(u["kernel"], expected, rtol=1e-6)


# --- schedules

def rates(**given):
    """The learning rates of steps 0 to 100 of 100, as shares of the peak."""
    rate = optimizers.schedule(Config.make(**{"learning_rate": 2.0, **given}), 100)
    return np.asarray(jax.vmap(rate)(jnp.arange(101)), np.float64) / 2.0


def test_schedules():
    s = np.arange(101)
    up = s[:10] / 10
    after = {"linear": (100 - s) / 90, "constant": np.ones(101), "cosine": (1 + np.cos(np.pi * (s - 10) / 90)) / 2,
             "google": 1 - s / 100}
    assert set(after) == set(optimizers.SCHEDULES)
    assert set(after) == set(Config.__dataclass_fields__["schedule"].metadata["choices"])
    for name, values in after.items():
        ours = rates(schedule=name, warmup=0.1)
        np.testing.assert_allclose(ours, np.concatenate([up, values[10:]]), rtol=1e-6, atol=1e-7)
        assert ours[0] == 0
        assert ours[100] == (name == "constant")
        assert rates(schedule=name, warmup=0.0)[0] == 1.0
        beyond = optimizers.schedule(Config.make(schedule=name, learning_rate=1e-3), 100)(1000)
        assert float(beyond) == (np.float32(1e-3) if name == "constant" else 0.0)


def test_googles_jump():
    ours = rates(recipe="devlin")
    np.testing.assert_allclose(ours[8:12], [0.8, 0.9, 0.9, 0.89], rtol=1e-6)
    np.testing.assert_allclose(rates(recipe="mosbach")[8:12], [0.8, 0.9, 1.0, 89 / 90], rtol=1e-6)
    # With a long warm-up the jump is a fall.
    np.testing.assert_allclose(rates(recipe="devlin", warmup=0.5)[49:51], [0.98, 0.5], rtol=1e-6)


def test_warmup_is_a_share_or_steps():
    def steps(warmup, total):
        return optimizers.warmup_steps(Config.make(warmup=warmup), total)

    assert [steps(0.1, 345), steps(0.1, 9), steps(0.0, 1), steps(1, 5), steps(20.0, 21), steps(0.999, 100)] == [
        34, 0, 0, 1, 20, 99]
    np.testing.assert_array_equal(rates(warmup=10), rates(warmup=0.1))


def test_a_schedule_takes_any_integer_and_gives_a_scalar():
    rate = optimizers.make(Config.make(learning_rate=2e-5), 50)[1]
    for step in (3, np.int64(3), jnp.int32(3)):
        assert (rate(step).dtype, rate(step).shape) == (jnp.float32, ())
        assert float(rate(step)) == pytest.approx(2e-5 * 3 / 5, rel=1e-6)
    peaks = jnp.asarray([1e-5, 3e-5])
    both = jax.vmap(lambda p: optimizers.schedule(dataclasses.replace(Config(), learning_rate=p), 50)(5))(peaks)
    np.testing.assert_allclose(both, peaks, rtol=1e-6)


# --- bad input

@pytest.mark.parametrize(("given", "total", "words"), [
    (dict(optimizer="adamv"), 10, ["--optimizer=adamv", "adamw, adam, lamb", "sgd"]),
    (dict(optimizer="sgd", bias_correction=False), 10,
     ["--optimizer=sgd", "--bias_correction=False (read by adamw, adam, lamb)"]),
    (dict(optimizer="lion", recipe="devlin"), 10,
     ["--recipe=devlin", "--bias_correction=False", "--epsilon=1e-06", "--epsilon_before_correction=True"]),
    (dict(optimizer="adam", decay_updated_weights=True), 10, ["--decay_updated_weights=True", "adamw"]),
    (dict(optimizer="lion", beta2=0.98), 10, ["--beta2=0.98", "adamw"]),
    (dict(beta2=1.0), 10, ["--beta2=1.0", "below 1"]),
    (dict(beta1=1.0, optimizer="momentum"), 10, ["--beta1=1.0", "below 1"]),
    (dict(epsilon=0.0), 10, ["--epsilon", "above 0"]),
    (dict(warmup=10), 10, ["--warmup=10", "10 steps", "none of 10", "--epochs", "--max_steps"]),
    (dict(warmup=500), 10, ["--warmup=500", "500 steps", "none of 10"]),
    (dict(warmup=2.5), 10, ["--warmup=2.5", "share below 1", "whole number"]),
    (dict(), 0, ["--epochs=3.0", "--max_steps=0", "at least 1"]),
])
def test_bad_input_is_one_line_that_names_the_flags(given, total, words):
    with pytest.raises(InputError) as caught:
        optimizers.make(Config.make(**given), total)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_unknown_schedule():
    with pytest.raises(InputError, match="--schedule=step: unknown; valid: linear, constant, cosine, google"):
        optimizers.schedule(dataclasses.replace(Config(), schedule="step"), 10)


def test_an_array_for_a_switch_that_is_not_read_is_refused():
    config = dataclasses.replace(Config(optimizer="sgd"), bias_correction=jnp.asarray(True))
    with pytest.raises(InputError, match="does not read --bias_correction"):
        optimizers.check(config)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_takes_the_defaults_of_every_task(name):
    for task in ("", *DEFAULTS):
        optimizers.check(Config.make(optimizer=name, **({"task": task} if task else {})))
