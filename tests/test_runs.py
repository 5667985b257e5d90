"""Which runs have failed, and the scores in folders of runs."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxbert import metrics, tasks
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.statistics.baseline import failed, majority_baseline
from flaxbert.statistics.runs import Runs, scores_of
from flaxbert.tasks.base import ChoiceExamples, Documents, Examples, SpanExamples, TokenExamples

NUMBERED = ["0", "1", "2", "3"]


def labelled(labels, dtype=np.int32):
    return Examples(["x"] * len(labels), None, np.array(labels, dtype), [])


def words(*labels):
    return TokenExamples([["w"] * len(each) for each in labels], list(labels), [0] * len(labels), [])


def questions(*answers):
    return SpanExamples(["q"] * len(answers), ["c"] * len(answers), [[(text, 0) for text in each]
                                                                     for each in answers], [])


def task(name, *metric, **other):
    row = tasks.get(name)
    return dataclasses.replace(row, metrics=metric or row.metrics, **other)


TAGS = ("O", "B-PER", "I-PER")


@pytest.mark.parametrize(("task", "examples", "expected"), [
    (task("rte"), labelled([0, 0, 1, 0]), 3 / 4),
    (task("mnli"), labelled([2, 0, 2, 1, 2]), 3 / 5),
    (task("cola"), labelled([1, 1, 1, 0]), 0.0),
    (task("mrpc", "f1"), labelled([1, 0, 0, 0]), 2 / 5),  # that of class 1, although 0 is the most frequent
    (task("mnli", "f1"), labelled([0, 1, 1, 2]), 2 / 3 / 3),  # precision 1/2, recall 1; two classes with F1 0
    (task("stsb"), labelled([0, 2.5, 5], np.float32), 0.0),
    (task("toy_regression", "spearman"), labelled([3, 3, 3], np.float32), 0.0),
    (task("swag"), ChoiceExamples(["c"] * 4, [["x"] * 4] * 4, np.int32([0, 3, 3, 1]), NUMBERED), 1 / 2),
    (task("conll2003", labels=TAGS), words([0, 0, 1, 2], [0]), 0.0),
    (task("conll2003", labels=TAGS), words([1], [1], [0]), 2 * 2 / (3 + 2)),  # B-PER everywhere: 2 right of 3
    (task("conll2003", "accuracy", labels=("DET", "NOUN")), words([0, 1], [1]), 2 / 3),
    (task("squad"), questions(["a cat"], ["dogs"]), 0.0),
    (task("squad2"), questions(["cats"], [], []), 2 / 3),
    (task("pretrain"), Documents([["text"]], ["0"]), None),
], ids=lambda value: getattr(value, "name", None))
def test_what_the_best_constant_answer_scores(task, examples, expected):
    assert majority_baseline(task, examples) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("name", "file", "expected"), [
    ("rte", "glue/RTE/dev.tsv", 146 / 277), ("mrpc", "glue/MRPC/dev.tsv", 279 / 408),
    ("cola", "glue/CoLA/dev.tsv", 0.0), ("squad2", "squad/dev-v2.0.json", 5945 / 11873)])
def test_what_it_scores_on_the_official_dev_splits(outside, name, file, expected):
    row, examples, _ = tasks.load_split(Config.make(task=name, dev_file=str(outside / "data" / file)), "dev")
    assert majority_baseline(row, examples) == pytest.approx(expected)


@given(st.integers(1, 4).flatmap(lambda classes: st.lists(st.tuples(*[st.integers(0, 1)] * classes), min_size=1,
                                                          max_size=8)),
       st.sampled_from(["f1", "exact_match", "accuracy", "precision"]))
@settings(max_examples=60, deadline=None)
def test_no_set_of_classes_scores_more_than_the_baseline(rows, metric):
    labels = np.array(rows, np.float32)
    sets = itertools.product((0, 1), repeat=labels.shape[1])
    best = max(metrics.METRICS[metric](np.tile(np.int32(each), (len(rows), 1)), labels) for each in sets)
    found = majority_baseline(task("custom", metric, kind="multi_label"), labelled(rows, np.float32))
    assert found == pytest.approx(best, abs=1e-12)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(0, 2),
       st.sampled_from(["accuracy", "f1", "mcc", "precision"]))
@settings(max_examples=60, deadline=None)
def test_a_model_that_gives_one_answer_has_failed(labels, answer, metric):
    row = task("mnli", metric)
    logits = np.tile(np.eye(3, dtype=np.float32)[answer], (len(labels), 1))
    score = metrics.evaluate(row.kind, row.metrics, logits, np.array(labels))[metric]
    assert failed([score], majority_baseline(row, labelled(labels))).all()


def test_the_rule():
    scores = [0.684, 0.6841, 0.5, None, math.nan, math.inf, 0.684 + 1e-12, 1.0]
    assert failed(scores, 0.684).tolist() == [True, False, True, True, True, True, True, False]
    assert failed(scores, None).tolist() == [False, False, False, True, True, True, False, False]
    assert failed([99.0, 100.0, 101.0, None], 100.0, lowest=True).tolist() == [False, True, True, True]
    assert failed([0.0, -0.1, 0.01], 0.0).tolist() == [True, True, False]  # of a correlation


def test_a_run_without_a_score_counts_as_the_constant_answer():
    runs = Runs("a", "rte", "accuracy", {3: 0.7, 1: math.nan, 2: 0.5}, 0.53)
    assert runs.values().tolist() == [0.7, 0.53, 0.5]
    assert runs.values([1, 3]).tolist() == [0.53, 0.7]
    assert runs.failed.tolist() == [False, True, True]
    unknown = dataclasses.replace(runs, baseline=None)
    assert unknown.values([2, 3]).tolist() == [0.5, 0.7]
    with pytest.raises(InputError, match="a: seed 1 has no accuracy"):
        unknown.values()


# --- folders

def write(folder, seed, score=0.8, **other):
    """A run's folder."""
    folder.mkdir(parents=True)
    result = {"seed": seed, "status": "finished", "task": "rte", "main_metric": "accuracy",
              "majority_baseline": 0.53, "metrics": {"dev": {"loss": 1.0, "accuracy": score}},
              "best": {"dev": {"accuracy": 0.9}}}
    (folder / "result.json").write_text(json.dumps({**result, **other}))


def test_one_run(tmp_path):
    write(tmp_path / "run", 7)
    runs = scores_of(tmp_path / "run")
    assert runs == Runs(str(tmp_path / "run"), "rte", "accuracy", {7: 0.8}, 0.53)
    assert scores_of(tmp_path / "run", "best").scores == {7: 0.9}


def test_many_seeds_in_one_folder(tmp_path):
    for seed in (10, 2, 1):
        write(tmp_path / f"seed_{seed}", seed, seed / 10)
    write(tmp_path / "seed_3", 3, status="failed")  # its loss was not finite
    write(tmp_path / "seed_4", 4, None)
    (tmp_path / "result.json").write_text("{}")  # of the whole: no run
    runs = scores_of(tmp_path)
    assert list(runs.scores) == [1, 2, 3, 4, 10]
    assert runs.values().tolist() == [0.1, 0.2, 0.53, 0.53, 1.0]
    assert runs.failed.tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(("metric", "baseline"), [("mcc", 0.0), ("pearson", 0.0), ("accuracy", None)])
def test_results_of_earlier_versions_do_not_tell_the_constant_answer(tmp_path, metric, baseline):
    write(tmp_path / "run", 1, main_metric=metric, metrics={"dev": {metric: 0.5}})
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    del result["majority_baseline"]
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    assert scores_of(tmp_path).baseline == baseline


def test_what_is_no_folder_of_runs_is_said(tmp_path):
    def refused(message, checkpoint="last"):
        with pytest.raises(InputError, match=message) as error:
            scores_of(tmp_path / "runs", checkpoint)
        assert "\n" not in str(error.value)
    refused("runs: no runs there")
    write(tmp_path / "runs" / "a", 1)
    refused("--checkpoint=first: unknown; valid: last, best", "first")
    write(tmp_path / "runs" / "b", 1)
    refused("b: a second run of seed 1")
    for other, message in (
            (dict(status="interrupted"), "b: seed 2 is interrupted; go on with it by --resume"),
            (dict(task="cola", main_metric="mcc"), r"tasks or metrics: rte by accuracy \(a\), cola by mcc"),
            (dict(majority_baseline=0.6), r"different dev splits, .* scores: 0.53 \(a\), 0.6 \(b\)")):
        (tmp_path / "runs" / "b" / "result.json").unlink()
        (tmp_path / "runs" / "b").rmdir()
        write(tmp_path / "runs" / "b", 2, **other)
        refused(message)
    for text, message in (("{", "b/result.json: not a run's result .JSONDecodeError"), ("[]", "it has no seed"),
                          ('{"seed": 1, "status": "finished"}', "it has no task")):
        (tmp_path / "runs" / "b" / "result.json").write_text(text)
        refused(message)
