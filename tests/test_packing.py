"""Which example stands in which row: order, plans, row counts, and how much padding is left on real data."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxbert import packing, tasks
from flaxbert.bert import BertConfig
from flaxbert.config import Config
from flaxbert.data import encode
from flaxbert.model_files import load_tokenizer
from flaxbert.packing import Epochs

T = 24
LENGTHS = st.lists(st.integers(3, T), min_size=1, max_size=60)


def spans(plan, lengths):
    """(row, start, end) of every example, by row and start."""
    ends = plan.start + lengths[plan.examples]
    return sorted(zip(plan.row.tolist(), plan.start.tolist(), ends.tolist(), strict=True))


# --- order

def test_order_is_a_permutation_and_a_pure_function_of_seed_and_epoch():
    first = packing.order(3, 5, 100).copy()
    packing.order.cache_clear()
    np.testing.assert_array_equal(packing.order(3, 5, 100), first)
    assert sorted(first) == list(range(100))
    others = [packing.order(seed, epoch, 100).tolist() for seed, epoch in ((3, 6), (4, 5), (5, 3), (0, 0))]
    assert first.tolist() not in others
    assert len({tuple(o) for o in others}) == 4


def test_every_example_exactly_once_an_epoch():
    lengths = np.random.default_rng(0).integers(3, T, 45)
    epochs = Epochs(lengths, 8, T, seed=1)
    assert epochs.steps_per_epoch == 6
    plans = list(epochs.plans(0, 18))
    assert [len(plan.examples) for plan in plans] == [8, 8, 8, 8, 8, 5] * 3
    orders = []
    for epoch in range(3):
        seen = np.concatenate([plan.examples for plan in plans[6 * epoch:6 * epoch + 6]])
        assert sorted(seen) == list(range(45))
        orders.append(tuple(seen))
    assert len(set(orders)) == 3


def test_a_run_that_starts_in_the_middle_sees_the_same_plans():
    lengths = np.random.default_rng(0).integers(3, T, 45)
    whole = list(Epochs(lengths, 8, T, seed=1).plans(0, 16))
    part = list(Epochs(lengths, 8, T, seed=1).plans(4, 13))
    assert len(part) == 9
    for a, b in zip(whole[4:13], part, strict=True):
        for name in ("examples", "row", "slot", "start"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


# --- one batch

@settings(max_examples=60)
@given(LENGTHS)
def test_rows_never_overflow_and_sequences_never_overlap(sizes):
    lengths = np.array(sizes)
    plan = packing.pack(np.arange(len(sizes)), lengths, T)
    assert plan.examples.tolist() == list(range(len(sizes)))
    found = spans(plan, lengths)
    for (row, _, end), (next_row, start, _) in pairwise(found):
        assert row < next_row or end <= start
    assert all(0 <= start < end <= T for _, start, end in found)
    assert {row for row, _, _ in found} == set(range(plan.rows))
    assert -(-lengths.sum() // T) <= plan.rows <= packing.pack(plan.examples, lengths, T, rounds=0).rows
    slots = Counter(plan.row.tolist())
    assert plan.slots == max(slots.values())
    for row, count in slots.items():
        assert sorted(plan.slot[plan.row == row]) == list(range(count))


@settings(max_examples=40)
@given(st.lists(st.integers(3, T), min_size=1, max_size=8))
def test_small_batches_are_packed_into_the_fewest_rows(sizes):
    def fewest(left):
        """Brute force: the longest left with every set of others that fits."""
        if not left:
            return 0
        head, *rest = left
        return 1 + min(fewest([s for i, s in enumerate(rest) if i not in chosen])
                       for n in range(len(rest) + 1) for chosen in combinations(range(len(rest)), n)
                       if head + sum(rest[i] for i in chosen) <= T)
    plan = packing.pack(np.arange(len(sizes)), np.array(sizes), T)
    assert plan.rows == fewest(sorted(sizes, reverse=True))


def test_unpacked_is_one_a_row_in_the_given_order():
    plan = packing.pack(np.array([7, 2, 9]), np.array([5, 3, 4]), T, packing=False)
    assert plan.row.tolist() == [0, 1, 2]
    assert not plan.slot.any()
    assert not plan.start.any()
    assert (plan.rows, plan.slots) == (3, 1)


def test_a_whole_split_is_packed_in_file_order_stretches():
    lengths = np.random.default_rng(0).integers(3, T, 2500)
    plan = packing.rows_of_split(lengths, T)
    assert plan.examples.tolist() == list(range(2500))
    assert {row for row, _, _ in spans(plan, lengths)} == set(range(plan.rows))
    found = spans(plan, lengths)
    assert all(a[0] < b[0] or a[2] <= b[1] for a, b in pairwise(found))
    assert lengths.sum() / (plan.rows * T) > 0.95


# --- row counts

@settings(max_examples=80)
@given(st.lists(st.integers(1, 14), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_row_counts_waste_as_little_as_the_best_choice(needed, multiple, most):
    counts = packing.row_counts(needed, multiple, most)
    assert len(counts) <= most
    assert all(count % multiple == 0 for count in counts)
    assert counts[-1] == -(-max(needed) // multiple) * multiple

    def waste(choice):
        return sum(packing.smallest(choice, need) - need for need in needed)
    rounded = sorted({-(-need // multiple) * multiple for need in needed})
    every = [(*chosen, rounded[-1]) for n in range(min(most, len(rounded))) for chosen in
             combinations(rounded[:-1], n)]
    assert waste(counts) == min(map(waste, every))


def test_the_plan_knows_nothing_of_devices_only_the_row_count_does():
    lengths = np.random.default_rng(0).integers(3, T, 64)
    epochs = Epochs(lengths, 16, T, seed=0)
    needed, slots = packing.rows_needed(epochs, 8)
    plans = list(epochs.plans(0, 8))
    assert needed == [plan.rows for plan in plans]
    assert slots == max(plan.slots for plan in plans)
    for devices in (1, 2, 4, 8):
        counts = packing.row_counts(needed, devices)
        assert all(0 <= packing.smallest(counts, n) - n < counts[-1] for n in needed)
        assert all(count % devices == 0 for count in counts)


@pytest.mark.parametrize("packed", [True, False])
def test_a_sampled_run_never_lacks_a_row_count_or_a_slot(packed):
    for seed in range(6):
        lengths = np.random.default_rng(seed).integers(3, T, 53)
        epochs = Epochs(lengths, 9, T, seed, packed)
        steps = 60
        needed, slots = packing.rows_needed(epochs, steps, sample=7)
        assert len(needed) < steps / 2  # it is a sample
        counts = packing.row_counts(needed, 1)
        for plan in epochs.plans(0, steps):
            assert plan.rows <= counts[-1]
            assert plan.slots <= slots


def test_row_length_suits_the_texts():
    rng = np.random.default_rng(0)
    short, long = rng.integers(5, 20, 400), rng.integers(90, 129, 400)
    chosen = packing.choose_row_length(short, 32, 128)
    assert chosen % 32 == 0
    assert chosen <= 128
    assert packing.choose_row_length(long, 32, 128) == 128
    few = packing.choose_row_length(short, 2, 128)
    assert few == 32  # two short texts do not fill a long row
    for lengths, batch in ((short, 32), (long, 32), (short, 2)):
        best = packing.choose_row_length(lengths, batch, 128)
        assert best >= lengths.max()


def test_rows_are_longer_than_a_sequence_may_be_only_where_much_padding_would_be_left():
    def chosen(low, high):
        lengths = np.random.default_rng(0).integers(low, high, 2000)
        lengths[0] = 384
        return packing.choose_row_length(lengths, 32, 384)
    assert chosen(240, 256) == 512  # one would stand alone in 384
    assert chosen(180, 192) == 384
    assert chosen(300, 384) == 384  # no two of them in any row


# --- real data

LIMITS = {32: 0.09, 256: 0.04}
REAL = {"mrpc": "glue/MRPC", "rte": "glue/RTE", "mnli": "glue/MNLI"}


@pytest.fixture(scope="module")
def vocabulary(outside):
    return load_tokenizer(outside / "models" / "minilm-l6-h384-uncased", BertConfig())


@pytest.fixture(scope="module")
def real_lengths(outside, vocabulary):
    """Task -> lengths in tokens of its training examples, truncated to 128."""
    found = {}
    for name, folder in REAL.items():
        _, splits, _ = tasks.load(Config.make(task=name, data_dir=str(outside / "data" / folder)))
        found[name] = encode(vocabulary, splits["train"], 128).lengths
    return found


@pytest.mark.parametrize("batch_size", LIMITS)
@pytest.mark.parametrize("name", REAL)
def test_padding_share_on_real_data(real_lengths, name, batch_size, record_property):
    lengths = real_lengths[name]
    row_length = packing.choose_row_length(lengths, batch_size, 128)
    epochs = Epochs(lengths, batch_size, row_length, seed=0)
    needed, _ = packing.rows_needed(epochs, 3 * epochs.steps_per_epoch)
    counts = packing.row_counts(needed, 1)
    assert len(counts) <= 4
    processed = row_length * sum(packing.smallest(counts, need) for need in needed)
    share = 1 - 3 * lengths.sum() / processed
    record_property("padding_share", float(share))
    print(f"{name} {batch_size}: {share:.4f}, T={row_length}, rows {counts}")
    assert share <= LIMITS[batch_size]
