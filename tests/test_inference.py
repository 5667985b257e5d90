"""Forward passes over whole splits: every output comes back to its own example or token, wherever it stood.

The "models" here say what they were given, so that nothing but the bookkeeping is tested.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import encoded, units

from flaxbert import parallel
from flaxbert.config import Config
from flaxbert.inference import Inference

PLACEMENTS = [("jit", 1), ("jit", 4), ("pmap", 4)]


@pytest.fixture(params=PLACEMENTS, ids=lambda value: f"{value[0]}-{value[1]}")
def placement(request):
    how, devices = request.param
    return parallel.make(Config.make(parallel=how, devices=devices))


def each_token(params, batch, dropout):
    """[R, T, 3] of every token: its id, its position, which sentence."""
    return jnp.stack([batch["tokens"], batch["positions"], batch["types"]], -1).astype(jnp.float32)


def each_beginning(params, batch, dropout):
    """[R, E, P] the id at the beginning of each sequence, -1 where there is none; P is 1 for lone sequences."""
    first = batch["first"].reshape(*batch["first"].shape[:2], -1)
    ids = jnp.take_along_axis(batch["tokens"], jnp.maximum(first, 0).reshape(len(first), -1), axis=1)
    return jnp.where(first < 0, -1, ids.reshape(first.shape)).astype(jnp.float32)


def outputs(apply, placement, split, **given):
    params = placement.put({"w": np.zeros(1, np.float32)})
    return Inference(apply, placement, **given).outputs(params, split)


@pytest.mark.parametrize("packing", [True, False])
def test_outputs_of_tokens_are_in_the_order_of_the_tokens(placement, packing):
    split = encoded(41)
    found = outputs(each_token, placement, split, packing=packing, per_token=True)
    lengths = np.diff(split.offsets)
    positions = np.concatenate([np.arange(n) for n in lengths])
    np.testing.assert_array_equal(found[:, 0], split.tokens)
    np.testing.assert_array_equal(found[:, 1], positions)
    np.testing.assert_array_equal(found[:, 2], positions >= np.repeat(split.second, lengths))


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("split", [encoded(41), units(41), units(7, most=26)], ids=["one", "four", "twenty-six"])
def test_outputs_of_sequences_are_in_the_order_of_the_examples(placement, packing, split):
    found = outputs(each_beginning, placement, split, packing=packing)
    there = np.diff(split.offsets) > 0
    want = np.where(there, split.tokens[np.minimum(split.offsets[:-1], len(split.tokens) - 1)], -1)
    np.testing.assert_array_equal(found, want.reshape(len(split), -1))


def test_labels_and_weights_come_only_to_those_that_need_them():
    placement = parallel.JitPlacement(jax.local_devices()[:1])
    split, seen = encoded(5), []

    def spy(params, batch, dropout):
        seen.append(set(batch))
        return each_beginning(params, batch, dropout)
    for needs_labels in (False, True):
        outputs(spy, placement, split, needs_labels=needs_labels)
    assert seen[1] - seen[0] == {"labels", "weights"}
    assert seen[0] < seen[1]


def test_splits_of_the_same_shapes_share_a_program():
    placement = parallel.JitPlacement(jax.local_devices()[:1])
    traced = []

    def spy(params, batch, dropout):
        traced.append(batch["first"].shape)
        return each_beginning(params, batch, dropout)
    params = placement.put({"w": np.zeros(1, np.float32)})
    inference = Inference(spy, placement)
    for split in (units(9), units(9, seed=1), units(9, most=3), encoded(9)):
        inference.outputs(params, split)
    assert len(traced) == len(set(traced)) == 3
