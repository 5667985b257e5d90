"""Pre-training: documents to sequences, and the masks of their rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import refused

from flaxbert import families, masking, segments, tasks, vocabulary
from flaxbert.config import Config
from flaxbert.data import collate
from flaxbert.masking import Vocabulary
from flaxbert.packing import pack
from flaxbert.tasks.base import Documents

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *"abcdefgh", *(f"##{c}" for c in "abcdefgh")]


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary.tokenizer(PIECES, cased=False)


@pytest.fixture(scope="module")
def words(tokenizer):
    return Vocabulary.of(tokenizer, "here")


# --- masks

def random_rows(words, rows=64, length=200, seed=0):
    """Rows of [CLS], ordinary tokens, [SEP] and padding."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(words.ordinary, (rows, length)).astype(np.int32)
    sizes = rng.integers(2, length, rows)
    columns = np.arange(length)
    tokens[:, 0] = 2
    tokens[columns >= sizes[:, None]] = 0
    tokens[np.arange(rows), sizes - 1] = 3
    return tokens


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_exactly_the_share_of_ordinary_tokens_is_masked_and_no_other(words, rate):
    tokens = random_rows(words)
    seen, chosen = masking.mask(tokens, words, rate, False, masking.uniform(0, 3, range(64), 200))
    maskable = (tokens > 4)
    assert (chosen.sum(1) == np.rint(rate * maskable.sum(1))).all()
    assert not (chosen & ~maskable).any()
    assert (seen == tokens)[~chosen].all()
    assert seen.dtype == np.int32


def test_of_the_masked_80_percent_are_masks_10_any_word_10_unchanged(words):
    tokens = random_rows(words, rows=512)
    seen, chosen = masking.mask(tokens, words, 0.15, False, masking.uniform(1, 0, range(512), 200))
    new, old = seen[chosen], tokens[chosen]
    count = len(new)
    assert count > 5000
    same = 1 / len(words.ordinary)  # a random word may be the old one
    for share, want in ((np.mean(new == 4), 0.8), (np.mean(new == old), 0.1 + 0.1 * same)):
        assert abs(share - want) < 4 * np.sqrt(want * (1 - want) / count)
    instead = new[(new != 4) & (new != old)]
    assert set(instead) <= set(words.ordinary.tolist())
    assert len(set(instead)) == len(words.ordinary), "every word comes up"


def test_every_column_is_as_likely(words):
    tokens = np.full((4000, 12), 6, np.int32)
    _, chosen = masking.mask(tokens, words, 0.25, False, masking.uniform(0, 0, range(4000), 12))
    assert np.abs(chosen.mean(0) - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_a_mask_is_a_function_of_seed_step_and_row(words):
    draw = masking.uniform
    rows = draw(3, 7, [0, 1, 2, 5], 40)
    np.testing.assert_array_equal(draw(3, 7, [5, 1], 40), rows[[3, 1]])
    for other in (draw(4, 7, [5], 40), draw(3, 8, [5], 40), draw(3, 7, [6], 40)):
        assert not np.isin(other, rows).any()


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=12), min_size=1, max_size=6),
       st.integers(0, 10), st.integers(0, 1000))
def test_whole_words_are_chosen_as_far_as_they_fit(lengths, wanted, seed):
    """`lengths` are those of the words of each row, which stand behind a special token."""
    width = 1 + max(map(sum, lengths))
    maskable, begins = np.zeros((2, len(lengths), width), bool)
    word = np.zeros((len(lengths), width), int)
    for row, sizes in enumerate(lengths):
        starts = 1 + np.cumsum([0, *sizes])
        for number, (start, size) in enumerate(zip(starts, sizes, strict=False)):
            maskable[row, start:start + size], begins[row, start] = True, True
            word[row, start:start + size] = number
    priority = np.random.default_rng(seed).random(maskable.shape)
    chosen = masking.choose(maskable, begins, priority, np.full(len(lengths), wanted))
    assert not (chosen & ~maskable).any()
    for row, sizes in enumerate(lengths):  # one word after the other, each if it still fits
        left, want = wanted, np.zeros(width, bool)
        for first in sorted(np.flatnonzero(begins[row]), key=lambda column: priority[row, column]):
            number = word[row, first]
            if sizes[number] <= left:
                left -= sizes[number]
                want |= maskable[row] & (word[row] == number)
        np.testing.assert_array_equal(chosen[row], want)


def test_whole_words_by_the_pieces(words, tokenizer):
    pieces = ["[CLS]", "a", "##b", "##c", "d", "##e", "[SEP]", "[CLS]", "##f", "a", "##b", "[SEP]", "[PAD]"]
    tokens = np.array([tokenizer.convert_tokens_to_ids(pieces)] * 500, np.int32)
    _, chosen = masking.mask(tokens, words, 0.25, True, masking.uniform(0, 0, range(500), len(pieces)))
    found = {tuple(np.flatnonzero(row).tolist()) for row in chosen}
    assert found == {(4, 5), (9, 10), (8,)}  # 2 of 8; abc is too long; f begins a sequence


def test_columns_of_the_chosen():
    chosen = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    columns, there = masking.columns(chosen, 3)
    assert columns[0].tolist() == [1, 3, 4]
    assert columns[1, 0] == 4
    assert there.sum(1).tolist() == [3, 1, 0]


def test_a_tokenizer_without_a_mask_is_refused():
    class NoMask:
        mask_token_id = None
    assert refused(Vocabulary.of, NoMask, "--model=x").startswith("--model=x: its tokenizer has no [MASK]")


# --- sequences

def family(length=8, **other):
    given = Config.make(task="pretrain", max_length=length, **other)
    return families.make(tasks.resolve(given), given)


def letters(number, count, words=True):
    """A paragraph of words of one or two letters, all starting with another letter each document."""
    rng = np.random.default_rng(number)
    return " ".join("".join(rng.choice(list("abcdefgh"), rng.integers(1, 4))) for _ in range(count)) + "."


def documents(sizes):
    paragraphs = [[letters(100 * i + j, n) for j, n in enumerate(each)] for i, each in enumerate(sizes)]
    return Documents(paragraphs, [str(i) for i in range(len(sizes))])


def originals(encoded):
    """The sequences as they were before masking, without [CLS] and [SEP]."""
    rows = [encoded.labels[a:b] for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]
    assert all(row[-1] == 3 for row in rows)
    return [row[1:-1] for row in rows]


@pytest.mark.parametrize("length", [4, 8, 32])
def test_no_token_is_lost_and_sequences_are_full(tokenizer, length):
    split = documents([[3, 20, 1], [1], [40], [2, 2, 2, 2]])
    encoded = family(length).encode(tokenizer, split)
    want = [tokenizer(" ".join(paragraphs), add_special_tokens=False)["input_ids"]
            for paragraphs in split.paragraphs]
    rows = originals(encoded)
    assert np.concatenate(rows).tolist() == [token for ids in want for token in ids]
    assert encoded.lengths.max() <= length
    ends = {sum(map(len, want[:i + 1])) for i in range(len(want))}
    continues = np.array([piece.startswith("##") for piece in PIECES])
    done = 0
    for row, following in zip(rows, [*rows[1:], np.array([0])], strict=True):
        done += len(row)
        if done in ends:
            continue
        assert len(row) + len(following) > length - 2 or not continues[following].all()
        if not continues[following[:length - 2]].all() and length > 6:
            assert not continues[following[0]], "a sequence begins at a word's beginning"


def test_dev_is_masked_the_same_way_each_time(tokenizer):
    split = documents([[30, 20], [60]])
    one, again = (family(32).encode(tokenizer, split) for _ in range(2))
    assert np.array_equal(one.tokens, again.tokens)
    assert not np.array_equal(one.tokens, family(32, seed=1).encode(tokenizer, split).tokens)
    changed = one.tokens != one.labels
    changed[one.offsets[:-1]] = False  # there stands the next sentence's label
    assert changed.any()
    assert (one.weights[changed] == 1).all()
    for begin, end in zip(one.offsets[:-1], one.offsets[1:], strict=True):
        assert one.weights[begin:end].sum() == np.rint(0.15 * (end - begin - 2))


def test_the_labels_of_next_sentences_have_the_names_of_their_numbers():
    assert family().next_sentence is False
    asked = family(next_sentence=True)
    assert asked.next_sentence is True
    assert (asked.task.labels[segments.NEXT], asked.task.labels[segments.RANDOM]) == ("next", "random")


@pytest.fixture(scope="module")
def pairs(tokenizer):
    split = documents([[int(n) for n in np.random.default_rng(i).integers(3, 9, 12)] for i in range(40)])
    return split, family(24, next_sentence=True).encode(tokenizer, split)


def halves(encoded):
    """(A, B, label) of each sequence, as token lists."""
    for n, (begin, end) in enumerate(zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)):
        row, second = encoded.labels[begin:end], encoded.second[n]
        assert row[second - 1] == 3
        assert row[-1] == 3
        yield row[1:second - 1].tolist(), row[second:-1].tolist(), int(row[0])


def test_half_of_the_second_sentences_follow_and_the_others_are_of_another_document(pairs, tokenizer):
    split, encoded = pairs
    texts = [tokenizer(" ".join(paragraphs), add_special_tokens=False)["input_ids"]
             for paragraphs in split.paragraphs]
    spelled = [f" {' '.join(map(str, ids))} " for ids in texts]
    labels, document, at = [], 0, 0
    for first, second, label in halves(encoded):
        assert first
        assert second
        assert len(first) + len(second) <= 21
        if at == len(texts[document]):
            document, at = document + 1, 0
        assert texts[document][at:at + len(first)] == first, "documents go on where they were left"
        at += len(first)
        if label == 0:
            assert texts[document][at:at + len(second)] == second
            at += len(second)
        elif len(second) > 6:
            found = [n for n, other in enumerate(spelled) if f" {' '.join(map(str, second))} " in other]
            assert found
            assert document not in found
        labels.append(label)
    assert (document, at) == (len(texts) - 1, len(texts[-1])), "nothing is left over"
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / np.sqrt(len(labels))
    cut_well = [first[-1] == tokenizer.convert_tokens_to_ids(".") for first, _, _ in halves(encoded)]
    assert np.mean(cut_well) > 0.8, "A ends with a sentence, wherever one ends at all"


def test_the_label_does_not_show_in_the_lengths(pairs):
    lengths = [(label, len(second)) for _, second, label in halves(pairs[1])]
    follows, other = ([n for label, n in lengths if label == which] for which in (0, 1))
    assert abs(np.mean(follows) - np.mean(other)) < 4 * np.std(follows) / np.sqrt(min(len(follows), len(other)))


def test_one_document_has_no_other_to_take_a_sentence_from(tokenizer):
    line = refused(family(8, next_sentence=True).encode, tokenizer, documents([[4, 4]]))
    assert "--next_sentence needs two" in line


# --- the batch

def batch_of(tokenizer, rows=None, step=0, **other):
    """The training batch of a few packed rows; `rows`: only these of them."""
    split = documents([[30, 20], [60], [3]])
    own = family(32, **other)
    encoded = own.encode(tokenizer, split)
    plan = pack(np.arange(len(encoded)), encoded.lengths, 64)
    arrays = collate(encoded, plan, plan.rows + 1, 64, plan.slots, rows)
    return arrays, own.train_batch(arrays, step), own.eval_batch(arrays)


@pytest.mark.parametrize("next_sentence", [False, True])
def test_a_training_batch(tokenizer, words, next_sentence):
    arrays, batch, _ = batch_of(tokenizer, next_sentence=next_sentence)
    original = np.where(arrays["positions"] > 0, arrays["labels"], arrays["tokens"])
    chosen = np.zeros(original.shape, bool)
    for row, columns, weights in zip(chosen, batch["masked"], batch["weights"]["mlm"], strict=True):
        row[columns[weights > 0]] = True
    maskable = words.maskable[original]
    assert batch["masked"].shape[1] == round(0.15 * 64)
    assert (chosen.sum(1) == np.rint(0.15 * maskable.sum(1))).all()
    assert chosen[:-1].any(1).all()
    assert not chosen[-1].any(), "the empty row"
    assert not (chosen & ~maskable).any()
    assert (batch["tokens"] == original)[~chosen].all(), "nothing of the held-out masks is left"
    there = batch["weights"]["mlm"] > 0
    assert (batch["labels"]["mlm"] == np.take_along_axis(original, batch["masked"], 1))[there].all()
    assert set(batch["labels"]) == set(batch["weights"]) == ({"mlm", "nsp"} if next_sentence else {"mlm"})
    if next_sentence:
        assert batch["weights"]["nsp"].sum() == arrays["sequence"].max(1).sum()
        first = np.take_along_axis(arrays["labels"], arrays["first"], 1)
        assert (batch["labels"]["nsp"] == first)[batch["weights"]["nsp"] > 0].all()


def test_a_row_is_masked_the_same_whatever_stands_beside_it_and_anew_each_step(tokenizer):
    _, whole, _ = batch_of(tokenizer)
    _, part, _ = batch_of(tokenizer, rows=np.array([1, 2]))
    for name in ("tokens", "masked"):
        np.testing.assert_array_equal(part[name], whole[name][[1, 2]])
    _, later, _ = batch_of(tokenizer, step=1)
    assert (later["tokens"] != whole["tokens"]).any()


def test_an_evaluation_sees_the_masks_of_the_split(tokenizer):
    arrays, _, batch = batch_of(tokenizer)
    np.testing.assert_array_equal(batch["tokens"], arrays["tokens"])
    assert batch["weights"]["mlm"].sum() == arrays["weights"].sum() > 0
