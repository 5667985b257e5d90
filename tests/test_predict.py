"""Using a trained model: predictions in order, scores of splits and files, files in and out."""

import io
import json
import sys

import numpy as np
import pytest
from small import config, refused, result_of, write

import flaxbert
from flaxbert import evaluation, predict, tasks, train
from flaxbert.config import Config
from flaxbert.export import export

TEXTS = ["The bread was not good at all.", "I liked it.", "Last week nobody liked the film we saw near the river.",
         "The train was late, and we were sad.", "A good film."]


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run on single sentences with two classes, whose best evaluation is not its last step's by chance only."""
    folder = tmp_path_factory.mktemp("runs") / "classes"
    train.finetune(config(tiny, folder, evals_per_epoch=2))
    return str(folder)


@pytest.fixture(scope="module")
def pairs_run(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pairs"
    train.finetune(config(tiny, folder, task="toy_pair", max_steps=2))
    return str(folder)


@pytest.fixture(scope="module")
def predictor(run):
    return flaxbert.load(run)


# --- in Python

def test_answers_come_in_input_order_and_each_alone_is_the_same(predictor):
    answers = predictor(TEXTS)
    assert len({answer["probability"] for answer in answers}) == len(TEXTS)
    for text, answer in zip(TEXTS, answers, strict=True):
        alone = predictor(text)[0]
        assert alone["label"] == answer["label"]
        assert alone["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)
    assert [a["probability"] for a in predictor(TEXTS[::-1])] == pytest.approx(
        [a["probability"] for a in answers[::-1]], abs=1e-6)


def test_probabilities_sum_to_one_and_the_label_has_the_largest(predictor):
    for answer in predictor(TEXTS):
        assert set(answer) == {"label", "probability", "probabilities"}
        assert list(answer["probabilities"]) == ["society", "nature"]
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-9)
        assert answer["probability"] == answer["probabilities"][answer["label"]] == max(
            answer["probabilities"].values())


def test_nothing_in_nothing_out(predictor):
    assert predictor([]) == []


@pytest.mark.parametrize(("texts", "words"), [
    ([("a", "b"), "c"], "mixed"), (["c", ("a", "b")], "mixed"), ([("a",)], "neither a text nor a pair"),
    ([("a", "b", "c")], "neither a text nor a pair"), ([3], "neither a text nor a pair"),
    ([("a", None)], "neither a text nor a pair"), (["a\ud83d"], "character 1 of a text is '\\ud83d', half of"),
    ([{"a": ["b", "\udc00"]}], "character 0 of a text is '\\udc00', half of a surrogate pair")])
def test_what_is_no_text_is_refused_with_its_number(predictor, texts, words):
    line = refused(predictor, texts)
    assert words in line
    assert line.startswith("input ")


def test_pairs_may_be_tuples_or_lists(pairs_run):
    predictor = flaxbert.load(pairs_run)
    tuples = predictor([("He left.", "He went away."), ("He left.", "He stayed.")])
    assert tuples == predictor([["He left.", "He went away."], ["He left.", "He stayed."]])
    assert list(tuples[0]["probabilities"]) == ["entailment", "neutral", "contradiction"]


def test_long_texts_are_cut_not_refused(predictor):
    assert predictor([" ".join(["good"] * 500)])[0]["label"]


def test_an_exported_folder_answers_as_the_run(run, predictor, tmp_path):
    export(run, tmp_path / "out")
    exported = flaxbert.load(str(tmp_path / "out"))
    for answer, want in zip(exported(TEXTS), predictor(TEXTS), strict=True):
        assert answer["label"] == want["label"]
        assert answer["probabilities"] == pytest.approx(want["probabilities"], abs=1e-6)


def test_a_model_without_a_head_is_refused(tiny):
    assert "no fine-tuned head" in refused(flaxbert.load, tiny)


def test_nothing_there_is_one_line(tmp_path):
    assert str(tmp_path / "no") in refused(flaxbert.load, str(tmp_path / "no"))
    assert "no run there" in refused(evaluation.evaluate, str(tmp_path))


# --- scores

def test_evaluate_equals_the_results_best_scores(run, tmp_path):
    out = tmp_path / "scores.json"
    scores = evaluation.evaluate(run, output=str(out))
    assert json.loads(out.read_text()) == scores
    best = result_of(run)["best"]["dev"]
    assert {name: scores[name] for name in best} == pytest.approx(best, abs=1e-6)
    assert (scores["split"], scores["examples"], scores["checkpoint"]) == ("dev", 24, "best")


def test_evaluate_equals_the_predictions(run, predictor):
    examples = tasks.load(config("", ""))[1]["test"]
    answers = predictor(examples.first)
    right = np.mean([["society", "nature"].index(a["label"]) == y
                     for a, y in zip(answers, examples.labels, strict=True)])
    assert evaluation.evaluate(run, split="test")["accuracy"] == pytest.approx(right)


def test_evaluate_takes_a_file_of_the_same_task(run, tmp_path):
    file = tmp_path / "more.tsv"
    file.write_text("sentence\tlabel\n" + "".join(f"{text}\tnature\n" for text in TEXTS))
    scores = evaluation.evaluate(run, file=str(file), checkpoint="last")
    assert (scores["examples"], scores["split"], scores["checkpoint"]) == (5, str(file), "last")
    answers = flaxbert.load(run, "last")(TEXTS)
    assert scores["accuracy"] == pytest.approx(np.mean([a["label"] == "nature" for a in answers]))


def test_an_unknown_split_lists_the_valid_ones(run):
    assert "valid: train, dev, test" in refused(evaluation.evaluate, run, split="validation")
    assert "valid: best, last" in refused(evaluation.evaluate, run, checkpoint="newest")


def test_a_folder_of_files_takes_the_place_of_the_runs_hub_data_set(tmp_path):
    for name in ("train.tsv", "dev.tsv"):
        write(tmp_path / name, "sentence1\tsentence2\tlabel", "a\tb\tentailment", "c\td\tnot_entailment")
    run_of_hub = Config.make(task="rte", hub_dataset="no/such")
    assert evaluation.split_of(run_of_hub, "dev", str(tmp_path)).first == ["a", "c"]


# --- files

def read_jsonl(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "txt", "csv"])
def test_files_in_rows_out_in_the_same_order(run, predictor, tmp_path, ending):
    content = {"tsv": "id\tsentence\n" + "".join(f"{i}\t{t}\n" for i, t in enumerate(TEXTS)),
               "jsonl": "".join(json.dumps({"sentence": t}) + "\n" for t in TEXTS),
               "txt": "".join(t + "\n" for t in TEXTS),
               "csv": "sentence\n" + "".join(f'"{t}"\n' for t in TEXTS)}[ending]
    (tmp_path / f"in.{ending}").write_text(content)
    count = predict.predict(run, str(tmp_path / f"in.{ending}"), str(tmp_path / "new" / "out.jsonl"))
    assert count == 5
    got = read_jsonl((tmp_path / "new" / "out.jsonl").read_text())
    assert [a["label"] for a in got] == [a["label"] for a in predictor(TEXTS)]
    assert [a["probability"] for a in got] == pytest.approx([a["probability"] for a in predictor(TEXTS)], abs=1e-6)


def test_a_table_has_a_header_and_a_column_a_class(run, predictor, tmp_path):
    (tmp_path / "in.txt").write_text("".join(t + "\n" for t in TEXTS))
    predict.predict(run, str(tmp_path / "in.txt"), str(tmp_path / "out.tsv"))
    header, *rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_text().splitlines()]
    assert header == ["label", "probability", "p(society)", "p(nature)"]
    assert [row[0] for row in rows] == [a["label"] for a in predictor(TEXTS)]
    assert all(float(row[2]) + float(row[3]) == pytest.approx(1, abs=2e-6) for row in rows)


@pytest.mark.parametrize("content", ["".join(t + "\n" for t in TEXTS),
                                     "".join(json.dumps({"sentence": t}) + "\n" for t in TEXTS)])
def test_standard_input_to_standard_output(run, predictor, monkeypatch, capsys, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert predict.predict(run) == 5
    assert [a["label"] for a in read_jsonl(capsys.readouterr().out)] == [a["label"] for a in predictor(TEXTS)]


def test_pairs_from_a_file(pairs_run, tmp_path, capsys):
    (tmp_path / "in.tsv").write_text("sentence1\tsentence2\nHe left.\tHe went away.\nHe left.\tHe stayed.\n")
    assert predict.predict(pairs_run, str(tmp_path / "in.tsv")) == 2
    want = flaxbert.load(pairs_run)([("He left.", "He went away."), ("He left.", "He stayed.")])
    assert [a["label"] for a in read_jsonl(capsys.readouterr().out)] == [a["label"] for a in want]


def test_an_exported_folder_predicts_for_plain_texts(run, predictor, tmp_path):
    export(run, tmp_path / "model")
    (tmp_path / "in.txt").write_text("".join(t + "\n" for t in TEXTS))
    predict.predict(str(tmp_path / "model"), str(tmp_path / "in.txt"), str(tmp_path / "out.jsonl"))
    got = read_jsonl((tmp_path / "out.jsonl").read_text())
    assert [a["label"] for a in got] == [a["label"] for a in predictor(TEXTS)]


def test_an_exported_folder_of_pairs_predicts_for_plain_pairs(pairs_run, tmp_path):
    export(pairs_run, tmp_path / "model")
    (tmp_path / "in.tsv").write_text("He left.\tHe went away.\nHe left.\tHe stayed.\n")
    predict.predict(str(tmp_path / "model"), str(tmp_path / "in.tsv"), str(tmp_path / "out.jsonl"))
    want = flaxbert.load(pairs_run)([("He left.", "He went away."), ("He left.", "He stayed.")])
    got = read_jsonl((tmp_path / "out.jsonl").read_text())
    assert [a["probabilities"] for a in got] == [pytest.approx(a["probabilities"], abs=1e-6) for a in want]


# --- other kinds of task, end to end

def test_regression_returns_scores(tiny, tmp_path):
    run = str(tmp_path / "run")
    result = train.finetune(config(tiny, run, task="toy_regression", max_steps=3))
    assert set(result["best"]["dev"]) == {"loss", "pearson", "spearman"}
    answers = flaxbert.load(run)(TEXTS)
    assert all(set(answer) == {"score"} and isinstance(answer["score"], float) for answer in answers)
    assert len({answer["score"] for answer in answers}) == len(TEXTS)
    export(run, tmp_path / "out")
    exported = flaxbert.load(str(tmp_path / "out"))
    assert exported.kind == "regression"
    assert [a["score"] for a in exported(TEXTS)] == pytest.approx([a["score"] for a in answers], abs=1e-5)
    scores = evaluation.evaluate(run)
    assert scores["pearson"] == pytest.approx(result["best"]["dev"]["pearson"], abs=1e-5)


def test_a_test_split_without_scores_is_predicted(tiny, tmp_path):
    rows = [("The bread was good.", 4.5), ("The film was sad.", 1.0), ("It rained.", 2.25)] * 6
    for name, part in (("train", rows), ("dev", rows[:6])):
        (tmp_path / f"{name}.tsv").write_text("text\tmood\n" + "".join(f"{t}\t{y}\n" for t, y in part))
    (tmp_path / "test.tsv").write_text("text\n" + "".join(f"{t}\n" for t, _ in rows[:5]))
    result = train.finetune(config(
        tiny, tmp_path / "run", task="custom", text_columns=("text",), label_column="mood",
        label_type="regression", data_dir=str(tmp_path), train_file="train.tsv", dev_file="dev.tsv",
        test_file="test.tsv", predict_test=True, max_steps=1))
    assert set(result["best"]) == {"dev"}
    lines = (tmp_path / "run" / "predictions" / "custom.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert len(lines) == 6
    assert all(np.isfinite(float(line.split("\t")[1])) for line in lines[1:])


def test_several_labels_of_ones_own(tiny, tmp_path):
    rows = [("The bread was good.", "food|nice"), ("The film was sad.", "film"), ("It rained.", ""),
            ("The bread was bad.", '["food"]')] * 8
    for name, part in (("train", rows), ("dev", rows[:8])):
        (tmp_path / f"{name}.tsv").write_text("text\ttopics\n" + "".join(f"{t}\t{y}\n" for t, y in part))
    run = str(tmp_path / "run")
    result = train.finetune(config(
        tiny, run, task="custom", text_columns=("text",), label_column="topics", label_type="multi_label",
        train_file=str(tmp_path / "train.tsv"), dev_file=str(tmp_path / "dev.tsv"), max_steps=4,
        class_weights=(1.0, 2.0, 0.5)))
    assert set(result["best"]["dev"]) == {"loss", "f1", "exact_match", "precision", "recall"}
    scores = evaluation.evaluate(run)
    assert {name: scores[name] for name in result["best"]["dev"]} == pytest.approx(result["best"]["dev"], abs=1e-5)
    predictor = flaxbert.load(run)
    assert predictor.labels == ("film", "food", "nice")
    answers = predictor(TEXTS)
    assert len({tuple(answer["probabilities"].values()) for answer in answers}) == len(TEXTS)
    for answer in answers:
        assert set(answer) == {"labels", "probabilities"}
        assert list(answer["probabilities"]) == ["film", "food", "nice"]
        assert answer["labels"] == [name for name, p in answer["probabilities"].items() if p > 0.5]
    (tmp_path / "in.tsv").write_text("text\n" + "".join(t + "\n" for t in TEXTS))
    predict.predict(run, str(tmp_path / "in.tsv"), str(tmp_path / "out.tsv"))
    assert [line.split("\t")[0] for line in (tmp_path / "out.tsv").read_text().splitlines()] == [
        "labels", *("|".join(answer["labels"]) for answer in answers)]
    evaluation.evaluate(run, write=str(tmp_path / "written"))
    again = evaluation.evaluate_file("custom", str(tmp_path / "written" / "custom.dev.tsv"),
                                  file=str(tmp_path / "dev.tsv"), text_columns=("text",), label_column="topics",
                                  label_type="multi_label")
    assert {name: again[name] for name in ("f1", "exact_match", "precision", "recall")} == pytest.approx(
        {name: scores[name] for name in ("f1", "exact_match", "precision", "recall")})


# --- anybody's predictions for one's own data

def gold(folder, *labels):
    """A file of one's own with these labels, and no others beside it."""
    file = folder / "gold.jsonl"
    file.write_text("".join(json.dumps({"text": f"Text {n}.", "mood": label, "id": f"n{n}"}) + "\n"
                            for n, label in enumerate(labels)))
    return dict(file=str(file), text_columns=("text",), label_column="mood")


def said(folder, *predictions):
    file = folder / "said.tsv"
    file.write_text("index\tprediction\n" + "".join(f"n{n}\t{p}\n" for n, p in enumerate(predictions)))
    return str(file)


def test_labels_of_ones_own_are_those_of_both_files(tmp_path):
    given = gold(tmp_path, "sad", "glad", "glad", "sad")
    scores = evaluation.evaluate_file("custom", said(tmp_path, "sad", "glad", "sad", "sad"), **given)
    assert (scores["accuracy"], scores["f1"], scores["split"]) == (0.75, 0.8, given["file"])  # glad, sad: of sad
    scores = evaluation.evaluate_file("custom", said(tmp_path, "sad", "glad", "mad", "sad"), **given)
    assert (scores["accuracy"], scores["f1"]) == (0.75, pytest.approx((1 + 2 / 3 + 0) / 3))  # of three, the mean
    given = gold(tmp_path, 1, 2.5, 4)
    scores = evaluation.evaluate_file("custom", said(tmp_path, "2", "5", "8"), **given, label_type="regression")
    assert (scores["pearson"], scores["spearman"]) == (pytest.approx(1), pytest.approx(1))


@pytest.mark.parametrize(("given", "words"), [
    ({}, "--text_columns=: --task=custom needs the name of one text column"),
    (dict(text_columns=("text",)), "--label_column: --task=custom needs"),
    (dict(text_columns=("text",), label_column="mood"), "--file is needed, the split that --predictions are of"),
    (dict(task="ner"), "--file is needed, the split that --predictions are of; ner has none of its own"),
    (dict(task="rte", label_column="mood"), "--label_column: only for --task=custom")])
def test_what_is_needed_to_score_predictions_is_told(tmp_path, given, words):
    given = {"task": "custom", **given}
    assert words in refused(evaluation.evaluate_file, predictions=said(tmp_path, "x"), **given)
