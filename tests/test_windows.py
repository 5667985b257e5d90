"""Spans: the windows of a context, and the best answers found in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import CONTEXT, LONG, batch_of, refused, span_config, span_examples, span_windows

from flaxbert import families, heads, tasks
from flaxbert.families import span
from flaxbert.tasks.base import SpanExamples

# --- windows

def reference_windows(count, room, stride):
    """Beginnings and sizes, one after the other, as the published loop goes."""
    found, begin = [], 0
    while begin < count or not found:
        size = min(count - begin, room)
        found.append((begin, size))
        if begin + size == count:
            break
        begin += min(size, stride)
    return found


@settings(max_examples=40)
@given(st.integers(0, 90), st.integers(1, 8), st.integers(12, 40), st.integers(1, 50), st.integers(1, 9))
def test_windows_hold_all_of_a_context_and_advance_by_the_stride(tokenizer, words, asked, length, stride, query):
    numbers = np.random.default_rng(words).integers(10, 60, words)
    context = " ".join(chr(97 + number % 26) for number in numbers) or "\u200b"  # which is no token
    examples = span_examples(("b " * asked, context, None), ("c", context, None))
    got = span_windows(tokenizer, examples, max_length=length, doc_stride=stride, max_query_length=query)
    ids = tokenizer(context, add_special_tokens=False)["input_ids"]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for number, text in enumerate(examples.questions):
        cut = tokenizer(text, add_special_tokens=False)["input_ids"][:query]
        want = [[cls, *cut, sep, *ids[begin:begin + size], sep]
                for begin, size in reference_windows(len(ids), length - len(cut) - 3, stride)]
        assert [got.tokens[got.offsets[w]:got.offsets[w + 1]].tolist() for w in got.of(number)] == want
        assert all(got.second[w] == len(cut) + 2 for w in got.of(number))
    assert got.lengths.max() <= length
    assert got.characters[0] is got.characters[1]  # tokenised once


@pytest.mark.parametrize("text", ["farmer", "red basket", "Zoë", "café", "“Chez 🙂”", "Chez", "closed."])
def test_the_label_is_the_answer(tokenizer, text):
    examples = span_examples(("Who?", CONTEXT, text), ("Why?", CONTEXT, None))
    got = span_windows(tokenizer, examples, max_length=64)
    assert len(got) == 2
    assert got.labels[1].tolist() == [0, 0]
    first, last = got.labels[0] - got.second[0] + got.begin[0]
    assert CONTEXT[got.characters[0][first, 0]:got.characters[0][last, 1]] == text


def test_an_answer_within_a_word_is_the_tokens_that_it_touches(tokenizer):
    got = span_windows(tokenizer, span_examples(("Who?", "He lives in Westwood now.", "two")), max_length=64)
    first, last = got.labels[0] - got.second[0]
    begin, end = got.characters[0][first, 0], got.characters[0][last, 1]
    assert begin <= "He lives in Westwood now.".index("two")
    assert end >= "He lives in Westwood now.".index("two") + 3
    assert "He lives in Westwood now."[begin:end] in "Westwood"


def test_a_window_without_the_whole_answer_trains_on_cls(tokenizer):
    """A boundary goes through the answer in some windows; in those that hold it whole it is the label."""
    context = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    examples = span_examples(("w", context, "k l m n o"))
    got = span_windows(tokenizer, examples, max_length=12, doc_stride=3)  # eight of the 26 letters
    assert len(got) == 7
    whole = 0
    for window, (first, last) in enumerate(got.labels.tolist()):
        begin = got.begin[window]
        if begin <= 10 and begin + 8 >= 15:
            whole += 1
            assert (first, last) == (3 + 10 - begin, 3 + 14 - begin)
            ids = got.tokens[got.offsets[window] + first:got.offsets[window] + last + 1]
            assert tokenizer.decode(ids) == "k l m n o"
        else:
            assert (first, last) == (0, 0)
    assert whole == 1


def test_train_uses_the_first_answer(tokenizer):
    examples = SpanExamples(["Who?"], [CONTEXT], [[("basket", CONTEXT.index("basket")), ("Two", 0)]], ["1"])
    got = span_windows(tokenizer, examples, max_length=64)
    assert tokenizer.decode(got.tokens[slice(*(got.labels[0] + [0, 1]))]) == "basket"


def test_no_room_for_a_context_is_one_line(tokenizer):
    line = refused(span_windows, tokenizer, span_examples(("a b c d e f", CONTEXT, None)), max_length=9)
    assert line.startswith("--max_length=9: no room for a context beside a question of 6 tokens")
    assert len(span_windows(tokenizer, span_examples(("a b c d e f", "x y", None)), max_length=10)) == 2


def test_without_answers_there_are_no_labels(tokenizer):
    assert span_windows(tokenizer, SpanExamples(["Who?"], [CONTEXT], None, ["1"])).labels is None


# --- the best answers

def reference_answers(outputs, windows, number, context, n_best, longest):
    """Every pair of every window, one by one: (score, text), best first, and the null score."""
    found, pieces = [], []
    for w in windows.of(number):
        pieces.append((int(windows.begin[w]), int(windows.lengths[w] - windows.second[w] - 1)))

    def around(token, begin, size):
        inside = begin <= token < begin + size
        return min(token - begin, begin + size - 1 - token) + 0.01 * size if inside else -1
    for w, (begin, size) in zip(windows.of(number), pieces, strict=True):
        own = outputs[windows.offsets[w]:windows.offsets[w + 1]].astype(np.float64)
        for first in range(begin, begin + size):
            if max(pieces, key=lambda piece: around(first, *piece)) != (begin, size):
                continue
            for last in range(first, min(first + longest, begin + size)):
                place = windows.characters[number][[first, last]]
                score = own[windows.second[w] + first - begin, 0] + own[windows.second[w] + last - begin, 1]
                found.append((score, context[place[0, 0]:place[1, 1]]))
    best = {}
    for score, text in sorted(found, key=lambda pair: -pair[0]):
        best.setdefault(text, score)
    null = min(outputs[windows.offsets[w]].astype(np.float64).sum() for w in windows.of(number))
    return [(score, text) for text, score in best.items()][:n_best], null


@pytest.mark.parametrize(("n_best", "longest", "stride"), [(5, 4, 5), (20, 30, 3), (1, 1, 50), (400, 7, 8)])
def test_the_best_answers_are_those_of_a_search_through_all_pairs(tokenizer, n_best, longest, stride):
    examples = span_examples(("a?", LONG, None), ("which one?", CONTEXT, None), ("b?", "a cow a cow a cow", None))
    windows = span_windows(tokenizer, examples, doc_stride=stride)
    assert len(windows.of(0)) > 3
    assert len(windows.of(2)) == 1
    for seed in range(6):
        outputs = np.random.default_rng(seed).normal(size=(len(windows.tokens), 2)).astype(np.float32)
        for number, got in enumerate(span.find(outputs, windows, examples.contexts, n_best, longest)):
            want, null = reference_answers(outputs, windows, number, examples.contexts[number], n_best, longest)
            assert [answer.text for answer in got.answers] == [text for _, text in want]
            assert [answer.score for answer in got.answers] == pytest.approx([score for score, _ in want])
            assert got.null.score == pytest.approx(null)
            assert all(examples.contexts[number][a.start:a.end] == a.text for a in got.answers)


def test_a_long_window_wins_over_a_shorter_one_with_hardly_more_context(tokenizer):
    context = " ".join(f"a{n}" for n in range(290))
    windows = span_windows(tokenizer, span_examples(("a?", context, None)), max_length=395, doc_stride=200)
    outputs = np.random.default_rng(0).normal(size=(len(windows.tokens), 2)).astype(np.float32)
    assert np.ptp(windows.lengths) > 100
    got, = span.find(outputs, windows, [context], 9000, 6)
    want, _ = reference_answers(outputs, windows, 0, context, 9000, 6)
    assert {answer.text: answer.score for answer in got.answers} == pytest.approx({t: score for score, t in want})


def test_an_answer_never_leaves_the_context(tokenizer):
    """Whatever the scores of question, [CLS] and [SEP], which here are the highest."""
    examples = span_examples(("which one?", LONG, None))
    windows = span_windows(tokenizer, examples)
    outputs = np.full((len(windows.tokens), 2), 9, np.float32)
    for w in range(len(windows)):
        outputs[windows.piece(w)] = -9
    got, = span.find(outputs, windows, examples.contexts, 20, 30)
    assert {answer.score for answer in got.answers} == {-18.0}
    assert got.odds == 36.0


def test_an_answer_across_a_boundary_comes_from_the_window_that_holds_it(tokenizer):
    context = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    examples = span_examples(("w", context, "k l m n"))
    windows = span_windows(tokenizer, examples, max_length=12, doc_stride=3)
    outputs = np.full((len(windows.tokens), 2), -5, np.float32)
    for w, (first, last) in enumerate(windows.labels):
        outputs[windows.offsets[w] + first, 0] = outputs[windows.offsets[w] + last, 1] = 5
    got, = span.find(outputs, windows, examples.contexts, 20, 30)
    assert got.best.text == "k l m n"
    assert got.best.score == 10


def test_accents_that_stand_alone_belong_to_the_answer(tokenizer):
    context = "He saw the cafe\u0301 first."
    examples = span_examples(("What?", context, "cafe\u0301"))
    windows = span_windows(tokenizer, examples, max_length=40)
    outputs = np.zeros((len(windows.tokens), 2), np.float32)
    outputs[windows.labels[0, 0], 0] = outputs[windows.labels[0, 1], 1] = 5
    got, = span.find(outputs, windows, [context], 3, 30)
    assert got.best.text == "cafe\u0301"


def test_a_context_without_a_token_has_no_answer(tokenizer):
    examples = SpanExamples(["What?"], ["\u200b"], None, ["1"])
    windows = span_windows(tokenizer, examples)
    outputs = np.zeros((len(windows.tokens), 2), np.float32)
    for name in ("squad", "squad2"):
        family = families.make(tasks.get(name), span_config())
        said, = family.answers(outputs, windows, examples)
        assert said == {"answer": "", "start": None, "end": None, "score": 1.0}


def test_the_loss_is_the_one_that_is_trained(tokenizer):
    examples = span_examples(("which one?", LONG, "tall3"), ("a?", CONTEXT, "red basket"), ("b?", CONTEXT, None))
    windows = span_windows(tokenizer, examples)
    outputs = np.random.default_rng(0).normal(0, 3, (len(windows.tokens), 2)).astype(np.float32)
    plan, batch = batch_of(windows, range(len(windows)), row_length=64)
    assert plan.rows < len(windows)
    packed = np.full((*batch["tokens"].shape, 2), 7, np.float32)
    for example, row, column in zip(plan.examples, plan.row, plan.start, strict=True):
        own = outputs[windows.offsets[example]:windows.offsets[example + 1]]
        packed[row, column:column + len(own)] = own
    losses = heads.LOSSES["span"](packed, batch)
    want = float((losses * batch["weights"]).sum() / batch["weights"].sum())
    assert span.mean_loss(outputs, windows) == pytest.approx(want, rel=1e-6)
