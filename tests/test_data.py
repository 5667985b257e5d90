"""From texts to batches: truncation, encoding, collation, prefetching."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import batch_of, encoded, units

from flaxbert import packing
from flaxbert.data import collate, encode, prefetch, truncated
from flaxbert.tasks.base import Examples

# --- truncation

def literal(first: int, second: int, budget: int) -> tuple[int, int]:
    """_truncate_seq_pair of google-research/bert, run_classifier.py, on lengths."""
    while first + second > budget:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def test_truncation_equals_one_token_at_a_time_on_every_small_case():
    first, second, budget = (x.ravel() for x in np.meshgrid(range(26), range(26), range(0, 40)))
    for b in range(40):
        mine = budget == b
        got = truncated(first[mine], second[mine], b)
        want = np.array([literal(x, y, b) for x, y in zip(first[mine], second[mine], strict=True)]).T
        np.testing.assert_array_equal(got, want, err_msg=f"budget {b}")


@settings(max_examples=200)
@given(st.integers(0, 600), st.integers(0, 600), st.integers(0, 700))
def test_truncation_equals_one_token_at_a_time_on_long_texts(first, second, budget):
    got = truncated(np.array([first]), np.array([second]), budget)
    assert (int(got[0][0]), int(got[1][0])) == literal(first, second, budget)


# --- encoding

TEXTS = ["The bread was good.", "A man walked home", "Nobody liked the film we saw last week, and we said so."]


def test_single_sentences_are_encoded_as_the_tokenizer_does(tokenizer):
    got = encode(tokenizer, Examples(TEXTS, None, np.array([0, 1, 0], np.int32)), 64)
    want = tokenizer(TEXTS)["input_ids"]
    assert [got.tokens[a:b].tolist() for a, b in zip(got.offsets[:-1], got.offsets[1:], strict=True)] == want
    np.testing.assert_array_equal(got.lengths, [len(ids) for ids in want])
    np.testing.assert_array_equal(got.second, got.lengths)  # no sentence B
    np.testing.assert_array_equal(got.weights, 1)


def test_pairs_are_encoded_as_the_tokenizer_does(tokenizer):
    got = encode(tokenizer, Examples(TEXTS, TEXTS[::-1], None), 64)
    want = tokenizer(TEXTS, TEXTS[::-1])
    for i, (ids, types) in enumerate(zip(want["input_ids"], want["token_type_ids"], strict=True)):
        assert got.tokens[got.offsets[i]:got.offsets[i + 1]].tolist() == ids
        assert got.second[i] == types.index(1)
    assert got.labels is None


def test_truncation_keeps_the_special_tokens_and_the_beginnings(tokenizer):
    a, b = " ".join(["the"] * 40), " ".join(["was"] * 30)
    got = encode(tokenizer, Examples([a], [b], None), 20)
    the, was = (tokenizer.convert_tokens_to_ids(w) for w in ("the", "was"))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert got.tokens.tolist() == [cls, *[the] * 9, sep, *[was] * 8, sep]
    single = encode(tokenizer, Examples([a], None, None), 20)
    assert single.tokens.tolist() == [cls, *[the] * 18, sep]


def test_class_weights_become_weights_of_examples(tokenizer):
    got = encode(tokenizer, Examples(TEXTS, None, np.array([2, 0, 2], np.int32)), 64,
                 class_weights=(0.5, 1.0, 3.0))
    np.testing.assert_array_equal(got.weights, np.float32([3, 0.5, 3]))


# --- collation

def example_back(batch, row, slot):
    """What stands in one slot: ids, types, positions, as lists."""
    where = batch["sequence"][row] == slot + 1
    return [batch[name][row][where].tolist() for name in ("tokens", "types", "positions")]


@pytest.mark.parametrize("kind", ["classification", "regression", "multi_label"])
@pytest.mark.parametrize("packed", [True, False])
def test_every_example_stands_in_the_batch_whole(kind, packed):
    split = encoded(17, kind=kind)
    plan, batch = batch_of(split, range(17), packed=packed, multiple=4)
    rows = len(batch["tokens"])
    assert rows % 4 == 0
    for i, row, slot, start in zip(plan.examples, plan.row, plan.slot, plan.start, strict=True):
        ids = split.tokens[split.offsets[i]:split.offsets[i + 1]].tolist()
        types = [int(n >= split.second[i]) for n in range(len(ids))]
        assert example_back(batch, row, slot) == [ids, types, list(range(len(ids)))]
        assert batch["first"][row, slot] == start
        assert batch["weights"][row, slot] == split.weights[i]
        np.testing.assert_array_equal(batch["labels"][row, slot], split.labels[i])
    assert (batch["sequence"] > 0).sum() == split.lengths.sum()
    assert (batch["weights"] > 0).sum() == 17
    for name in ("tokens", "types", "positions"):
        assert not batch[name][batch["sequence"] == 0].any()
    np.testing.assert_array_equal(batch["row"], np.arange(rows))
    assert {name: x.dtype.name for name, x in batch.items() if name != "labels"} == {
        **dict.fromkeys(("tokens", "types", "positions", "sequence", "first", "row"), "int32"),
        "weights": "float32"}


@settings(max_examples=30)
@given(st.integers(1, 24), st.integers(2, 6), st.integers(0, 2**31))
def test_the_sequences_of_an_example_share_a_row_whole_and_in_order(count, most, seed):
    split = units(count, seed, most)
    plan, batch = batch_of(split, range(count), row_length=int(max(64, split.lengths.max())))
    assert batch["first"].shape[1:] == (plan.slots, most)
    for n, row, slot in zip(plan.examples, plan.row, plan.slot, strict=True):
        for p in range(most):
            number = n * most + p
            ids = split.tokens[split.offsets[number]:split.offsets[number + 1]].tolist()
            column = batch["first"][row, slot, p]
            assert (column < 0) == (not ids)
            types = [int(i >= split.second[number]) for i in range(len(ids))]
            assert example_back(batch, row, slot * most + p) == [ids, types, list(range(len(ids)))]
            if ids:
                assert np.flatnonzero(batch["sequence"][row] == slot * most + p + 1)[0] == column
        assert batch["labels"][row, slot] == split.labels[n]
    assert (batch["sequence"] > 0).sum() == len(split.tokens)
    assert (batch["weights"] > 0).sum() == count
    empty = batch["weights"] == 0
    assert (batch["first"][empty] == -1).all()


def of_tokens(count):
    """Random sequences whose tokens have labels 1 to 6, of which about half count."""
    split, rng = encoded(count), np.random.default_rng(1)
    labels, weights = rng.integers(1, 7, len(split.tokens)), rng.integers(0, 2, len(split.tokens))
    return dataclasses.replace(split, labels=labels.astype(np.int32), weights=weights.astype(np.float32),
                               labelled="token")


@pytest.mark.parametrize("packed", [True, False])
def test_labels_of_tokens_stand_at_their_tokens(packed):
    split = of_tokens(17)
    plan, batch = batch_of(split, range(17), packed=packed, multiple=4)
    assert batch["labels"].shape == batch["weights"].shape == batch["tokens"].shape
    for n, row, slot in zip(plan.examples, plan.row, plan.slot, strict=True):
        here, own = batch["sequence"][row] == slot + 1, slice(*split.offsets[n:n + 2])
        np.testing.assert_array_equal(batch["labels"][row, here], split.labels[own])
        np.testing.assert_array_equal(batch["weights"][row, here], split.weights[own])
    assert not batch["labels"][batch["sequence"] == 0].any()
    assert batch["weights"].sum() == split.weights.sum()
    blank = dataclasses.replace(split, labels=None)
    assert batch_of(blank, range(17), packed=packed)[1]["labels"].shape[1:] == (32,)


@pytest.mark.parametrize("packed", [True, False])
def test_spans_are_columns_of_the_row(packed):
    split = encoded(17)
    ends = np.sort(np.random.default_rng(1).integers(0, split.lengths[:, None], (17, 2)), axis=1).astype(np.int32)
    plan, batch = batch_of(dataclasses.replace(split, labels=ends, labelled="span"), range(17), packed=packed)
    assert packed == (plan.start.max() > 0)
    for n, row, slot in zip(plan.examples, plan.row, plan.slot, strict=True):
        here = np.flatnonzero(batch["sequence"][row] == slot + 1)
        np.testing.assert_array_equal(batch["labels"][row, slot], here[ends[n]])
    assert batch["weights"].shape == batch["labels"].shape[:2] == batch["first"].shape


@pytest.mark.parametrize("split", [encoded(23), units(12, longest=6), of_tokens(23)],
                         ids=["one", "several", "tokens"])
def test_processes_that_feed_their_own_rows_feed_the_whole_batch(split):
    plan = packing.pack(np.arange(len(split)), split.lengths, 32)
    whole = collate(split, plan, 16, 32, plan.slots)
    for shares in ((range(8), range(8, 16)), ([0, 1, 8, 9], [4, 5, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15])):
        for share in shares:
            part = collate(split, plan, 16, 32, plan.slots, np.array(share))
            for name, x in part.items():
                np.testing.assert_array_equal(x, whole[name][list(share)], err_msg=name)


def test_without_labels_a_batch_has_zeros():
    split = encoded(5)
    blank = type(split)(split.tokens, split.offsets, split.second, None, split.weights)
    _, batch = batch_of(blank, range(5))
    assert not batch["labels"].any()
    assert batch["weights"].any()


# --- prefetching

def test_prefetch_keeps_order_and_runs_ahead():
    made = []

    def items():
        for i in range(20):
            made.append(i)
            yield i
    ahead = prefetch(items(), depth=3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made) == 5  # the one taken, three ready, one that waits for room
    assert list(ahead) == list(range(1, 20))


def test_prefetch_hands_on_errors():
    def items():
        yield 1
        raise KeyError("in the thread")
    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="in the thread"):
        next(ahead)


def test_prefetch_ends_its_thread_when_nobody_listens_any_more():
    def endless():
        while True:
            yield 0
    before = threading.active_count()
    ahead = prefetch(endless())
    next(ahead)
    assert threading.active_count() == before + 1
    ahead.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
