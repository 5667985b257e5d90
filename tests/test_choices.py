"""Reading questions with choices: SWAG, ARC, JSONL, the hub and bad input; and anybody's predictions for them."""

import dataclasses
import json

import numpy as np
import pytest
from small import load, refused, write

from flaxbert import families, tasks
from flaxbert.config import Config
from flaxbert.tasks.base import ChoiceExamples

SWAG = "video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label"
SWAG_ROW = 'v1,17,x,A man opens a book.,He,gold,"reads, then sleeps.",eats it.,swims.,flies.,2'
ARC_ROW = "Which one is hot?,ice,fire,snow,rain,B"


def jsonl(path, *rows):
    return write(path, *map(json.dumps, rows))


# --- files

def test_swag_reads_the_official_columns(tmp_path):
    for file in ("train.csv", "val.csv"):
        write(tmp_path / file, "," + SWAG, "0," + SWAG_ROW, "1," + SWAG_ROW[:-1] + "0")
    write(tmp_path / "test.csv", "," + SWAG.removesuffix(",label"), "0," + SWAG_ROW[:-2])
    _, splits, report = load("swag", data_dir=str(tmp_path))
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 2, "dev": 2, "test": 1}
    assert splits["dev"].contexts[0] == "A man opens a book."
    assert splits["dev"].choices[0] == ["He reads, then sleeps.", "He eats it.", "He swims.", "He flies."]
    assert splits["dev"].labels.tolist() == [2, 0]
    assert splits["test"].labels is None
    assert report == tasks.Report()


def test_arc_drops_rows_that_lack_the_right_option_without_being_asked(tmp_path):
    rows = (ARC_ROW, "Three of them?,a,b,c,,3", "None at all?,,,,,2", "Gone?,a,b,c,d,E", "Last?,a,b,c,d,4")
    for file in ("arc_easy_dev.csv", "arc_easy_test.csv"):
        write(tmp_path / file, *rows)
    _, splits, report = load("arc", data_dir=str(tmp_path))
    assert [len(choices) for choices in splits["train"].choices] == [4, 3, 4]
    assert splits["train"].labels.tolist() == [1, 2, 3]
    assert splits["train"].ids == ["0", "1", "4"]
    assert report.skipped == {str(tmp_path / f"arc_easy_{part}.csv"): 2 for part in ("dev", "test")}
    assert "line 3: all options are empty; line 4: the answer is E, an option that is not there" in report.lines[0]


@pytest.mark.parametrize(("row", "said"), [
    ("What?,a,,c,d,A", "choice B is ''"), ("What?,a,b,c,d,F", "valid: A to E, 1 to 5"),
    ("What?,a,b,c,d,0", "valid: A to E"), ("What?,a,b,c,d,", "no label"), ("What?,a,b,c,A", "5 columns"),
    (" ,a,b,c,d,A", "the context is ' '"), ("What?,a,,,,A", "the number of choices is 1")])
def test_other_faults_of_arc_stop_the_run(tmp_path, row, said):
    for file in ("arc_easy_dev.csv", "arc_easy_test.csv"):
        write(tmp_path / file, ARC_ROW, row)
    line = refused(load, "arc", data_dir=str(tmp_path))
    assert f"{tmp_path / 'arc_easy_dev.csv'}, line 2: " in line
    assert said in line
    assert len(load("arc", data_dir=str(tmp_path), skip_bad_rows=True)[1]["dev"]) == 1


def test_arc_takes_one_folder_or_both(tmp_path):
    for folder, name in (("ARC-E", "easy"), ("ARC-C", "challenge")):
        for part in ("dev", "test"):
            write(tmp_path / folder / f"arc_{name}_{part}.csv", ARC_ROW.replace("hot", name))
    sizes = {("arc", ""): 2, ("arc", "ARC-E"): 1, ("arc", "ARC-C"): 1, ("arc_easy", ""): 1,
             ("arc_challenge", ""): 1, ("arc_challenge", "ARC-C"): 1}
    for (task, folder), size in sizes.items():
        assert len(load(task, data_dir=str(tmp_path / folder))[1]["train"]) == size
    both = load("arc", data_dir=str(tmp_path))[1]["dev"]
    assert both.contexts == ["Which one is challenge?", "Which one is easy?"]
    assert both.ids == ["arc_challenge_test:0", "arc_easy_test:0"]
    assert "no arc_easy_dev.csv, arc_easy_test.csv there" in refused(
        load, "arc_easy", data_dir=str(tmp_path / "ARC-C"))
    write(tmp_path / "ARC-E/arc_easy_dev.csv", ARC_ROW, "Bad?,a,b,c,d,x")
    assert ", arc_easy_dev.csv, line 2: " in refused(load, "arc", data_dir=str(tmp_path))


def test_arc_reads_the_original_jsonl(tmp_path):
    question = {"stem": "What?", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]}
    file = jsonl(tmp_path / "ARC-Easy-Train.jsonl", {"id": "Q7", "question": question, "answerKey": "2"},
                 {"id": "Q8", "question": {**question, "choices": question["choices"] * 2}, "answerKey": "C"})
    _, splits, _ = load("arc", train_file=str(file), dev_file=str(file))
    dev = splits["dev"]
    assert (dev.contexts[0], dev.choices, dev.ids) == ("What?", [["a", "b"], ["a", "b"] * 2], ["Q7", "Q8"])
    assert dev.labels.tolist() == [1, 2]


def test_real_arc_is_read_with_its_faults_counted(outside):
    folder = outside / "data" / "arc"
    _, splits, report = load("arc", data_dir=str(folder))
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 3243, "dev": 843}
    # 3 answers E; 150 rows answer with a digit, and every one of them lacks all of its options.
    assert sum(report.skipped.values()) == 3 + 150
    _, easy, report = load("arc_easy", data_dir=str(folder / "ARC-E"))
    assert (len(easy["train"]), len(easy["dev"])) == (2251 - 104, 570 - 21)
    assert [sum(len(c) == 3 for c in easy[split].choices) for split in easy] == [5, 1]
    assert easy["dev"].choices[0][easy["dev"].labels[0]] == "cellular telephone"


LABELS = {"number": 1, "number as text": "1", "letter": "B", "text": "green"}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_jsonl_says_what_is_right_by_number_letter_or_text(tmp_path, label):
    file = jsonl(tmp_path / "a.jsonl", {"context": "Grass is", "choices": ["red", "green"], "label": label,
                                        "id": "g"},
                 {"context": "Snow is", "choices": ["black", "blue", "white"], "label": 2, "id": 5})
    _, splits, _ = load("multiple_choice", train_file=str(file), dev_file=str(file))
    assert splits["train"].labels.tolist() == [1, 2]
    assert splits["train"].ids == ["g", "5"]
    other = jsonl(tmp_path / "b.jsonl", {"question": "Grass is", "choices": ["red", "green"], "label": label})
    _, splits, _ = load("multiple_choice", train_file=str(other), dev_file=str(other))
    assert (splits["dev"].contexts, splits["dev"].labels.tolist(), splits["dev"].ids) == (["Grass is"], [1], ["0"])


def test_a_text_is_the_choice_before_it_is_a_letter_or_a_number(tmp_path):
    rows = ((["B", "A"], "A"), (["1", "0"], "0"), (["1", "0"], 0))
    file = jsonl(tmp_path / "a.jsonl", *({"context": "x", "choices": c, "label": label} for c, label in rows))
    assert load("multiple_choice", train_file=str(file), dev_file=str(file))[1]["dev"].labels.tolist() == [1, 1, 0]


GOOD = {"context": "Grass is", "choices": ["red", "green"], "label": 1}
BAD = {
    "context": ({"context": 5}, "the context is 5"), "no context": ({"context": None}, "the context is None"),
    "one choice": ({"choices": ["red"]}, "the number of choices is 1; it must be 2 to 26"),
    "27 choices": ({"choices": [str(i) for i in range(27)]}, "the number of choices is 27"),
    "no list": ({"choices": "red, green"}, "they must be a list of texts"),
    "no text": ({"choices": ["red", 7]}, "choice B is 7"), "empty": ({"choices": ["", "green"]}, "choice A is ''"),
    "outside": ({"label": 2}, "the label '2' is none of the 2 choices"),
    "below": ({"label": -1}, "the label '-1'"),
    "letter": ({"label": "C"}, "the label 'C'"), "unknown": ({"label": "blue"}, "the label 'blue' is none"),
    "true": ({"label": True}, "the label 'true'"), "half": ({"label": 0.5}, "the label '0.5'"),
    "none": ({"label": None}, "no label"), "same": ({"choices": ["x", "x"], "label": "x"}, "is 2 of the choices"),
    "twice": ({"id": "first"}, "the id 'first' occurs twice")}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_a_bad_question_stops_the_run_or_is_counted(tmp_path, change, said):
    dev = jsonl(tmp_path / "dev.jsonl", GOOD)
    file = jsonl(tmp_path / "train.jsonl", {**GOOD, "id": "first"}, {**GOOD, "id": "second", **change})
    line = refused(load, "multiple_choice", data_dir=str(tmp_path))
    assert f"{file}, line 2: " in line
    assert said in line
    _, splits, report = load("multiple_choice", data_dir=str(tmp_path), skip_bad_rows=True)
    assert splits["train"].ids == ["first"]
    assert report.skipped == {str(file): 1}
    assert "line 2" in report.lines[0]
    assert len(splits["dev"]) == len(dev.read_text().splitlines())


@pytest.mark.parametrize(("rows", "said"), [
    (({"text": "x", "choices": ["a", "b"], "label": 0},), "missing column context; found: text, choices, label"),
    (({"context": "x", "label": 0},), "missing column choices"),
    (({"context": "x", "choices": ["a", "b"]},), "missing column label"),
    ((GOOD, {"context": "x", "label": 0}), "line 2: missing column choices"),
    (({**GOOD, "label": 9},), "line 1: the label '9'")])
def test_missing_columns_are_named(tmp_path, rows, said):
    file = jsonl(tmp_path / "a.jsonl", *rows)
    line = refused(load, "multiple_choice", train_file=str(file), dev_file=str(file))
    assert str(file) in line
    assert said in line


def test_a_file_of_bad_questions_only_and_missing_files_are_refused(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", {**GOOD, "label": 9})
    assert "no questions that can be read" in refused(
        load, "multiple_choice", train_file=str(file), dev_file=str(file), skip_bad_rows=True)
    assert "needs a train and a dev file" in refused(load, "multiple_choice")
    assert ("--task=arc needs a train and a dev file; give --data_dir=FOLDER with arc_*_dev.csv and "
            "arc_*_test.csv, or --train_file and --dev_file") in refused(load, "arc")
    assert "choice task, it has no classes" in refused(load, "toy_choice", class_weights=(1.0, 2.0))


def test_the_hub_with_held_back_labels(tmp_path, monkeypatch, tmp_path_factory):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    names = datasets.ClassLabel(names=["0", "1", "2", "3"])
    for split, labels in (("train", [1, 3]), ("validation", [0]), ("test", [-1, -1])):
        count = len(labels)
        swag = datasets.Dataset.from_dict(
            {"sent1": ["A dog runs."] * count, "sent2": ["It"] * count, "label": labels,
             **{f"ending{i}": [f"stops {i} times."] * count for i in range(4)}}).cast_column("label", names)
        arc = datasets.Dataset.from_dict(
            {"id": [f"{split}{i}" for i in range(count)], "question": ["What?"] * count,
             "answerKey": ["B"] * count, "choices": [{"text": ["a", "b", "c"], "label": ["A", "B", "C"]}] * count})
        for name, data in (("swag", swag), ("arc", arc)):
            (tmp_path / name).mkdir(exist_ok=True)
            data.to_parquet(str(tmp_path / name / f"{split}.parquet"))
    _, splits, _ = load("swag", hub_dataset=str(tmp_path / "swag"))
    assert splits["train"].choices[1] == [f"It stops {i} times." for i in range(4)]
    assert splits["train"].labels.tolist() == [1, 3]
    assert splits["test"].labels is None
    _, splits, _ = load("arc_easy", hub_dataset=str(tmp_path / "arc"))
    assert (splits["dev"].choices, splits["dev"].labels.tolist()) == ([["a", "b", "c"]], [1])
    assert splits["train"].ids == ["train0", "train1"]


def family(max_length=64, task="multiple_choice"):
    return families.make(tasks.get(task), Config.make(task=task, max_length=max_length))


# --- anybody's predictions

def test_predictions_in_the_official_formats_are_scored(tmp_path):
    arc = ChoiceExamples(["q"] * 4, [["a", "b", "c", "d"]] * 4, np.array([0, 1, 2, 3], np.int32), list("wxyz"))
    file = write(tmp_path / "arc.csv", "z,D", "w,A", "x,C", "y,A;C")
    assert family(task="arc_easy").score_file(file, arc) == {"accuracy": 2.5 / 4}  # a tie earns a half
    swag = dataclasses.replace(arc, ids=list("0123"))
    file = write(tmp_path / "swag.csv", ",pred", "0,0", "1,1", "2,0", "3,0")
    assert family(task="swag").score_file(file, swag) == {"accuracy": 0.5}
    mine = write(tmp_path / "mine.tsv", "index\tprediction", "0\t0", "1\t1", "2\t2", "3\td")
    assert family().score_file(mine, swag) == {"accuracy": 1.0}
    for task in ("arc", "swag", "multiple_choice", "toy_choice"):
        scores = np.eye(4, dtype=np.float32)[[0, 1, 3, 3]]
        family(task=task).write("test", scores, None, swag, tmp_path)
        written = next(tmp_path.glob(f"{task}.[ct]sv"))
        assert family(task=task).score_file(written, swag) == {"accuracy": 0.75}


def test_a_number_among_predictions_is_the_one_that_was_written_though_a_choice_reads_the_same(tmp_path):
    sums = ChoiceExamples(["2 + 2 =", "2 + 1 ="], [["4", "1", "2", "0"], ["3", "1", "2", "0"]],
                          np.array([0, 0], np.int32), ["0", "1"])
    family().write("test", np.eye(4)[[0, 0]], None, sums, tmp_path)
    assert family().score_file(tmp_path / "multiple_choice.tsv", sums) == {"accuracy": 1.0}
    outside = write(tmp_path / "texts.tsv", "index\tprediction", "0\t4", "1\t3")
    assert "the prediction for 0: the label '4' is none" in refused(family().score_file, outside, sums)


@pytest.mark.parametrize(("lines", "said"), [
    (("w,A", "x,A"), "no prediction for 'y'"), (("w,A", "x,A", "q,A", "r,A"), "no prediction for 'y'"),
    (("w,A", "x,A", "x,B"), "line 3: a second prediction for 'x'"), (("w,A", "x"), "line 2: 'x' is no id"),
    (("w,A", "x,A", "y,K"), "the prediction for y: the answer is 'K'"), ((), "is no id")])
def test_predictions_that_do_not_fit_are_told(tmp_path, lines, said):
    examples = ChoiceExamples(["q"] * 3, [["a", "b"]] * 3, np.zeros(3, np.int32), list("wxy"))
    file = write(tmp_path / "arc.csv", *lines)
    line = refused(family(task="arc").score_file, file, examples)
    assert str(file) in line
    assert said in line
