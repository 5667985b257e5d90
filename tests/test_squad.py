"""SQuAD files, and predictions of anybody scored against files."""

import io
import json
import sys

import pytest
from small import CONTEXT, question, refused, squad, write

from flaxbert import cli, tasks
from flaxbert.config import Config


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


def test_half_a_character_is_bad(tmp_path):
    path = squad(tmp_path / "x.json", question(), question("q2", "Who HALF?"))
    path.write_text(path.read_text("utf-8").replace("HALF", "\\ud83d"), "utf-8")
    assert f"{path}, question q2: character 4 of a text is '\\ud83d', half of" in refused(read, path)
    assert read(path, skip_bad_rows=True)[0].ids == ["q1"]


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


@pytest.mark.parametrize(("name", "header", "ids"), [
    ("in.tsv", "question\tcontext", ["line 2", "line 3"]), ("in.csv", "id,context,question", ["7", "8"]),
    ("in.tsv", "", ["line 1", "line 2"])])
def test_columns_of_inputs_go_by_their_names_where_there_is_a_header(tmp_path, name, header, ids):
    rows = {"in.tsv": ("Who?\tHe.", "Why?\tSo."), "in.csv": ("7,He.,Who?", "8,So.,Why?")}[name]
    path = write(tmp_path / name, *([header] if header else []), *rows)
    examples, _ = tasks.read_inputs(tasks.get("squad"), path)
    assert (examples.questions, examples.contexts, examples.ids) == (["Who?", "Why?"], ["He.", "So."], ids)
    assert examples.named == ["id" in header] * 2
    path = write(tmp_path / f"short{path.suffix}", header or rows[0], "alone")
    assert "line 2: 1 " in refused(tasks.read_inputs, tasks.get("squad"), path)


SIZES = {"train-v1.1": 87599, "dev-v1.1": 10570, "dev-v2.0": 11873}


@pytest.mark.parametrize("name", SIZES)
def test_real_files_are_read_whole(outside, name):
    task = "squad2" if "2.0" in name else "squad"
    examples, report = read(outside / "data" / "squad" / f"{name}.json", task)
    assert len(examples) == SIZES[name]
    assert report == tasks.Report()
    assert sum(not accepted for accepted in examples.answers) == (5945 if task == "squad2" else 0)


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
