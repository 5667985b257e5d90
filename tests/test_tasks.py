"""Reading tasks: the real files, every layout, the hub's columns, the user's own data, and bad input."""

import json
import re

import numpy as np
import pytest
import small
from small import load, write

from flaxbert import tasks
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.tasks.submission import read_submission

# split sizes: data/README.md
REAL = {
    "cola": ("glue/CoLA", {}, {"train": 8551, "dev": 1043, "test": 1063}),
    "sst2": ("glue/SST-2", {}, {"train": 67349, "dev": 872, "test": 1821}),
    "mrpc": ("glue/MRPC", {}, {"train": 3668, "dev": 408, "test": 1725}),
    "stsb": ("glue/STS-B", {}, {"train": 5749, "dev": 1500, "test": 1379}),
    "rte": ("glue/RTE", {}, {"train": 2490, "dev": 277, "test": 3000}),
    "qqp": ("glue/QQP", {"dev_file": "heldout.tsv"}, {"train": 19996, "dev": 3500}),
    "mnli": ("glue/MNLI", {}, {"train": 9999, "dev": 9815}),
    "sick_e": ("sick", {}, {"train": 4500, "dev": 500, "test": 4927}),
    "sick_r": ("sick", {}, {"train": 4500, "dev": 500, "test": 4927}),
}


def refused(**given) -> str:
    """The one line that reading such a task ends with."""
    return small.refused(load, **given)


# --- real files


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_whole(outside, name):
    folder, flags, sizes = REAL[name]
    task, splits, report = load(task=name, data_dir=str(outside / "data" / folder), **flags)
    assert {split: len(examples) for split, examples in splits.items()} == sizes
    assert list(splits) == list(sizes)
    assert report == tasks.Report()
    for split, examples in splits.items():
        assert (examples.second is not None) == task.pair
        assert (examples.labels is None) == (split == "test" and not name.startswith("sick"))
        assert len(examples.ids) == len(examples)
        if examples.labels is not None and task.kind == "classification":
            assert set(examples.labels.tolist()) == set(range(len(task.labels)))
        elif examples.labels is not None:
            assert task.bounds[0] <= examples.labels.min() < examples.labels.max() <= task.bounds[1]


def test_real_files_have_the_published_labels(outside):
    data = outside / "data"
    _, mnli, _ = load(task="mnli", data_dir=str(data / "glue/MNLI"))
    assert np.bincount(mnli["dev"].labels).tolist() == [3479, 3123, 3213]  # entailment, neutral, contradiction
    _, mrpc, _ = load(task="mrpc", data_dir=str(data / "glue/MRPC"))
    assert mrpc["dev"].labels.mean() == pytest.approx(0.684, abs=5e-4)  # the published majority class
    assert mrpc["dev"].second[0].startswith('" The foodservice pie')  # a quotation mark is a character
    assert mrpc["test"].ids[:2] == ["0", "1"]
    _, cola, _ = load(task="cola", data_dir=str(data / "glue/CoLA"))
    assert cola["dev"].first[0] == "The sailors rode the breeze clear of the rocks."
    assert cola["test"].first[0] == "Bill whistled past the house."
    _, sick, _ = load(task="sick_e", data_dir=str(data / "sick"))
    assert sick["test"].ids[-1] == "9996"
    assert sick["test"].labels[-1] == 1  # CRLF and all


def test_other_real_layouts(outside):
    folder = outside / "data" / "glue"
    official, _ = tasks.read_file(tasks.get("mnli"), folder / "MNLI/official_layout_sample48.tsv",
                                  labels_required=True)
    assert np.bincount(official.labels).tolist() == [16, 16, 16]
    assert official.first[0].startswith("Price caps may sound")
    assert official.ids[0] == "10627"
    tokenized, _ = tasks.read_file(tasks.get("mnli"), folder / "MNLI/dev_mismatched_1000_tokenized.tsv")
    assert len(tokenized) == 1000
    assert (tokenized.labels[0], tokenized.second[0][:7]) == (0, "You are")
    original, _ = tasks.read_file(tasks.get("stsb"), folder / "STS-B/sts-test.tsv")
    assert len(original) == 1379
    assert (original.labels[0], original.first[0]) == (2.5, "A girl is styling her hair.")
    labelled, _ = tasks.read_file(tasks.get("mrpc"), folder / "MRPC/msr_paraphrase_test.txt")
    assert len(labelled.labels) == 1725


# --- layouts that are not among the real files: header, one row, what should come out
OFFICIAL = {
    "qnli": ("index\tquestion\tsentence\tlabel", "0\tWho?\tHe did.\tnot_entailment", ("Who?", "He did.", 1)),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\tIt fell.\tThe cup fell.\t1",
             ("It fell.", "The cup fell.", 1)),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\tA.\tB.\tentailment", ("A.", "B.", 0)),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "7\t1\t2\tWhy?\tHow?\t0", ("Why?", "How?", 0)),
    "sst2": ("sentence\tlabel", "a \"fine\" film \t1", ('a "fine" film ', None, 1)),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_layouts(tmp_path, name):
    header, row, expected = OFFICIAL[name]
    for file in ("train.tsv", "dev.tsv"):
        write(tmp_path / file, "﻿" + header, row, end="\r\n")
    _, splits, _ = load(task=name, data_dir=str(tmp_path))
    assert list(splits) == ["train", "dev"]
    dev = splits["dev"]
    assert (dev.first[0], dev.second and dev.second[0], int(dev.labels[0])) == expected


def test_mnli_has_five_splits_and_unlabelled_tests(tmp_path):
    labelled = ("index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label", "3\tx\tA.\tB.\tneutral\tcontradiction")
    for name in ("train", "dev_matched", "dev_mismatched"):
        write(tmp_path / f"{name}.tsv", *labelled)
    for name in ("test_matched", "test_mismatched"):
        write(tmp_path / f"{name}.tsv", "index\tgenre\tsentence1\tsentence2", "9\tx\tA.\tB.")
    _, splits, _ = load(task="mnli", data_dir=str(tmp_path))
    assert list(splits) == ["train", "dev", "dev_mismatched", "test", "test_mismatched"]
    assert splits["dev_mismatched"].labels.tolist() == [2]  # gold_label, not label1
    assert splits["test_mismatched"].labels is None
    assert splits["test"].ids == ["9"]


def test_lines_end_at_newlines_only(tmp_path):
    rows = ["sentence\tlabel", "one\u2028line\x0cor\x85so\t1", "two\t0", "", ""]
    for file in ("train.tsv", "dev.tsv"):
        write(tmp_path / file, *rows)
    _, splits, _ = load(task="sst2", data_dir=str(tmp_path))
    assert splits["train"].first == ["one\u2028line\x0cor\x85so", "two"]


def test_limits_count_per_split():
    _, splits, _ = load(task="toy_pair", max_train_examples=7, max_eval_examples=5)
    assert {name: (len(s), len(s.second), len(s.labels), len(s.ids)) for name, s in splits.items()} == {
        "train": (7,) * 4, "dev": (5,) * 4, "test": (5,) * 4}


def test_toy_tasks_take_files_too(tmp_path):
    path = write(tmp_path / "mine.tsv", "sentence\tlabel", "Lovely.\tnature")
    _, splits, _ = load(task="toy_sentence", dev_file=str(path))
    assert (len(splits["train"]), splits["dev"].first, splits["dev"].labels.tolist()) == (2000, ["Lovely."], [1])


# --- bad input. Good rows around one bad one; the error names file, line and what would be right.
GOOD = ("sentence1\tsentence2\tlabel", "A.\tB.\tentailment", "C.\tD.\tnot_entailment")
BAD_ROWS = {
    "A.\tB.": ("2 columns where the header has 3",),
    "A.\tB.\tx\tentailment": ("4 columns where the header has 3",),
    "A.\tB.\tmaybe": ("unknown label 'maybe'", "valid: entailment, not_entailment"),
    "A.\tB.\t": ("no label",),
    " \t\tentailment": ("the text is empty",),
    "A.\udce9\tB.\tentailment": ("not UTF-8", "0xe9"),
    "": ("1 columns where the header has 3",),
}


@pytest.mark.parametrize(("row", "said"), BAD_ROWS.items(), ids=lambda value: repr(value)[:20])
def test_a_bad_row_stops_the_run_or_is_counted(tmp_path, row, said):
    write(tmp_path / "dev.tsv", *GOOD)
    path = tmp_path / "train.tsv"
    path.write_bytes("\n".join((*GOOD, row, GOOD[1])).encode("utf-8", "surrogateescape"))
    message = refused(task="rte", data_dir=str(tmp_path))
    assert f"{path}, line 4: " in message
    assert "--skip_bad_rows" in message
    assert all(words in message for words in said)
    _, splits, report = load(task="rte", data_dir=str(tmp_path), skip_bad_rows=True)
    assert splits["train"].first == ["A.", "C.", "A."]
    assert splits["train"].labels.tolist() == [0, 1, 0]
    assert report.skipped == {str(path): 1}
    assert "line 4" in report.lines[0]
    assert "skipped 1 bad row" in report.lines[0]


@pytest.mark.parametrize("score", ["five", "nan", "inf", "1e99", ""])
def test_scores_must_be_finite_numbers(tmp_path, score):
    header = "sentence1\tsentence2\tscore"
    write(tmp_path / "dev.tsv", header, "A.\tB.\t1.5")
    write(tmp_path / "train.tsv", header, "A.\tB.\t2", f"A.\tB.\t{score}")
    message = refused(task="stsb", data_dir=str(tmp_path))
    assert f"{tmp_path / 'train.tsv'}, line 3: " in message
    assert ("no label" if not score else "not a finite number") in message


def test_many_bad_rows_are_counted_and_a_few_shown(tmp_path):
    write(tmp_path / "dev.tsv", *GOOD)
    write(tmp_path / "train.tsv", *GOOD, *(["A.\tB.\tmaybe"] * 5), "short")
    _, _, report = load(task="rte", data_dir=str(tmp_path), skip_bad_rows=True)
    assert report.skipped == {str(tmp_path / "train.tsv"): 6}
    assert "skipped 6 bad rows: line 9: 1 columns" in report.lines[0]
    assert report.lines[0].endswith("and 3 more")


@pytest.mark.parametrize(("content", "said"), [
    ((), ("train.tsv: empty", "columns sentence1, sentence2, label")),
    (("sentence1\tsentence2\tlabel",), ("train.tsv: no rows",)),
    (("sentence1\ttext\tlabel", "A\tB\tentailment"),
     ("train.tsv, line 1: missing column sentence2", "found: sentence1, text, label")),
    (("sentence1\tsentence2\tgold", "A\tB\tentailment"),
     ("train.tsv, line 1: missing column label", "found: sentence1, sentence2, gold")),
    (("sentence1\tsentence2\tlabel\tlabel", "A\tB\tentailment\tx"), ("column label occurs twice",)),
])
def test_a_bad_file_is_refused_even_where_rows_are_skipped(tmp_path, content, said):
    write(tmp_path / "dev.tsv", *GOOD)
    write(tmp_path / "train.tsv", *content)
    message = refused(task="rte", data_dir=str(tmp_path), skip_bad_rows=True)
    assert all(words in message for words in said)


def test_dev_without_any_label_is_refused_and_one_empty_text_of_two_is_fine(tmp_path):
    write(tmp_path / "train.tsv", *GOOD, "E.\t\tentailment")
    write(tmp_path / "dev.tsv", GOOD[0], "A.\tB.\t", "C.\tD.\t")
    assert "dev.tsv, line 2: no label" in refused(task="rte", data_dir=str(tmp_path))
    write(tmp_path / "dev.tsv", *GOOD)
    assert load(task="rte", data_dir=str(tmp_path))[1]["train"].second == ["B.", "D.", ""]


def test_a_file_of_bad_rows_only_is_refused(tmp_path):
    write(tmp_path / "dev.tsv", *GOOD)
    write(tmp_path / "train.tsv", GOOD[0], "A.\tB.\tmaybe")
    assert "no rows that can be read" in refused(task="rte", data_dir=str(tmp_path), skip_bad_rows=True)


def test_missing_files_and_flags_are_named(tmp_path):
    write(tmp_path / "train.tsv", *GOOD)
    folder = str(tmp_path)
    cases = (
        (dict(task="rte", data_dir=folder), ("--data_dir", "no dev.tsv there", "--dev_file")),
        (dict(task="rte", data_dir=folder + "/none"), ("--data_dir", "no such folder")),
        (dict(task="rte", data_dir=folder, dev_file="x.tsv"), ("--dev_file=x.tsv: no file",)),
        (dict(task="rte", data_dir=folder, dev_file="train.tsv", test_file="t.tsv"),
         ("--test_file=t.tsv: no file",)),
        (dict(task="rte", text_columns=("a",)), ("--text_columns: only for --task=custom",)),
        (dict(task="bert"), ("--task=bert: unknown; valid: toy_sentence, toy_pair", "sick_r, squad")),
        (dict(task="toy_pair", data_dir=folder), ("--train_file and --dev_file",)),
        (dict(task="toy_pair", hub_dataset="x"), ("--hub_dataset=x: toy_pair is generated",)),
        (dict(task="rte", hub_dataset="x", data_dir=folder, dev_file="train.tsv"),
         ("--hub_dataset=x: not together with --data_dir and --dev_file, which would be read in its place",)),
        (dict(task="ner"), ("give --data_dir=FOLDER with train.txt and dev.txt, or --train_file and",)),
        (dict(task="toy_pair", class_weights=(1.0, 2.0)), ("2 weights for 3 classes", "entailment, neutral")),
        (dict(task="toy_pair", class_weights=(1.0, 2.0, -1.0)), ("none below 0",)),
        (dict(task="toy_regression", class_weights=(1.0,)), ("regression task",)),
        (dict(task="custom", train_file="t.tsv"), ("--text_columns=", "one text column")),
        (dict(task="custom", text_columns=("a",)), ("--label_column",)),
        (dict(task="custom", text_columns=("a", "a"), label_column="b"), ("must be different",)),
    )
    for flags, said in cases:
        message = refused(**flags)
        assert all(words in message for words in said), message


# --- the user's own data


def custom(folder, train, dev, **flags):
    return dict(task="custom", data_dir=str(folder), train_file=train, dev_file=dev,
                **{"text_columns": ("text",), "label_column": "label", **flags})


def test_custom_formats_agree(tmp_path):
    rows = [("He said \"no\", twice.", "no"), ("Yes.", "yes"), ("Perhaps.", "maybe")]
    write(tmp_path / "a.tsv", "label\ttext", *(f"{label}\t{text}" for text, label in rows))
    write(tmp_path / "a.csv", "label,text", 'no,"He said ""no"", twice."', "yes,Yes.", "maybe,Perhaps.")
    write(tmp_path / "a.jsonl", *(json.dumps({"label": label, "text": text}) for text, label in rows))
    for ending in ("tsv", "csv", "jsonl"):
        task, splits, _ = load(**custom(tmp_path, f"a.{ending}", "a.tsv", class_weights=(1.0, 2.0, 0.5)))
        assert task.labels == ("maybe", "no", "yes")
        assert task.metrics == ("accuracy", "f1")
        assert splits["train"].first == [text for text, _ in rows]
        assert splits["train"].labels.tolist() == [1, 2, 0]
        assert list(splits) == ["train", "dev"]


def test_custom_numbers_are_sorted_as_numbers_and_known_labels_come_from_train(tmp_path):
    write(tmp_path / "a.jsonl", *(json.dumps({"text": "x", "label": label}) for label in (10, 9, 2, 2.0)))
    write(tmp_path / "b.tsv", "text\tlabel", "y\t9", "z\t3")
    task, splits, report = load(**custom(tmp_path, "a.jsonl", "b.tsv", skip_bad_rows=True))
    assert task.labels == ("2", "9", "10")
    assert splits["train"].labels.tolist() == [2, 1, 0, 0]
    assert list(report.skipped.values()) == [1]
    assert "line 3: unknown label '3'; valid: 2, 9, 10" in refused(**custom(tmp_path, "a.jsonl", "b.tsv"))


def test_custom_multi_label(tmp_path):
    write(tmp_path / "a.tsv", "text\tlabel", "one\tred|blue", "none\t", 'list\t["green"]')
    write(tmp_path / "b.jsonl", '{"text": "p", "label": ["red", "green"]}', '{"text": "q", "label": []}')
    task, splits, _ = load(**custom(tmp_path, "a.tsv", "b.jsonl", label_type="multi_label"))
    assert (task.labels, task.main_metric, task.outputs) == (("blue", "green", "red"), "f1", 3)
    assert splits["train"].labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert splits["dev"].labels.tolist() == [[0, 1, 1], [0, 0, 0]]


def test_custom_regression_of_pairs_and_an_unlabelled_test(tmp_path):
    write(tmp_path / "a.csv", "id,a,b,score", 'r1,x,"two', 'lines",-1.5')
    write(tmp_path / "t.csv", "id,a,b,score", "r2,x,y,", "r3,x,,")
    task, splits, _ = load(**custom(tmp_path, "a.csv", "a.csv", test_file="t.csv", text_columns=("a", "b"),
                                    label_column="score", label_type="regression"))
    assert (task.outputs, task.pair) == (1, True)
    assert splits["dev"].second == ["two\nlines"]
    assert splits["dev"].labels.tolist() == [-1.5]
    assert splits["test"].labels is None
    assert splits["test"].ids == ["r2", "r3"]


@pytest.mark.parametrize(("name", "rows", "said"), [
    ("a.csv", ("text,label", "fine,1", "a, b,1"), "a.csv, line 3: 3 columns"),
    ("a.csv", ("text,label", "fine,1", '"open,1', "lost,0"), "a.csv, line 3: not CSV: unexpected end of data"),
    ("a.csv", ("text,label", "fine,1", '"a"b,1'), "a.csv, line 3: not CSV"),
    ("a.csv", ("text,label", '"two', 'lines",1', "short"), "a.csv, line 4: 1 columns"),
    ("a.jsonl", ('{"text": "x", "label": 1}', "{text: 1}"), "a.jsonl, line 2: not JSON"),
    ("a.jsonl", ('{"text": "x", "label": 1}', "3"), "a.jsonl, line 2: not a JSON object"),
    ("a.jsonl", ('{"text": "x", "label": 1}', '{"label": 1}'), "a.jsonl, line 2: missing column text"),
    ("a.jsonl", ('{"text": "x", "label": 1}', '{"text": 5, "label": 1}'), "line 2: the text is 5; it must be"),
    ("a.jsonl", ('{"text": "x", "label": 1}', '{"text": null, "label": 1}'), "line 2: the text is None"),
    ("a.tsv", ("text\tlabel", "x\t1", "y\t1"), "a.tsv: at least 2 labels are needed, found: 1"),
    ("a.xlsx", ("text",), "valid endings: .tsv, .txt, .csv, .jsonl"),
])
def test_custom_bad_input(tmp_path, name, rows, said):
    write(tmp_path / name, *rows)
    assert said in refused(**custom(tmp_path, name, name))


def test_custom_without_a_dev_file_asks_for_one(tmp_path):
    write(tmp_path / "a.tsv", "text\tlabel", "x\t1", "y\t0")
    assert "needs a dev file; give --dev_file" in refused(**custom(tmp_path, "a.tsv", ""))


# --- the hub, through datasets.load_dataset on local files of the same columns


@pytest.fixture
def quiet_datasets(tmp_path_factory, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    yield datasets
    datasets.enable_progress_bars()


def test_hub_parquet_with_class_names_and_held_back_labels(tmp_path, quiet_datasets):
    names = quiet_datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    for split, labels in (("train", [2, 0, 1]), ("validation_matched", [1]), ("validation_mismatched", [2]),
                          ("test_matched", [-1, -1])):
        table = {"premise": [f"p{label}" for label in labels], "hypothesis": ["h"] * len(labels), "label": labels,
                 "idx": list(range(5, 5 + len(labels)))}
        data = quiet_datasets.Dataset.from_dict(table).cast_column("label", names)
        data.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    _, splits, _ = load(task="mnli", hub_dataset=str(folder.parent))
    assert list(splits) == ["train", "dev", "dev_mismatched", "test"]
    assert splits["train"].first == ["p2", "p0", "p1"]
    assert splits["train"].labels.tolist() == [2, 0, 1]
    assert splits["dev_mismatched"].labels.tolist() == [2]
    assert splits["test"].labels is None
    assert splits["test"].ids == ["5", "6"]


def test_hub_class_names_in_another_order_and_case(tmp_path, quiet_datasets):
    names = quiet_datasets.ClassLabel(names=["contradiction", "entailment", "neutral"])
    for split in ("train", "validation"):
        table = {"sentence_A": ["a"] * 3, "sentence_B": ["b"] * 3, "label": [0, 1, 2]}
        quiet_datasets.Dataset.from_dict(table).cast_column("label", names).to_parquet(
            str(tmp_path / "hub" / f"{split}.parquet"))
    task, splits, _ = load(task="sick_e", hub_dataset=str(tmp_path / "hub"))
    assert [task.labels[label] for label in splits["dev"].labels] == ["CONTRADICTION", "ENTAILMENT", "NEUTRAL"]


def test_hub_jsonl(tmp_path, quiet_datasets):
    for split, labels in (("train", [1, 0]), ("validation", [0]), ("test", [-1])):
        write(tmp_path / f"{split}.jsonl",
              *(json.dumps({"sentence1": "a", "sentence2": "b", "label": label, "idx": 1}) for label in labels))
    _, splits, _ = load(task="mrpc", hub_dataset=str(tmp_path))
    assert splits["train"].labels.tolist() == [1, 0]
    assert splits["test"].labels is None
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.jsonl", json.dumps({"sentence1": "a", "sentence2": "b", "label": 2.5}))
    _, splits, _ = load(task="stsb", hub_dataset=str(tmp_path))
    assert splits["dev"].labels.tolist() == [2.5]


def test_hub_custom(tmp_path, quiet_datasets):
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.jsonl", *(json.dumps({"t": text, "c": text[0]}) for text in ("ab", "cd")))
    task, splits, _ = load(task="custom", hub_dataset=str(tmp_path), text_columns=("t",), label_column="c")
    assert (task.labels, splits["dev"].labels.tolist()) == (("a", "c"), [0, 1])


def test_hub_problems_are_one_line(tmp_path, quiet_datasets):
    write(tmp_path / "train.jsonl", json.dumps({"text": "a", "label": 1}))
    assert "missing split validation; found: train" in refused(task="sst2", hub_dataset=str(tmp_path))
    write(tmp_path / "validation.jsonl", json.dumps({"text": "a", "label": 1}))
    message = refused(task="sst2", hub_dataset=str(tmp_path))
    assert "split train: missing column sentence; found: text, label" in message
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.jsonl", *(json.dumps({"sentence": "a", "label": n}) for n in (1, 7, -2)))
    message = refused(task="sst2", hub_dataset=str(tmp_path))
    assert "split train, row 1: unknown label '7'; valid: 0, 1, negative, positive" in message
    _, splits, report = load(task="sst2", hub_dataset=str(tmp_path), skip_bad_rows=True)
    assert splits["dev"].labels.tolist() == [1]
    assert list(report.skipped.values()) == [2, 2]
    (tmp_path / "empty").mkdir()
    message = refused(task="sst2", hub_dataset=f"{tmp_path}/empty")
    assert f"for the folder {tmp_path}/empty and got: " in message


def test_without_a_network_the_line_says_what_was_asked_and_what_to_do(quiet_datasets, monkeypatch):
    def unreachable(path, config, revision=None):
        raise ConnectionError("Couldn't reach the Hub\nat all")

    monkeypatch.setattr(quiet_datasets, "load_dataset", unreachable)
    message = refused(task="mrpc")
    assert "dataset 'nyu-mll/glue', configuration 'mrpc'" in message
    assert "Couldn't reach the Hub at all" in message
    assert "--data_dir=" in message
    assert "--hub_dataset=" in message


# --- inputs of predict, a saved run's labels, submissions


def test_inputs_need_no_header_and_no_labels(tmp_path, monkeypatch):
    import io
    import sys
    cola, mrpc = tasks.get("cola"), tasks.get("mrpc")
    plain = write(tmp_path / "in.tsv", "One sentence.", "Another, \"quoted\".")
    assert tasks.read_inputs(cola, plain)[0].first == ["One sentence.", 'Another, "quoted".']
    official = write(tmp_path / "official.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "?\t1\t2\ta\tb")
    examples, _ = tasks.read_inputs(mrpc, official)
    assert (examples.first, examples.second, examples.labels) == (["a"], ["b"], None)
    pairs = write(tmp_path / "in.jsonl", '["a", "b"]', '["c", "d"]')
    assert tasks.read_inputs(mrpc, pairs)[0].second == ["b", "d"]
    for content, expected in ((b"x\ty\n", "y"), (b'{"#1 String": "x", "#2 String": "z"}\n', "z")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert tasks.read_inputs(mrpc, "-")[0].second == [expected]
    with pytest.raises(InputError, match=r"in.tsv, line 1: missing column #1 String, #2 String; found: One sent"):
        tasks.read_inputs(mrpc, plain)
    with pytest.raises(InputError, match=r"line 3: 2 columns; cola without a header has 1"):
        tasks.read_inputs(cola, write(tmp_path / "tab.tsv", "fine", "fine too", "not\tfine"))
    with pytest.raises(InputError, match=r"none.tsv: cannot be read: No such file"):
        tasks.read_inputs(cola, tmp_path / "none.tsv")


@pytest.mark.parametrize(("name", "row"), [
    ("cola", {"sentence": "HALF"}), ("mrpc", ["Whole.", "HALF"]), ("conll2003", {"words": ["Anna", "HALF"]}),
    ("squad", {"question": "Who?", "context": "HALF"}), ("swag", ["So", ["He.", "HALF"]])])
def test_half_a_character_is_told_with_its_line(tmp_path, name, row):
    good, bad = (json.dumps(row).replace("HALF", text) for text in ("\\ud83d\\ude42", "no \\ude42"))
    path = write(tmp_path / "in.jsonl", good, bad)
    message = small.refused(tasks.read_inputs, tasks.get(name), path)
    assert f"{path}, line 2: character 3 of a text is '\\ude42', half of a surrogate pair" in message
    assert len(tasks.read_inputs(tasks.get(name), path, skip_bad_rows=True)[0]) == 1


def test_a_saved_run_brings_its_labels_back(tmp_path):
    config = Config.make(task="custom", text_columns=("text",), label_column="label")
    task = tasks.resolve(config, ("no", "yes"))
    path = write(tmp_path / "later.csv", "text,label", "a,yes", "b,yes")
    examples, _ = tasks.read_file(task, path, labels_required=True)
    assert examples.labels.tolist() == [1, 1]


@pytest.mark.parametrize(("name", "split", "values", "file", "rows"), [
    ("cola", "test", np.array([1, 0]), "CoLA.tsv", ["7\t1", "8\t0"]),
    ("mnli", "test", np.array([0, 2]), "MNLI-m.tsv", ["7\tentailment", "8\tcontradiction"]),
    ("mnli", "test_mismatched", np.array([1, 1]), "MNLI-mm.tsv", ["7\tneutral", "8\tneutral"]),
    ("qnli", "test", np.array([1, 0]), "QNLI.tsv", ["7\tnot_entailment", "8\tentailment"]),
    ("wnli", "test", np.array([1, 0]), "WNLI.tsv", ["7\t1", "8\t0"]),
    ("stsb", "test", np.array([5.7, 3.14159], np.float32), "STS-B.tsv", ["7\t5.000", "8\t3.142"]),
    ("mrpc", "dev", np.array([1, 0]), "mrpc.dev.tsv", ["7\t1", "8\t0"]),
    ("sick_e", "test", np.array([1, 0]), "sick_e.tsv", ["7\tNEUTRAL", "8\tENTAILMENT"]),
])
def test_submission_files(tmp_path, name, split, values, file, rows):
    path = tasks.submission(tasks.get(name), split, values, ["7", "8"], tmp_path / "predictions")
    assert path.name == file
    assert path.read_text().split("\n") == ["index\tprediction", *rows, ""]
    back = read_submission(tasks.get(name), path, ["7", "8"])
    np.testing.assert_allclose(back, np.minimum(values, 5), atol=5e-4)


def test_submission_counts_its_rows(tmp_path):
    with pytest.raises(InputError, match="1 predictions for 2 rows"):
        tasks.submission(tasks.get("cola"), "test", np.array([1]), ["0", "1"], tmp_path)


@pytest.mark.parametrize(("lines", "said"), [
    ((), "line 1: ''; the header should be"), (("a\t1", "b\t0"), "line 1: 'a\\t1'; the header should be"),
    (("index\tprediction", "a 1"), "line 2: 'a 1' is no id and prediction"),
    (("index\tprediction", "a\t1", "a\t1"), "line 3: a second prediction for 'a'"),
    (("index\tprediction", "a\t1"), "no prediction for 'b' and 1 more"),
    (("index\tprediction", "a\t1", "b\t0", "c\t2"), "the prediction for c: unknown label '2'")])
def test_a_submission_that_does_not_fit_is_told(tmp_path, lines, said):
    path = write(tmp_path / "CoLA.tsv", *lines)
    with pytest.raises(InputError) as caught:
        read_submission(tasks.get("cola"), path, ["a", "b", "c"])
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_predictions_for_rows_that_are_not_there_are_counted(tmp_path, capsys):
    path = write(tmp_path / "CoLA.tsv", "index\tprediction", "d\t1", "c\t0", "b\t0", "e\tmaybe", "a\t1")
    assert read_submission(tasks.get("cola"), path, ["a", "b", "c"]).tolist() == [1, 0, 0]
    assert capsys.readouterr().err == (
        f"flaxbert: {path}: 2 of its 5 predictions do not count, the split has no such id: 'd' is the first\n")
    assert read_submission(tasks.get("cola"), path, ["a", "b", "c", "d"]).tolist() == [1, 0, 0, 1]
    assert "1 of its 5 predictions" in capsys.readouterr().err


def test_every_row_of_the_table_is_sound():
    from flaxbert.metrics import METRICS
    from flaxbert.tasks import files
    text = tasks.describe()
    for name, task in tasks.TASKS.items():
        assert task.name == name
        assert task.kind in tasks.KINDS
        assert task.metrics
        assert len(task.spellings) in (0, len(task.labels))
        if tasks.READERS[task.kind] is files:
            assert set(task.metrics) <= set(METRICS)
            assert all(len(layout.texts) == 1 + task.pair for layout in task.layouts)
            assert not task.hub or len(task.hub.texts) == 1 + task.pair
        assert set(task.submission) <= set(task.files)
        assert f"\n{name} " in text
    assert max(map(len, text.splitlines())) < 120


def test_asking_for_predictions_without_a_test_split_is_mentioned(tmp_path):
    for file in ("train.tsv", "dev.tsv"):
        write(tmp_path / file, *GOOD)
    assert "--test_file" in load(task="rte", data_dir=str(tmp_path), predict_test=True)[2].lines[0]
    assert load(task="rte", data_dir=str(tmp_path))[2].lines == ()


@pytest.mark.parametrize(("task", "splits", "names"), [
    ("squad", ("train", "dev"), {"dev": "test"}),
    ("rte", ("train", "dev"), {"dev": "dev"}), ("rte", ("train", "dev", "test"), {"test": "test"}),
    ("mnli", ("dev", "dev_mismatched"), {"dev": "dev", "dev_mismatched": "dev_mismatched"}),
    ("mnli", ("dev", "test_mismatched"), {"test_mismatched": "test_mismatched"}),
    ("custom", ("train", "dev"), {"dev": "dev"})])
def test_only_files_that_are_official_of_dev_get_the_name_of_a_test_split(task, splits, names):
    assert tasks.to_predict(tasks.get(task), splits) == names


@pytest.mark.parametrize(("given", "said"), [
    (dict(task="toy_pair", doc_stride=64), "--doc_stride: only for spans"),
    (dict(task="toy_span", context="document"), "--context: only for tokens"),
    (dict(task="toy_token", null_threshold=0.0), "--null_threshold: only for spans"),
    (dict(task="toy_sentence", mask_rate=0.3), "--mask_rate: only for `flaxbert pretrain`"),
    (dict(task="toy_choice", hidden_size=64), "--hidden_size: only for `flaxbert pretrain`"),
    (dict(task="toy_sentence", label_type="regression"), "--label_type: only for --task=custom")])
def test_a_setting_that_the_task_does_not_look_at_is_refused(given, said):
    with pytest.raises(InputError, match=re.escape(said)):
        tasks.resolve(Config.make(**given))
