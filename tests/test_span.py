"""Spans: reading SQuAD, windows, the best answers, no answer, official files, and whole runs."""

import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import batch_of, config, losses_of, result_of, write_model
from small import settings as run_settings

import flaxbert
from flaxbert import cli, families, heads, packing, predict, span_metrics, tasks, train
from flaxbert.bert import BertConfig
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.export import export
from flaxbert.families import span
from flaxbert.families.windows import Windows
from flaxbert.model_files import load_tokenizer
from flaxbert.tasks.base import SpanExamples

CONTEXT = "Two days ago the old farmer bought a red basket. In spring, Zoë's café – “Chez 🙂” – closed."


def refused(function, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def question(name="q1", asked="Who bought it?", text="farmer", start=None, **more):
    answers = [{"text": text, "answer_start": CONTEXT.index(text) if start is None else start}] if text else []
    return {"id": name, "question": asked, "answers": answers, **more}


def squad(path, *questions, context=CONTEXT):
    path.write_text(json.dumps({"version": "x", "data": [{"title": "t", "paragraphs": [
        {"context": context, "qas": list(questions)}]}]}, ensure_ascii=False), "utf-8")
    return path


def read(path, task="squad", **given):
    return tasks.read_file(tasks.get(task), path, labels_required=True, **given)


# --- reading

def test_both_versions_are_read_with_offsets_in_characters(tmp_path):
    first = question(answers=[{"text": text, "answer_start": start} for text, start in
                              (("farmer", 21), ("the old farmer", 13))])
    second = question("q2", "What closed?", "“Chez 🙂”")
    examples, report = read(squad(tmp_path / "a.json", first, second))
    assert (examples.ids, examples.contexts) == (["q1", "q2"], [CONTEXT] * 2)
    assert examples.answers == [[("farmer", 21), ("the old farmer", 13)], [("“Chez 🙂”", CONTEXT.index("“"))]]
    assert report == tasks.Report()
    impossible = question("q3", "Why?", "", is_impossible=True, plausible_answers=[{"text": "x"}])
    examples, _ = read(squad(tmp_path / "b.json", {**first, "is_impossible": False}, impossible), "squad2")
    assert [len(accepted) for accepted in examples.answers] == [2, 0]


BAD = {
    "question q1: answer 'farmer' is not at character 20 of the context; ' farme' is": question(start=20),
    "question q1: answer 'farmer' is not at character -": question(start=CONTEXT.index("farmer") - len(CONTEXT)),
    "question q1: answer 'farmer' is not at character 999": question(start=999),
    "question q1: an answer is empty": question(text=" ", start=3),
    "question q1: the question is empty": question(asked=" "),
    "question q1: has no question": {"id": "q1", "answers": []},
    "question q1: the question is 3; it must be a text": question(asked=3),
    "question q1: has no answer; --task=squad2 takes": question(text=""),
    "question q1: its answers are 'farmer'; they must be a list": question(answers="farmer"),
    "question q1: answer {'text': 'x'} should be a text and answer_start": question(answers=[{"text": "x"}]),
    "question good: another question has the same id": question("good"),
    "article 1, paragraph 1, question 2: is 'Who?'; it must be an object": "Who?",
}


@pytest.mark.parametrize("words", BAD)
def test_a_bad_question_is_one_line_with_file_and_id_or_is_left_out(tmp_path, words):
    path = squad(tmp_path / "bad.json", question("good"), BAD[words], question("last"))
    line = refused(read, path)
    assert line.startswith(f"{path}, {words}")
    examples, report = read(path, skip_bad_rows=True)
    assert examples.ids == ["good", "last"]
    assert report.skipped == {str(path): 1}
    assert words in report.lines[0]


@pytest.mark.parametrize(("said", "text", "words"), [
    (True, "farmer", "is_impossible is true, but it has 1 answers"),
    (False, "", "is_impossible is false, but it has no answers")])
def test_what_is_impossible_has_no_answer_and_the_other_way_round(tmp_path, said, text, words):
    assert words in refused(read, squad(tmp_path / "x.json", question(text=text, is_impossible=said)), "squad2")


@pytest.mark.parametrize(("content", "words"), [
    ('{"questions": []}', 'no SQuAD file; expected {"data": [{"paragraphs"'), ("[1]", "no SQuAD file"),
    ('{"data": ["x"]}', "article 1: has no list `paragraphs`"),
    ('{"data": [{"paragraphs": [{"context": "x"}]}]}', "article 1, paragraph 1: has no list `qas`"),
    ('{"data": []}', "no questions"), ('{"data": [\n', "line 2: not JSON"), ("", "line 1: not JSON")])
def test_what_is_no_squad_file_is_one_line(tmp_path, content, words):
    (tmp_path / "x.json").write_text(content)
    assert words in refused(read, tmp_path / "x.json")
    assert "cannot be read: No such file" in refused(read, tmp_path / "none.json")


def test_an_empty_context_is_bad(tmp_path):
    path = squad(tmp_path / "x.json", question(answers=[]), question("q2", answers=[]), context=" \n")
    assert "question q1: the context is empty" in refused(read, path, "squad2")
    assert "no questions that can be read" in refused(read, path, "squad2", skip_bad_rows=True)


def test_a_file_without_answers_can_be_predicted_but_not_trained_on(tmp_path):
    asked = question()
    del asked["answers"]
    path = squad(tmp_path / "x.json", asked)
    assert tasks.read_file(tasks.get("squad"), path)[0].answers is None
    assert "question q1: has no answer" in refused(read, path)


@pytest.mark.parametrize("form", ["hub", "list"])
def test_columns_of_the_hub(tmp_path, form):
    pytest.importorskip("datasets").disable_progress_bars()
    for split in ("train", "validation"):
        answers = {"text": ["farmer"], "answer_start": [21]} if form == "hub" else question()["answers"]
        rows = [{"id": f"{split}1", "title": "t", "context": CONTEXT, "question": "Who?", "answers": answers}]
        if form == "hub":
            rows.append({**rows[0], "id": f"{split}2", "answers": {"text": [], "answer_start": []}})
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = "squad2" if form == "hub" else "squad"
    _, splits, _ = tasks.load(Config.make(task=name, hub_dataset=str(tmp_path)))
    assert list(splits) == ["train", "dev"]
    assert splits["dev"].answers == [[("farmer", 21)], []][:len(splits["dev"])]
    assert splits["train"].ids == ["train1", "train2"][:len(splits["train"])]
    if form == "hub":
        line = refused(tasks.load, Config.make(task="squad", hub_dataset=str(tmp_path)))
        assert "split train, question train2: has no answer; --task=squad2" in line


def test_inputs_are_official_json_or_jsonl_and_answers_do_not_matter(tmp_path, monkeypatch):
    task = tasks.get("squad")
    official = squad(tmp_path / "in.json", question(start=999), question("q2", text=""))
    assert tasks.read_inputs(task, official)[0].ids == ["q1", "q2"]
    rows = [{"question": "Who?", "context": CONTEXT, "id": 7}, {"question": "Why?", "context": "So."},
            ["What?", "It."]]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "in.jsonl").read_bytes())))
    for path in (tmp_path / "in.jsonl", "-"):
        examples, _ = tasks.read_inputs(task, path)
        assert (examples.questions, examples.contexts) == (["Who?", "Why?", "What?"], [CONTEXT, "So.", "It."])
        assert (examples.ids, examples.answers) == (["7", "line 2", "line 3"], None)
    (tmp_path / "bad.jsonl").write_text('{"question": "Who?"}\n')
    assert "bad.jsonl, line 1: has no context" in refused(tasks.read_inputs, task, tmp_path / "bad.jsonl")


SIZES = {"train-v1.1": 87599, "dev-v1.1": 10570, "dev-v2.0": 11873}


@pytest.mark.parametrize("name", SIZES)
def test_real_files_are_read_whole(outside, name):
    task = "squad2" if "2.0" in name else "squad"
    examples, report = read(outside / "data" / "squad" / f"{name}.json", task)
    assert len(examples) == SIZES[name]
    assert report == tasks.Report()
    assert sum(not accepted for accepted in examples.answers) == (5945 if task == "squad2" else 0)


# --- windows

def span_config(**given):
    return Config.make(**{**dict(task="squad2", max_length=24, doc_stride=5, max_query_length=6), **given})


def encoded(tokenizer, examples, **given) -> Windows:
    return families.make(tasks.get("squad2"), span_config(**given)).encode(tokenizer, examples)


def examples_of(*rows):
    """(question, context, answer text or None) each; the answer at its first occurrence."""
    answers = [[(text, context.index(text))] if text else [] for _, context, text in rows]
    return SpanExamples([asked for asked, _, _ in rows], [context for _, context, _ in rows], answers,
                        list(map(str, range(len(rows)))))


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
    examples = examples_of(("b " * asked, context, None), ("c", context, None))
    got = encoded(tokenizer, examples, max_length=length, doc_stride=stride, max_query_length=query)
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
    examples = examples_of(("Who?", CONTEXT, text), ("Why?", CONTEXT, None))
    got = encoded(tokenizer, examples, max_length=64)
    assert len(got) == 2
    assert got.labels[1].tolist() == [0, 0]
    first, last = got.labels[0] - got.second[0] + got.begin[0]
    assert CONTEXT[got.characters[0][first, 0]:got.characters[0][last, 1]] == text


def test_an_answer_within_a_word_is_the_tokens_that_it_touches(tokenizer):
    got = encoded(tokenizer, examples_of(("Who?", "He lives in Westwood now.", "two")), max_length=64)
    first, last = got.labels[0] - got.second[0]
    begin, end = got.characters[0][first, 0], got.characters[0][last, 1]
    assert begin <= "He lives in Westwood now.".index("two")
    assert end >= "He lives in Westwood now.".index("two") + 3
    assert "He lives in Westwood now."[begin:end] in "Westwood"


def test_a_window_without_the_whole_answer_trains_on_cls(tokenizer):
    """A boundary goes through the answer in some windows; in those that hold it whole it is the label."""
    context = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    examples = examples_of(("w", context, "k l m n o"))
    got = encoded(tokenizer, examples, max_length=12, doc_stride=3)  # eight of the 26 letters
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
    got = encoded(tokenizer, examples, max_length=64)
    assert tokenizer.decode(got.tokens[slice(*(got.labels[0] + [0, 1]))]) == "basket"


def test_no_room_for_a_context_is_one_line(tokenizer):
    line = refused(encoded, tokenizer, examples_of(("a b c d e f", CONTEXT, None)), max_length=9)
    assert line.startswith("--max_length=9: no room for a context beside a question of 6 tokens")
    assert len(encoded(tokenizer, examples_of(("a b c d e f", "x y", None)), max_length=10)) == 2


def test_without_answers_there_are_no_labels(tokenizer):
    assert encoded(tokenizer, SpanExamples(["Who?"], [CONTEXT], None, ["1"])).labels is None


# --- the best answers

LONG = " ".join(f"{word}{number}" for number, word in enumerate(["red", "cow", "the", "tall", "ring"] * 9))


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
    examples = examples_of(("a?", LONG, None), ("which one?", CONTEXT, None), ("b?", "a cow a cow a cow", None))
    windows = encoded(tokenizer, examples, doc_stride=stride)
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
    windows = encoded(tokenizer, examples_of(("a?", context, None)), max_length=395, doc_stride=200)
    outputs = np.random.default_rng(0).normal(size=(len(windows.tokens), 2)).astype(np.float32)
    assert np.ptp(windows.lengths) > 100
    got, = span.find(outputs, windows, [context], 9000, 6)
    want, _ = reference_answers(outputs, windows, 0, context, 9000, 6)
    assert {answer.text: answer.score for answer in got.answers} == pytest.approx({t: score for score, t in want})


def test_an_answer_never_leaves_the_context(tokenizer):
    """Whatever the scores of question, [CLS] and [SEP], which here are the highest."""
    examples = examples_of(("which one?", LONG, None))
    windows = encoded(tokenizer, examples)
    outputs = np.full((len(windows.tokens), 2), 9, np.float32)
    for w in range(len(windows)):
        outputs[windows.piece(w)] = -9
    got, = span.find(outputs, windows, examples.contexts, 20, 30)
    assert {answer.score for answer in got.answers} == {-18.0}
    assert got.odds == 36.0


def test_an_answer_across_a_boundary_comes_from_the_window_that_holds_it(tokenizer):
    context = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    examples = examples_of(("w", context, "k l m n"))
    windows = encoded(tokenizer, examples, max_length=12, doc_stride=3)
    outputs = np.full((len(windows.tokens), 2), -5, np.float32)
    for w, (first, last) in enumerate(windows.labels):
        outputs[windows.offsets[w] + first, 0] = outputs[windows.offsets[w] + last, 1] = 5
    got, = span.find(outputs, windows, examples.contexts, 20, 30)
    assert got.best.text == "k l m n"
    assert got.best.score == 10


def test_accents_that_stand_alone_belong_to_the_answer(tokenizer):
    context = "He saw the cafe\u0301 first."
    examples = examples_of(("What?", context, "cafe\u0301"))
    windows = encoded(tokenizer, examples, max_length=40)
    outputs = np.zeros((len(windows.tokens), 2), np.float32)
    outputs[windows.labels[0, 0], 0] = outputs[windows.labels[0, 1], 1] = 5
    got, = span.find(outputs, windows, [context], 3, 30)
    assert got.best.text == "cafe\u0301"


def test_a_context_without_a_token_has_no_answer(tokenizer):
    examples = SpanExamples(["What?"], ["\u200b"], None, ["1"])
    windows = encoded(tokenizer, examples)
    outputs = np.zeros((len(windows.tokens), 2), np.float32)
    for name in ("squad", "squad2"):
        family = families.make(tasks.get(name), span_config())
        said, = family.answers(outputs, windows, examples)
        assert said == {"answer": "", "start": None, "end": None, "score": 1.0}


def test_the_loss_is_the_one_that_is_trained(tokenizer):
    examples = examples_of(("which one?", LONG, "tall3"), ("a?", CONTEXT, "red basket"), ("b?", CONTEXT, None))
    windows = encoded(tokenizer, examples)
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


# --- no answer

@pytest.fixture(scope="module")
def half(tokenizer):
    """Forty questions about one context, every other without an answer, and outputs that know a little."""
    names = [f"tall{n}" if n % 5 == 3 else "ring4" for n in range(40)]
    examples = examples_of(*((f"which {n}?", LONG, name if name in LONG and n % 2 else None)
                             for n, name in enumerate(names)))
    windows = encoded(tokenizer, examples)
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(len(windows.tokens), 2)).astype(np.float32)
    for column in (0, 1):
        outputs[windows.offsets[:-1] + windows.labels[:, column], column] += 3
    return examples, windows, outputs


def test_the_threshold_is_tuned_on_dev_and_used_elsewhere(half):
    examples, windows, outputs = half
    family = families.make(tasks.get("squad2"), span_config())
    dev = family.scores(outputs, windows, examples)
    assert set(dev) == {"loss", "f1", "exact_match", "has_answer_f1", "has_answer_exact_match",
                        "no_answer_exact_match", "null_threshold"}
    assert all(type(value) is float for value in dev.values())

    def at(threshold):
        scores = families.make(tasks.get("squad2"), span_config(null_threshold=threshold)).scores(
            outputs, windows, examples)
        assert scores["null_threshold"] == threshold
        return scores["f1"]
    odds = [found.odds for found in span.find(outputs, windows, examples.contexts, 20, 30)]
    assert dev["f1"] == pytest.approx(max(at(t) for t in [-100.0, *odds]))
    on_the_edge = family.answers(outputs, windows, examples, {"null_threshold": odds[0]})
    assert on_the_edge[0]["answer"]  # more than the threshold, not as much
    said = [answer["answer"] for answer in on_the_edge]
    golds = [[text for text, _ in accepted] for accepted in examples.answers]
    assert span_metrics.evaluate(said, golds, True)["f1"] == pytest.approx(at(odds[0]))
    assert at(100.0) < dev["f1"] > at(-100.0)
    assert family.scores(outputs, windows, examples, dev) == dev
    assert family.scores(outputs, windows, examples, {"null_threshold": 100.0})["f1"] == pytest.approx(at(100.0))
    assert family.scores(outputs, windows, examples, {})["null_threshold"] == 0.0
    assert at(-100.0) == pytest.approx(np.mean([not accepted for accepted in examples.answers]))
    said = [answer["answer"] for answer in family.answers(outputs, windows, examples, dev)]
    assert span_metrics.evaluate(said, golds, True)["f1"] == pytest.approx(dev["f1"])


def test_version_1_always_answers(half):
    examples, windows, outputs = half
    family = families.make(tasks.get("squad"), span_config(task="squad", null_threshold=-1e9))
    assert all(answer["answer"] for answer in family.answers(outputs, windows, examples))
    assert "null_odds.json" not in written(family, half, "test")


def written(family, half, split, **dev):
    examples, windows, outputs = half
    with tempfile.TemporaryDirectory() as folder:
        family.write(split, outputs, windows, examples, Path(folder), dev)
        return {path.name: json.loads(path.read_text("utf-8")) for path in Path(folder).iterdir()}


def test_official_files(half):
    examples, windows, outputs = half
    family = families.make(tasks.get("squad2"), span_config(n_best=4))
    files = written(family, half, "test", null_threshold=2.0)
    assert set(files) == {"predictions.json", "nbest.json", "null_odds.json"}
    assert {name.split(".")[0] for name in written(family, half, "dev")} == {"dev"}  # kept apart
    answers = family.answers(outputs, windows, examples, {"null_threshold": 2.0})
    assert files["predictions.json"] == {name: answer["answer"] for name, answer in
                                         zip(examples.ids, answers, strict=True)}
    for name, answer in zip(examples.ids, answers, strict=True):
        ranked = files["nbest.json"][name]
        assert len(ranked) == 5  # four answers and none
        assert sum(entry["probability"] for entry in ranked) == pytest.approx(1)
        scores = [entry["start_logit"] + entry["end_logit"] for entry in ranked]
        assert scores == sorted(scores, reverse=True)
        assert [entry["text"] for entry in ranked].count("") == 1
        best = next(entry for entry in ranked if entry["text"])
        null = next(entry for entry in ranked if not entry["text"])
        odds = null["start_logit"] + null["end_logit"] - best["start_logit"] - best["end_logit"]
        assert files["null_odds.json"][name] == pytest.approx(odds)
        assert answer["answer"] == ("" if odds > 2 else best["text"])
        assert answer["score"] == (null if odds > 2 else best)["probability"]


# --- anybody's predictions

@pytest.fixture
def told(capsys):
    """Runs the command line: (exit status, standard output, the error line)."""
    def call(*arguments):
        status = 0
        try:
            cli.main(["evaluate", *map(str, arguments)])
        except SystemExit as stopped:
            status = stopped.code
        out, err = capsys.readouterr()
        assert err.count("\n") <= 1
        return status, out, err
    return call


def test_predictions_are_scored_without_a_model(tmp_path, told):
    squad(tmp_path / "dev-v2.0.json", question("a"), question("b", text="red basket"), question("c", text=""))
    (tmp_path / "said.json").write_text(json.dumps({"a": "The Farmer!", "b": "basket", "c": "nothing"}))
    status, out, _ = told("--task=squad2", f"--data_dir={tmp_path}", f"--predictions={tmp_path}/said.json",
                          f"--output={tmp_path}/scores.json")
    got = json.loads(out)
    assert status == 0
    assert got == json.loads((tmp_path / "scores.json").read_text())
    assert got == {"predictions": f"{tmp_path}/said.json", "task": "squad2", "split": "dev", "examples": 3,
                   "f1": pytest.approx((1 + 2 / 3) / 3), "exact_match": pytest.approx(1 / 3),
                   "has_answer_f1": pytest.approx((1 + 2 / 3) / 2), "has_answer_exact_match": 0.5,
                   "no_answer_exact_match": 0.0}
    _, out, _ = told("--task=squad2", f"--file={tmp_path}/dev-v2.0.json", f"--predictions={tmp_path}/said.json")
    assert json.loads(out)["f1"] == got["f1"]


def test_predictions_for_questions_that_are_not_there_are_counted(tmp_path, capsys):
    squad(tmp_path / "gold.json", question("a"), question("b", start=0), question("c", text="red basket"))
    (tmp_path / "said.json").write_text('{"z": "y", "a": "farmer", "b": "x", "c": "red"}')
    cli.main(["evaluate", "--task=squad", f"--file={tmp_path}/gold.json", f"--predictions={tmp_path}/said.json",
              "--skip_bad_rows"])
    out, err = capsys.readouterr()
    scores = json.loads(out)
    assert (scores["examples"], scores["exact_match"], scores["f1"]) == (2, 0.5, pytest.approx((1 + 2 / 3) / 2))
    left_out, not_counted = err.splitlines()
    assert "skipped 1 bad row: question b: answer 'farmer' is not at character 0" in left_out
    assert "2 of its 4 predictions do not count, the split has no such id: 'z' is the first" in not_counted


@pytest.mark.parametrize(("said", "words"), [
    ('{"a": "x"}', "no prediction for 'b'"), ('{"a": "x", "c": "x"}', "no prediction for 'b'"),
    ('{"a": "x", "a": "y", "b": ""}', "two predictions for a"), ('{"a": 3, "b": ""}', "for a is 3; it must be"),
    ('["a"]', "no predictions; expected an object"), ("{", "no JSON")])
def test_predictions_that_do_not_fit_are_one_line(tmp_path, told, said, words):
    squad(tmp_path / "dev-v1.1.json", question("a"), question("b"))
    (tmp_path / "said.json").write_text(said)
    status, out, err = told("--task=squad", f"--data_dir={tmp_path}", f"--predictions={tmp_path}/said.json")
    assert (status, out) == (2, "")
    assert words in err
    assert "said.json" in err


@pytest.mark.parametrize(("given", "words"), [
    ((), "--run is needed, or --predictions"), (("--run=x", "--predictions=y"), "--run is needed, or"),
    (("--predictions=y",), "--task is needed"), (("--run=x", "--task=squad"), "--task: not together with --run"),
    (("--predictions=y", "--task=squad", "--checkpoint=last"), "--checkpoint: not together with --predictions"),
    (("--predictions=/no/y", "--task=squad"), "--predictions=/no/y: no such file")])
def test_flags_of_evaluate_that_do_not_fit_are_one_line(told, given, words):
    status, _, err = told(*given)
    assert status == 2
    assert words in err


@pytest.mark.parametrize(("task", "lines", "cells", "want"), [
    ("mrpc", ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t1\t2\ta\tb", "0\t1\t2\tc\td", "1\t3\t4\te\tf"),
     ("1", "1", "1"), {"accuracy": 2 / 3, "f1": 0.8}),
    ("rte", ("index\tsentence1\tsentence2\tlabel", "7\ta\tb\tentailment", "9\tc\td\tnot_entailment"),
     ("not_entailment", "not_entailment"), {"accuracy": 0.5}),
    ("stsb", ("index\tsentence1\tsentence2\tscore", "0\ta\tb\t1.0", "1\tc\td\t2.0", "2\te\tf\t4.0"),
     ("1.5", "2.5", "4.500"), {"pearson": 1.0, "spearman": 1.0})])
def test_other_tasks_predictions_are_scored_too(tmp_path, told, task, lines, cells, want):
    (tmp_path / "dev.tsv").write_text("\n".join(lines) + "\n")
    ids = ("7", "9") if task == "rte" else ("0", "1", "2")
    said = tmp_path / "said.tsv"
    said.write_text("index\tprediction\n" + "".join(f"{i}\t{x}\n" for i, x in zip(ids, cells, strict=True)))
    status, out, err = told(f"--task={task}", f"--data_dir={tmp_path}", f"--predictions={said}")
    assert status == 0, err
    got = json.loads(out)
    assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-3)
    said.write_text("index\tprediction\n7\tmaybe\n9\tmaybe\n0\tx\n1\tx\n2\tx\n")
    assert told(f"--task={task}", f"--data_dir={tmp_path}", f"--predictions={said}")[0] == 2


# --- toy_span

def test_toy_splits_are_sound_and_apart():
    splits = {split: tasks.get("toy_span").generate(split) for split in ("train", "dev", "test")}
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 2000, "dev": 400, "test": 400}
    seen, known = set(), None
    for split, examples in splits.items():
        rows = set(examples.contexts)
        assert len(rows) == len(examples)
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
        assert (counts, lengths) == ({3, 4, 5, 6}, {1, 2, 3, 4})
        words = {word for context in examples.contexts for word in context.lower().replace(".", "").split()}
        known = known or words
        assert (len(words - known) >= 20) == (split != "train")


def test_the_toy_questions_are_the_same_everywhere():
    """The data are part of what a score means: a change of words or templates must be a decision, seen here."""
    digest = hashlib.sha256()
    for split in ("train", "dev", "test"):
        examples = tasks.get("toy_span").generate(split)
        digest.update(repr((examples.questions, examples.contexts, examples.answers)).encode())
    assert digest.hexdigest()[:16] == "039f1a3faf6ef0a7"


def test_toy_questions_need_reading():
    """What answers the same kind of question elsewhere in the context is a poor guess: the last such phrase."""
    examples = tasks.get("toy_span").generate("dev")
    kinds = {}
    for asked, accepted in zip(examples.questions, examples.answers, strict=True):
        kinds.setdefault(asked.split()[0], set()).add(accepted[0][0].lower())
    said = []
    for asked, context in zip(examples.questions, examples.contexts, strict=True):
        options = [text for text in kinds[asked.split()[0]] if text in context.lower()]
        said.append(max(options, key=context.lower().rindex))
    golds = [[text for text, _ in accepted] for accepted in examples.answers]
    assert span_metrics.evaluate(said, golds)["exact_match"] < 0.4


# --- whole runs

TOY = dict(task="toy_span", max_length=48, doc_stride=16, max_answer_length=8)


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "spans"
    train.finetune(config(tiny, folder, **TOY, evals_per_epoch=2, predict_test=True))
    return folder


PAIRS = [("Who bought the horse?", "The farmer bought the horse. The tall nurse sold a cow."), ("Where?", LONG),
         ("Who sold it?", "The farmer bought the horse. The tall nurse sold a cow.")]


def test_a_run_trains_scores_and_writes(run):
    result = result_of(run)
    best = result["best"]
    assert set(best["dev"]) == set(best["test"]) == {"loss", "f1", "exact_match"}
    assert result["main_metric"] == "f1"
    said = json.loads((run / "predictions" / "predictions.json").read_text())
    examples = tasks.load(Config.make(**run_settings("", "", **TOY)))[1]["test"]
    assert list(said) == examples.ids
    golds = [[text for text, _ in accepted] for accepted in examples.answers]
    assert span_metrics.evaluate(list(said.values()), golds) == pytest.approx(
        {name: best["test"][name] for name in ("f1", "exact_match")})
    assert (run / "learning_curve.png").exists()


def test_answers_point_into_the_context_and_stand_alone(run):
    predictor = flaxbert.load(str(run))
    answers = predictor(PAIRS)
    for (_, context), answer in zip(PAIRS, answers, strict=True):
        assert context[answer["start"]:answer["end"]] == answer["answer"] != ""
        assert 0 < answer["score"] <= 1
    for pair, answer in zip(PAIRS, answers, strict=True):
        alone, = predictor([{"question": pair[0], "context": pair[1]}])
        assert (alone["start"], alone["end"]) == (answer["start"], answer["end"])
        assert alone["score"] == pytest.approx(answer["score"], abs=1e-5)
    assert predictor([]) == []
    for value in ("Who?", ("Who?",), ("Who?", ""), {"question": "Who?"}, ("Who?", 3)):
        assert "is no pair of texts, question and context" in refused(predictor, [value])


def test_evaluate_repeats_the_result_and_writes_what_it_scores(run, tmp_path):
    scores = predict.evaluate(str(run), write=str(tmp_path))
    best = result_of(run)["best"]["dev"]
    assert {name: scores[name] for name in best} == pytest.approx(best, abs=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"dev.predictions.json", "dev.nbest.json"}


def test_predict_reads_and_writes_files(run, tmp_path):
    context = CONTEXT + "\n\tNew\n\nline\t."
    squad(tmp_path / "in.json", question(), question("q2", "What\tclosed?"), context=context)
    assert predict.predict(str(run), str(tmp_path / "in.json"), str(tmp_path / "out.jsonl")) == 2
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all(set(row) == {"answer", "start", "end", "score"} for row in rows)
    predict.predict(str(run), str(tmp_path / "in.json"), str(tmp_path / "out.tsv"))
    header, *lines = (tmp_path / "out.tsv").read_text().splitlines()
    assert header == "answer\tstart\tend\tscore"
    assert [len(line.split("\t")) for line in lines] == [4, 4]


def test_an_export_answers_alike_here_and_in_pytorch(run, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    export(run, tmp_path / "out")
    ours, exported = flaxbert.load(str(run)), flaxbert.load(str(tmp_path / "out"))
    assert exported.config.max_answer_length == TOY["max_answer_length"]
    for answer, want in zip(exported(PAIRS), ours(PAIRS), strict=True):
        assert (answer["answer"], answer["start"]) == (want["answer"], want["start"])
        assert answer["score"] == pytest.approx(want["score"], abs=1e-6)
    bert = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out").eval()
    assert isinstance(bert, transformers.BertForQuestionAnswering)
    windows = ours.encode(ours.family.inputs(PAIRS))
    assert len(windows) > len(PAIRS)
    outputs = ours.outputs(windows)
    for w in range(len(windows)):
        own = slice(*windows.offsets[w:w + 2])
        ids = torch.tensor(windows.tokens[own]).long()[None]
        types = (torch.arange(ids.shape[1]) >= windows.second[w]).long()[None]
        with torch.no_grad():
            out = bert(input_ids=ids, token_type_ids=types)
        want = torch.stack([out.start_logits[0], out.end_logits[0]], 1).numpy()
        np.testing.assert_allclose(outputs[own], want, atol=2e-5)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    del settings["flaxbert"]  # as anybody's fine-tuned model
    (tmp_path / "out" / "config.json").write_text(json.dumps(settings))
    assert [set(answer) for answer in flaxbert.load(str(tmp_path / "out"))(PAIRS)] == [
        {"answer", "start", "end", "score"}] * 3


def test_packed_and_unpacked_give_the_same_answers(run, tmp_path):
    predictor = flaxbert.load(str(run))
    examples = tasks.get("toy_span").generate("dev").head(60)
    windows = predictor.encode(examples)
    assert len(windows) > 60
    one = predictor.outputs(windows)
    predictor._inference._packing = False
    other = predictor.outputs(windows)
    np.testing.assert_allclose(one, other, atol=1e-5)
    answers = [predictor.family.answers(outputs, windows, examples) for outputs in (one, other)]
    assert [a["answer"] for a in answers[0]] == [a["answer"] for a in answers[1]]


def test_an_interrupted_run_goes_on_to_the_same_end(tiny, run, tmp_path, monkeypatch):
    given = dict(**TOY, evals_per_epoch=2, predict_test=True)
    count, steps = train.Loop._count, []

    def power_cut(self, *args):
        count(self, *args)
        steps.append(1)
        if len(steps) == 11:
            raise OSError("power cut")
    with monkeypatch.context() as patch:
        patch.setattr(train.Loop, "_count", power_cut)
        with pytest.raises(OSError, match="power cut"):
            train.finetune(config(tiny, tmp_path / "cut", **given))
    train.finetune(config(tiny, tmp_path / "cut", **given, resume=True))
    assert losses_of(tmp_path / "cut") == losses_of(run)
    assert result_of(tmp_path / "cut")["best"] == result_of(run)["best"]
    for name in ("predictions.json", "nbest.json"):
        assert (tmp_path / "cut" / "predictions" / name).read_text() == (run / "predictions" / name).read_text()


def test_without_a_test_split_dev_is_predicted_in_its_place(tiny, tmp_path, capsys):
    for split in ("train-v1.1", "dev-v1.1"):
        squad(tmp_path / f"{split}.json", *(question(f"{split}{n}") for n in range(8)))
    result = train.finetune(config(tiny, tmp_path / "run", task="squad", data_dir=str(tmp_path), max_length=48,
                                   max_steps=1, predict_test=True))
    assert "--predict_test: squad has no test split here, dev is predicted in its place" in capsys.readouterr().err
    folder = tmp_path / "run" / "predictions"
    assert {path.name for path in folder.iterdir()} == {"predictions.json", "nbest.json"}
    scores = predict.evaluate_file("squad", str(folder / "predictions.json"), data_dir=str(tmp_path))
    assert (scores["split"], scores["examples"]) == ("dev", 8)
    assert {name: scores[name] for name in ("f1", "exact_match")} == pytest.approx(
        {name: result["best"]["dev"][name] for name in ("f1", "exact_match")})


def test_squad2_from_files_tunes_reports_and_keeps_its_threshold(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squad2")
    model = write_model(folder / "model")
    for split, count in (("train-v2.0", 24), ("dev-v2.0", 12), ("more", 8)):
        squad(folder / f"{split}.json", *(question(f"{split}{n}", f"Who bought {n}?", "farmer" if n % 2 else "")
                                          for n in range(count)))
    train.finetune(config(model, folder / "run", task="squad2", data_dir=str(folder), max_length=48, epochs=6.0,
                          learning_rate=1e-2, test_file="more.json", predict_test=True))
    losses = list(losses_of(folder / "run").values())
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    best = result_of(folder / "run")["best"]
    assert best["test"]["null_threshold"] == best["dev"]["null_threshold"]
    assert {path.name for path in (folder / "run" / "predictions").iterdir()} == {
        "predictions.json", "nbest.json", "null_odds.json"}
    said = json.loads((folder / "run" / "predictions" / "predictions.json").read_text())
    export(folder / "run", folder / "out")
    for source in ("run", "out"):
        predictor = flaxbert.load(str(folder / source))
        assert predictor.dev["null_threshold"] == best["dev"]["null_threshold"]
        asked = [(f"Who bought {n}?", CONTEXT) for n in range(8)]
        assert [answer["answer"] for answer in predictor(asked)] == list(said.values())
    again = predict.evaluate(str(folder / "run"), split="test")
    assert again["null_threshold"] == best["dev"]["null_threshold"]
    assert again["f1"] == pytest.approx(best["test"]["f1"])


# --- real data

@pytest.fixture(scope="module")
def vocabulary(outside):
    return load_tokenizer(outside / "models" / "minilm-l6-h384-uncased", BertConfig())


def test_the_right_outputs_score_nearly_everything_on_real_data(outside, vocabulary):
    """Words of which the answer is a part are all that is lost (tokens are answered with, not characters)."""
    examples = read(outside / "data/squad/dev-v1.1.json")[0].head(1500)
    family = families.make(tasks.get("squad"), Config.make(task="squad", max_length=384))
    windows = family.encode(vocabulary, examples)
    outputs = np.full((len(windows.tokens), 2), -5, np.float32)
    for column in (0, 1):
        outputs[windows.offsets[:-1] + windows.labels[:, column], column] = 5
    scores = family.scores(outputs, windows, examples)
    assert scores["exact_match"] > 0.98
    assert scores["loss"] < 0.1


def test_padding_share_of_real_windows(outside, vocabulary, record_property):
    examples = read(outside / "data/squad/train-v1.1.json")[0].head(2000)
    lengths = families.make(tasks.get("squad"), Config.make(task="squad", max_length=384)).encode(
        vocabulary, examples).lengths
    row_length = packing.choose_row_length(lengths, 32, 384)
    epochs = packing.Epochs(lengths, 32, row_length, seed=0)
    needed, _ = packing.rows_needed(epochs, 2 * epochs.steps_per_epoch)
    counts = packing.row_counts(needed, 1)
    share = 1 - 2 * lengths.sum() / (row_length * sum(packing.smallest(counts, rows) for rows in needed))
    record_property("padding_share", float(share))
    assert share <= 0.10
