"""Running text cut into sequences: nothing is lost, words stay whole, B is what it should be."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxbert import segments
from flaxbert.segments import NEXT, RANDOM

# Documents as the sizes of their words, and how many words their sentences have.
WORDS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=40), min_size=2, max_size=5)


def text(documents, sentence):
    """(documents, starts, continues): every token has a number of its own, so that a piece tells its place."""
    first = np.concatenate([np.eye(1, size, dtype=bool)[0] for sizes in documents for size in sizes])
    edges = np.cumsum([0, *map(sum, documents)])
    starts = [np.cumsum([0, *sizes])[:-1][::sentence] for sizes in documents]
    return [np.arange(a, b) for a, b in pairwise(edges)], starts, ~first


def pairs(documents, sentence, room, seed=0):
    """The segments, and what `text` gives."""
    made = text(documents, sentence)
    return [*segments.pairs(*made[:2], room, made[2], np.random.default_rng(seed))], *made


def ends_a_word(piece, documents, continues):
    """Whether the token after a piece begins a word, or there is none."""
    document = next(each for each in documents if piece[0] in each)
    after = piece[-1] + 1
    return after > document[-1] or not continues[after]


@settings(max_examples=100)
@given(WORDS, st.integers(1, 30), st.integers(2, 12), st.integers(0, 100))
def test_pairs_lose_nothing_and_b_is_one_piece_of_another_document(sizes, sentence, room, seed):
    found, documents, starts, _ = pairs(sizes, sentence, room, seed)
    kept = [piece for a, b, label in found for piece in ([a, b] if label == NEXT else [a])]
    np.testing.assert_array_equal(np.concatenate(kept), np.concatenate(documents))
    for a, b, label in found:
        assert len(a) > 0
        assert 0 < len(b) <= room - len(a)
        assert (np.diff(b) == 1).all()
        if label == RANDOM:
            number = next(n for n, document in enumerate(documents) if b[0] in document)
            assert b[-1] in documents[number], "of one document"
            assert a[0] not in documents[number]
            assert b[0] - documents[number][0] in starts[number]


@settings(max_examples=100)
@given(WORDS, st.integers(1, 30), st.integers(5, 12), st.integers(0, 100))
def test_words_that_fit_stay_whole(sizes, sentence, room, seed):
    """With room for every word beside another one, A ends where a word does; B too, but where A leaves no room."""
    found, documents, _, continues = pairs(sizes, sentence, room, seed)
    for a, b, label in found:
        assert not continues[a[0]]
        assert not continues[b[0]]
        assert ends_a_word(a, documents, continues)
        full = len(a) + len(b) == room and continues[b[1:]].all()
        assert ends_a_word(b, documents, continues) or (label == RANDOM and full)


@pytest.mark.parametrize("room", [2, 3, 7])
def test_words_longer_than_the_room_are_cut(room):
    found, documents, _, _ = pairs([[30], [1, 30, 1]], 1, room)
    assert np.concatenate([np.r_[a, b] if label == NEXT else a for a, b, label in found]).tolist() == [
        *documents[0], *documents[1]]
    assert max(len(a) + len(b) for a, b, _ in found) <= room


def test_a_shorter_document_gives_all_that_it_has():
    found, documents, _, _ = pairs([[1] * 400, [2, 1]], 5, 20)
    seconds = [b.tolist() for a, b, label in found if label == RANDOM and a[0] < 400]
    assert len(seconds) > 5
    assert all(b == documents[1][:len(b)].tolist() for b in seconds)
    assert sum(len(b) == 3 for b in seconds) > len(seconds) / 2
    assert all(b for b in seconds)


def test_the_label_does_not_show_in_whether_a_sequence_is_full():
    rng = np.random.default_rng(0)
    sizes = [rng.choice([1, 1, 1, 2, 3], 400).tolist() for _ in range(60)]
    found, documents, _, _ = pairs(sizes, 7, 24)
    last = {document[-1] for document in documents}
    full = {label: [len(a) + len(b) == 24 for a, b, each in found if each == label and b[-1] not in last]
            for label in (NEXT, RANDOM)}
    shares = {label: np.mean(each) for label, each in full.items()}
    assert 0.3 < shares[NEXT] < 0.9
    spread = np.sqrt(sum(0.25 / len(each) for each in full.values()))
    assert abs(shares[NEXT] - shares[RANDOM]) < 4 * spread


def test_without_pairs_words_stay_whole_too():
    documents, _, continues = text([[1, 2, 3, 4, 2, 9, 1]], 1)
    found = [a.tolist() for a, _, _ in segments.whole(documents, 6, continues)]
    assert [(each[0], len(each)) for each in found] == [(0, 6), (6, 6), (12, 6), (18, 4)]
