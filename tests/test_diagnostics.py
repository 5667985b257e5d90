"""What a step tells of itself: the definitions, when, and that nothing else changes."""

import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import ALIKE, OPTIMIZED, QUICK
from small import apply_of, batch_of, encoded, equal, lively, shape, units

from flaxbert import diagnostics, heads, parallel, strategies, trees
from flaxbert.bert import RowDropout
from flaxbert.config import Config
from flaxbert.heads import entropies
from flaxbert.heads.crf import Chain
from flaxbert.steps import Fixed, TrainState, make_train_step, part

pytestmark = pytest.mark.usefixtures("strict_ranks")
ROWS, SLOTS = 16, 8
RNG = np.random.default_rng(0)


@cache
def setup(dtype="float32"):
    """A model that trains but for its embeddings, its parameters, `trains` and the optimizer."""
    model = heads.SequenceModel(shape(1), 3, dtype=jnp.dtype(dtype))
    params = lively(heads.shapes(model))
    params["pooler"]["kernel"] *= 2  # some of its outputs are beyond 0.99, some are not
    trains = trees.map_named(lambda name, _: not name.startswith("bert/embeddings"), params)
    optimizer = strategies.wrap(optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(1e-2)), trains)
    return model, params, trains, optimizer


@cache
def arrays(seed=0):
    return batch_of(encoded(30, seed=seed), range(30), multiple=ROWS, slots=SLOTS)[1]


def make_step(every, micro=1, axis=None, begins=None, dtype="float32"):
    """An uncompiled step, `(state, batch, fixed)`; every 0: it tells nothing."""
    model, _, trains, optimizer = setup(dtype=dtype)
    diagnose = diagnostics.make(every, model, "classification", trains) if every else None
    return make_train_step(apply_of(model), optimizer, optax.constant_schedule(1e-2), heads.cross_entropy, trains,
                           micro, axis, begins, diagnose=diagnose)


def start():
    _, params, trains, optimizer = setup()
    return part(TrainState.start(params, optimizer, 0), trains, initial=params)


@cache
def run(every, micro=1, count=3, options=0, **other):
    """The state after `count` steps, and the metrics of each."""
    step = jax.jit(make_step(every, micro, **other), compiler_options=(QUICK, ALIKE, OPTIMIZED)[options])
    (state, fixed), told = start(), []
    for _ in range(count):
        state, metrics = step(state, arrays(), fixed)
        told.append(jax.device_get(metrics))
    return jax.device_get(state), told


# --- when, and at what price

@pytest.mark.parametrize(("micro", "options"), [(1, 2), (4, 1)])
def test_nothing_else_changes_by_a_bit(micro, options):
    off, silent = run(0, micro, options=options)
    on, told = run(2, micro, options=options)
    assert equal(on.params, off.params)
    assert [m["loss"] for m in told] == [m["loss"] for m in silent]
    assert [m["grad_norm"] for m in told] == [m["grad_norm"] for m in silent]
    assert all("diagnostics" not in m for m in silent)


def test_told_after_each_second_update_and_computed_at_no_other():
    told = [m["diagnostics"] for m in run(2)[1]]
    for name in told[0]:
        assert not any(told[i][name].any() for i in (0, 2))
        assert (told[1][name] > 0).all(), name


def test_told_at_each_step_it_is_the_same():
    told, each = run(2)[1][1]["diagnostics"], run(1)[1][1]["diagnostics"]
    for name in told:
        np.testing.assert_allclose(each[name], told[name], rtol=1e-6)


# --- the definitions

def norms(tree, names):
    """|.| of the leaves of each part, in float64; `names`: the beginnings of theirs."""
    flat = trees.flatten(tree)
    return [np.sqrt(sum((np.float64(x) ** 2).sum() for name, x in flat.items() if name.startswith(of)))
            for of in names]


def test_weights_follow_the_definitions_part_by_part():
    model, _, trains, _ = setup()
    state, fixed = start()
    states, told = [state, run(1, count=1)[0], run(1, count=2)[0]], run(1, count=2)[1][1]

    def loss(trained):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 1)
        logits = model.apply({"params": trees.merge(fixed.frozen, trained)}, arrays(),
                             RowDropout(key, jnp.asarray(arrays()["row"])))
        w = arrays()["weights"]
        return (heads.cross_entropy(logits, arrays()) * w).sum() / w.sum()
    grads = jax.jit(jax.grad(loss))(states[1].params)
    names = ["bert/layer_0/", "pooler/", "head/"]
    w0, before, after = (s.params for s in states)
    got = told["diagnostics"]
    for name, want in (("grad_norm", norms(grads, names)), ("param_norm", norms(after, names)),
                       ("update_norm", norms(jax.tree.map(np.subtract, after, before), names)),
                       ("distance", norms(jax.tree.map(np.subtract, after, w0), names))):
        np.testing.assert_allclose(got[name], want, rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(got["relative_distance"], got["distance"] / norms(w0, names), rtol=1e-5)
    assert float(np.sqrt(np.square(got["grad_norm"]).sum())) == pytest.approx(float(told["grad_norm"]), rel=1e-5)
    assert told["grad_norm"] > 0.1  # it is clipped afterwards
    row = diagnostics.row(got, trains)
    assert row["distance/head"] == float(got["distance"][2])
    assert row["entropy"] == float(got["entropy"])
    assert {name.split("/")[1] for name in row if "/" in name} == {"layer_0", "pooler", "head"}


def test_parts_come_from_the_bottom_up():
    model = heads.SequenceModel(shape(11), 2, top=heads.HeadConfig(head="mlp"))
    trains = trees.map_named(lambda name, _: "layer_3" not in name, heads.shapes(model))
    parts = diagnostics.parts(trains)
    assert [*parts] == ["embeddings", *(f"layer_{i}" for i in range(11) if i != 3), "pooler", "head"]
    assert sum(map(len, parts.values())) == sum(trees.flatten(trains).values())
    assert {name.split("/")[0] for name in parts["head"]} == {"body", "head"}


def softmax(x):
    p = np.exp(np.float64(x) - np.max(x))
    return p / p.sum()


def entropy(p):
    return -sum(x * np.log(x) for x in np.ravel(p) if x > 0)


def predictions_of(model, params, batch, kind):
    """What one step without dropout would tell of the predictions, and the model's outputs."""
    diagnose = diagnostics.make(1, model, kind, trees.map_named(lambda *_: True, params))

    def compute(params, batch):
        logits, sown = diagnose.apply(params, batch, None)
        pairs = diagnose.predictions(logits, sown, batch)
        return logits, sown, {name: x / of for name, (x, of) in pairs.items()}
    return jax.device_get(jax.jit(compute)(params, jax.tree.map(jnp.asarray, batch)))


@pytest.mark.parametrize("kind", ["classification", "regression", "multi_label"])
def test_predictions_of_whole_sequences_follow_the_definitions(kind):
    outputs = 1 if kind == "regression" else 3
    model = heads.SequenceModel(shape(1), outputs)
    params = lively(heads.shapes(model))
    params["pooler"]["kernel"] *= 2
    split = encoded(9, kind=kind, outputs=outputs)
    plan, batch = batch_of(split, range(9), multiple=ROWS, slots=SLOTS)
    logits, sown, told = predictions_of(model, params, batch, kind)
    pooled, = jax.tree.leaves(sown)
    assert pooled.shape == (ROWS, SLOTS, 16)
    high = np.abs(pooled[plan.row, plan.slot]) > 0.99
    assert 0.05 < high.mean() < 0.95
    assert told["saturation"] == pytest.approx(high.mean(), rel=1e-6)
    if kind == "regression":
        assert [*told] == ["saturation"]
        return
    w, z = split.weights, logits[plan.row, plan.slot]
    each = ([entropy(softmax(x)) for x in z] if kind == "classification"
            else [np.mean([entropy(softmax([x, 0])) for x in row]) for row in z])
    assert told["entropy"] == pytest.approx(np.average(each, weights=w), rel=1e-5)
    most = np.log(3 if kind == "classification" else 2)
    assert told["entropy_ratio"] == pytest.approx(np.average(each, weights=w) / most, rel=1e-5)


def test_choices_that_are_not_there_count_nowhere():
    split = units(8)
    model = heads.ChoiceModel(shape(1), 1)
    params = lively(heads.shapes(model))
    params["pooler"]["kernel"] *= 2
    plan, batch = batch_of(split, range(8))
    logits, sown, told = predictions_of(model, params, batch, "choice")
    pooled, = jax.tree.leaves(sown)
    there = batch["first"][plan.row, plan.slot] >= 0  # [8, 4]
    assert len(set(there.sum(1))) > 1
    states = pooled.reshape(*batch["first"].shape, -1)[plan.row, plan.slot]
    assert told["saturation"] == pytest.approx((np.abs(states[there]) > 0.99).mean(), rel=1e-6)
    each = [entropy(softmax(x[real])) for x, real in zip(logits[plan.row, plan.slot], there, strict=True)]
    assert told["entropy"] == pytest.approx(np.mean(each), rel=1e-5)
    assert told["entropy_ratio"] == pytest.approx(np.mean(each) / np.log(there.sum(1)).mean(), rel=1e-5)


def test_spans_are_distributions_over_a_slots_own_tokens():
    sequence = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 0]])
    logits = RNG.normal(size=(2, 6, 2)).astype(np.float32) * 3
    got, most = entropies.of_spans(logits, {"sequence": sequence, "labels": np.zeros((2, 2, 2), int)})
    for row, slot, size in ((0, 1, 3), (0, 2, 2), (1, 1, 5)):
        own = logits[row][sequence[row] == slot]
        assert got[row, slot - 1] == pytest.approx((entropy(softmax(own[:, 0])) + entropy(softmax(own[:, 1]))) / 2)
        assert most[row, slot - 1] == pytest.approx(np.log(size))
    assert np.isfinite([got, most]).all()  # the empty slot too


def test_a_chains_labels_have_the_entropy_of_their_marginals():
    x, start, end = RNG.normal(size=(1, 3, 2)), RNG.normal(size=2), RNG.normal(size=2)
    moves = RNG.normal(size=(2, 2)) * 2
    batch = {"weights": jnp.ones((1, 3)), "sequence": jnp.ones((1, 3), int), "labels": jnp.zeros((1, 3), int)}
    every = list(itertools.product(range(2), repeat=3))
    p = softmax([start[y[0]] + end[y[2]] + sum(x[0, t, y[t]] for t in range(3))
                 + moves[y[0], y[1]] + moves[y[1], y[2]] for y in every])
    marginals = [[sum(q for q, y in zip(p, every, strict=True) if y[t] == c) for c in range(2)] for t in range(3)]
    got, most = entropies.of_chain(Chain(*map(jnp.float32, (x, start, end, moves))), batch)
    np.testing.assert_allclose(got[0], list(map(entropy, marginals)), rtol=1e-4)
    np.testing.assert_allclose(most, np.log(2), rtol=1e-6)


def test_a_certain_and_an_undecided_model():
    got, most = entropies.of(jnp.array([[200.0, 0, -200], [1, 1, 1]]))
    np.testing.assert_allclose(got, [0, np.log(3)], atol=1e-6)
    np.testing.assert_allclose(most, np.log(3))


def test_pretraining_tells_of_masked_words_and_of_the_pooler():
    model = heads.PretrainingModel(shape(1), 2)
    params = lively(heads.shapes(model))
    params["pooler"]["kernel"] *= 2
    _, batch = batch_of(encoded(6), range(6))
    masked = np.array([[1, 2, 0]] * len(batch["row"]), np.int32)
    weights = {"mlm": np.float32(masked > 0), "nsp": batch["weights"]}
    logits, sown, told = predictions_of(model, params, {**batch, "masked": masked, "weights": weights},
                                        "pretraining")
    each = [entropy(softmax(z)) for z in logits["mlm"][:, :2].reshape(-1, 50)]
    assert told["entropy"] == pytest.approx(np.mean(each), rel=1e-5)
    assert told["entropy_ratio"] == pytest.approx(np.mean(each) / np.log(50), rel=1e-5)
    pooled, = jax.tree.leaves(sown)
    assert told["saturation"] == pytest.approx((np.abs(pooled[batch["weights"] > 0]) > 0.99).mean(), rel=1e-6)


def test_bfloat16_draws_the_line_where_float32_does():
    """No number of bfloat16 lies between 0.9883 and 0.9922, and 0.99 rounds to the first."""
    x = jnp.arange(-1, 1.0001, 1 / 4096).astype(jnp.bfloat16)[None, :, None]
    batch = {"weights": jnp.ones((1, x.shape[1])), "first": jnp.zeros((1, x.shape[1]), int)}
    (high, count), = diagnostics.predictions(None, None, {"tanh": x}, batch).values()
    assert (high, count) == ((np.abs(np.float64(x)) > 0.99).sum(), x.size)
    told, exact = run(2, dtype="bfloat16")[1][1]["diagnostics"], run(2)[1][1]["diagnostics"]
    for name in told:
        assert told[name].dtype == np.float32
        np.testing.assert_allclose(told[name], exact[name], rtol=0.1, atol=0.01, err_msg=name)


# --- however the step runs

ADAM = 2e-3  # it divides rounding by rounding where the gradient is zero, as that of a key's bias is


def close(got, want, rtol=2e-5):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=rtol, err_msg=name)


def test_micro_batches_tell_the_same():
    close(run(2, 4)[1][1]["diagnostics"], run(2)[1][1]["diagnostics"], rtol=ADAM)


@pytest.mark.parametrize(("how", "micro"), [("jit", 1), ("pmap", 1), ("pmap", 2)])
def test_four_devices_tell_the_same(how, micro):
    placement = parallel.make(Config.make(parallel=how, devices=4))
    state, fixed = map(placement.put, start())
    batch = placement.put_batch(arrays(), ROWS)
    program = placement.compile_train(make_step(1, micro, placement.axis), state, batch, fixed)
    close(placement.get(program(state, batch, fixed)[1])["diagnostics"], run(1)[1][0]["diagnostics"], rtol=ADAM)


def test_what_has_not_begun_to_train_has_no_gradient_and_stays():
    trains = setup()[2]
    begins = trees.map_named(lambda name, _: 2 * name.startswith("bert/"), trains)
    step = jax.jit(make_step(1, begins=begins))
    (state, fixed), grads = start(), []
    for _ in range(3):
        state, metrics = step(state, arrays(), fixed)
        grads.append(metrics["diagnostics"]["grad_norm"])
    np.testing.assert_array_equal(np.array(grads) > 0, [(False, True, True)] * 2 + [(True, True, True)])


def test_weights_held_to_the_start_are_not_kept_twice():
    _, params, trains, optimizer = setup()
    anchor = {"bert": {"layer_0": params["bert"]["layer_0"]}}
    state, fixed = part(TrainState.start(params, optimizer, 0), trains, anchor, params)
    assert not trees.flatten(fixed.anchor).keys() & trees.flatten(fixed.initial).keys()
    assert trees.flatten(state.params).keys() == {**trees.flatten(anchor), **trees.flatten(fixed.initial)}.keys()
    told = jax.jit(make_step(1))(state, arrays(), fixed)[1]["diagnostics"]
    close(told, run(1)[1][0]["diagnostics"])
    assert part(state, trees.split(trains, trains)[0])[1].initial is None


SEEDS = TrainState(step=None, params=0, opt_state=0, key=0)


def test_seeds_side_by_side_tell_what_each_tells_alone():
    """The step number is of all seeds, so that what is not due is not computed."""
    many, params = [], setup()[1]
    for seed in range(2):
        drawn = {**params, "head": jax.tree.map(lambda x, seed=seed: x + np.float32(seed), params["head"])}
        many.append(part(TrainState.start(drawn, setup()[3], seed), setup()[2], initial=drawn))
    batches = [arrays(seed) for seed in range(2)]
    step = make_step(2)
    alone = jax.jit(step)
    of_head = {name: 0 if name == "head" else None for name in many[0][1].initial}
    together = jax.vmap(step, in_axes=(SEEDS, 0, Fixed(frozen=None, initial=of_head)), out_axes=(SEEDS, 0))

    def stacked(*seeds):
        return jax.tree.map(lambda *x: np.stack(x), *seeds)
    state = stacked(*(state for state, _ in many)).replace(step=np.int32(0))
    initial = {**many[0][1].initial, "head": stacked(*(fixed.initial["head"] for _, fixed in many))}
    given = stacked(*batches), many[0][1].replace(initial=initial)
    assert str(jax.make_jaxpr(together)(state, *given)).count(" cond[") == 2
    program = jax.jit(together)
    for _ in range(2):
        state, told = program(state, *given)
    for seed, (each, fixed) in enumerate(many):
        for _ in range(2):
            each, want = alone(each, batches[seed], fixed)
        got = jax.tree.map(partial(lambda seed, x: x[seed], seed), told)
        assert float(got["loss"]) == pytest.approx(float(want["loss"]), rel=1e-5)
        close(got["diagnostics"], want["diagnostics"], rtol=ADAM)
        assert diagnostics.row(got["diagnostics"], setup()[2])["relative_distance/head"] > 0
