"""The bundled tasks: the same for everybody, apart in vocabulary, solvable."""

import hashlib
import re
from itertools import islice

import numpy as np
import pytest

from flaxbert import tasks
from flaxbert.tasks import toy_spans
from flaxbert.tasks.toy import SIZES, Writer
from flaxbert.tasks.toy_tokens import SLOTS
from flaxbert.tasks.words import words

NAMES = ("toy_sentence", "toy_pair", "toy_regression")


def texts(examples):
    return [*examples.first, *(examples.second or [])]


def vocabulary(examples):
    return {word for text in texts(examples) for word in re.findall(r"\w+", text.lower())}


# The data are part of what a score means: a change of words or templates must be a decision, seen here.
DIGESTS = {"toy_sentence": "fdd847fa6763808a", "toy_pair": "bb4ff00348327126",
           "toy_regression": "5d72b0a4e3dc4143"}


@pytest.mark.parametrize("name", NAMES)
def test_the_sentences_are_the_same_everywhere(name):
    digest = hashlib.sha256()
    for split in SIZES:
        examples = tasks.get(name).generate(split)
        rows = zip(examples.first, examples.second or examples.first, examples.labels.tolist(), strict=True)
        digest.update("\n".join(f"{a}\t{b}\t{label:.3f}" for a, b, label in rows).encode())
    assert digest.hexdigest()[:16] == DIGESTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_of_the_stated_size_and_share_no_example(name):
    task = tasks.get(name)
    splits = {split: task.generate(split) for split in SIZES}
    seen = set()
    for split, examples in splits.items():
        assert len(examples) == SIZES[split] == len(examples.labels) == len(examples.ids)
        rows = set(zip(examples.first, examples.second or examples.first, strict=True))
        assert len(rows) == SIZES[split]
        assert not rows & seen
        seen |= rows
        lengths = [len(text.split()) for text in examples.first]
        assert min(lengths) >= 5
        assert max(lengths) <= 24
        assert all(text[0].isupper() and text.endswith(".") and "{" not in text for text in texts(examples))


@pytest.mark.parametrize("name", NAMES)
def test_dev_and_test_have_words_that_train_lacks_and_most_that_it_has(name):
    task = tasks.get(name)
    train = vocabulary(task.generate("train"))
    for split in ("dev", "test"):
        new = vocabulary(task.generate(split)) - train
        tokens = [word for text in texts(task.generate(split)) for word in re.findall(r"\w+", text.lower())]
        assert len(new) >= 10
        assert 0.03 < np.mean([word in new for word in tokens]) < 0.2


@pytest.mark.parametrize("name", NAMES[:2])
def test_classes_are_balanced(name):
    task = tasks.get(name)
    for split in SIZES:
        counts = np.bincount(task.generate(split).labels, minlength=len(task.labels))
        assert counts.max() - counts.min() < 0.05 * SIZES[split]


# Measured with words and word pairs: 0.81 accuracy, 0.85 accuracy (majority 0.34), 0.85 Pearson.
@pytest.mark.parametrize(("name", "low", "high"), [("toy_sentence", 0.75, 0.95), ("toy_pair", 0.7, 0.93),
                                                   ("toy_regression", 0.7, 0.95)])
def test_train_teaches_dev_but_not_all_of_it(name, low, high):
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge
    task = tasks.get(name)
    train, dev = task.generate("train"), task.generate("dev")
    columns = [(train.first, dev.first)] + ([(train.second, dev.second)] if task.pair else [])
    counters = [CountVectorizer(ngram_range=(1, 2)).fit(known) for known, _ in columns]
    seen = hstack([counter.transform(known) for counter, (known, _) in zip(counters, columns, strict=True)])
    unseen = hstack([counter.transform(new) for counter, (_, new) in zip(counters, columns, strict=True)])
    if task.kind == "regression":
        score = np.corrcoef(Ridge().fit(seen, train.labels).predict(unseen), dev.labels)[0, 1]
    else:
        goal = np.eye(len(task.labels))[train.labels]
        score = (Ridge().fit(seen, goal).predict(unseen).argmax(1) == dev.labels).mean()
    assert low < score < high


def test_the_splits_of_toy_span_are_sound_and_apart():
    seen, known = set(), None
    for split, size in SIZES.items():
        examples = tasks.get("toy_span").generate(split)
        rows = set(examples.contexts)
        assert len(rows) == len(examples) == size
        assert not rows & seen
        seen |= rows
        counts, lengths = set(), set()
        for asked, context, ((text, begin),) in zip(examples.questions, examples.contexts, examples.answers,
                                                    strict=True):
            assert context[begin:begin + len(text)] == text
            assert asked.endswith("?")
            assert "{" not in asked + context
            counts.add(context.count("."))
            lengths.add(len(text.split()))
        assert (counts, lengths) == ({1, 2}, {1, 2})
        words = {word for context in rows for word in re.findall(r"\w+", context.lower())}
        known = known or words
        assert (len(words - known) >= 20) == (split != "train")


def test_the_questions_of_toy_span_are_the_same_everywhere():
    """The data are part of what a score means: a change of words or templates must be a decision, seen here."""
    digest = hashlib.sha256()
    for split in SIZES:
        examples = tasks.get("toy_span").generate(split)
        digest.update(repr((examples.questions, examples.contexts, examples.answers)).encode())
    assert digest.hexdigest()[:16] == "f7b3c91d373c9b67"


def test_toy_span_needs_knowledge_of_new_words_and_reading():
    train, dev = (tasks.get("toy_span").generate(split) for split in ("train", "dev"))
    known = {answer[0][0].lower() for answer in train.answers}
    new = [answer[0][0].lower() not in known for answer in dev.answers]
    others = [bool(re.search(r"\. \w", context)) for context in dev.contexts]
    assert 0.3 < np.mean(new) < 0.7, "answers that train never shows"
    assert 0.2 < np.mean(others) < 0.5, "contexts in which one has to read who said what"


def told_by(context, answer, begin):
    """The sentence that holds an answer, in small letters; the answer is whole words of it."""
    assert re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)").match(context, begin), (answer, begin, context)
    return context[context.rfind(".", 0, begin) + 1:context.index(".", begin)].strip().lower()


@pytest.mark.parametrize("split", SIZES)
def test_an_answer_of_toy_span_is_whole_words_of_the_sentence_that_is_asked_about(split):
    examples = tasks.get("toy_span").generate(split)
    for question, context, (answer,) in zip(examples.questions, examples.contexts, examples.answers, strict=True):
        told = told_by(context, *answer)
        who = next(who for who in (*toy_spans.WHO.common, *toy_spans.WHO.new) if f" {who} " in question)
        did = next(did for did, do in toy_spans.DEEDS if question.endswith((f" {did}?", f" {do}?")))
        assert f"{who} {did}" in told, (question, told)


def test_an_answer_of_toy_span_is_not_looked_for_within_other_words():
    within = 0
    for _, context, (answer, begin) in islice(toy_spans.questions(Writer(0, new=True)), 3000):
        told = told_by(context, answer, begin)
        within += bool(re.search(rf"\w{re.escape(answer.lower())}|{re.escape(answer.lower())}\w", told))
    assert within, "tea does stand within a teacher"


@pytest.mark.parametrize("split", SIZES)
def test_toy_span_names_one_thing_of_the_kind_that_is_asked_for_in_a_sentence(split):
    examples = tasks.get("toy_span").generate(split)
    kinds = {kind: [name.lower() for each in SLOTS[kind][1] for name in each.common + each.new]
             for kind in toy_spans.ASKED}
    for question, context, (answer,) in zip(examples.questions, examples.contexts, examples.answers, strict=True):
        kind = next(kind for kind, asked in toy_spans.ASKED.items() if question.lower().startswith(asked))
        told = told_by(context, *answer)
        assert answer[0].lower() in kinds[kind]
        named = {name for name in kinds[kind] if re.search(rf"(?<!\w){name}(?!\w)", told)}
        assert {name for name in named if name not in answer[0].lower()} == set(), (question, told)


def test_a_slot_never_repeats_a_word_and_the_article_fits():
    writer = Writer(0, new=False)
    for _ in range(20):
        sentence = writer.sentence("a {thing} and a {thing2}", {"thing": words("apple, pear")})
        assert sentence in ("An apple and a pear.", "A pear and an apple.")
