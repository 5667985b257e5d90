"""The fine_tuning study: its points, the settings of its runs, and what it says of records of known answer."""

import importlib
import json

import pytest
from small import refused

from experiments import training
from experiments.fine_tuning import claims, runs, study, table
from experiments.fine_tuning.published import DEVLIN, in_metric, text
from flaxbert.config import Config

SETTINGS = {**study.PRESETS["paper"], "model": "minilm", "tasks": ("mrpc", "stsb"), "seeds": 2, "rate": 5e-5,
            "rates": ("1e-5",), "rates_task": "mrpc"}


def row(task, seed, score, start="pre-trained", rate=5e-5, baseline=0.684, metric="accuracy", **others):
    return {"point": {"task": task, "start": start, "rate": rate, "seed": seed}, "metric": metric,
            "baseline": baseline, "scores": {"loss": 0.5, metric: score, **others}}


GOOD = (row("mrpc", 0, 0.80, f1=0.86), row("mrpc", 0, 0.69, start="random", f1=0.81),
        row("mrpc", 1, 0.82, f1=0.88),
        row("mrpc", 0, 0.70, rate=1e-5, f1=0.8), row("mrpc", 1, 0.71, rate=1e-5, f1=0.8))


def verdicts(*rows):
    found = claims.verdicts(runs.by_task(json.loads(json.dumps(rows)), SETTINGS))
    return {(each.claim, each.task): (each.found, each.verdict) for each in found}


def lower(score, at):
    """The good rows with another score of one of them."""
    return [{**each, "scores": {**each["scores"], "accuracy": score}} if n == at else each
            for n, each in enumerate(GOOD)]


# --- the rules

def test_what_is_above_the_constant_answer_and_random_weights_works():
    found = verdicts(*GOOD)
    assert found["A works", "mrpc"] == ("accuracy 0.810, lowest of 2 seeds 0.800; constant answer 0.684, random "
                                        "weights 0.690", "confirmed")
    assert found["A rates", "mrpc"] == ("accuracy at 1e-5: 0.700 to 0.710; 5e-5: 0.800 to 0.820; constant answer "
                                        "0.684", "confirmed")
    assert found["A works", "swag"] == ("", "not measured")


@pytest.mark.parametrize(("score", "at", "works", "rates"), [
    (0.684, 2, "not confirmed at this size", "not confirmed at this size"),  # a seed as good as a constant answer
    (0.85, 1, "not confirmed at this size", "confirmed"),  # random weights are better
    (0.60, 4, "confirmed", "not confirmed at this size")])  # a seed at the lowest rate
def test_one_run_is_enough_to_confirm_nothing(score, at, works, rates):
    found = verdicts(*lower(score, at))
    assert (found["A works", "mrpc"][1], found["A rates", "mrpc"][1]) == (works, rates)


def test_one_seed_or_no_random_weights_is_too_little():
    assert verdicts(*GOOD[:2])["A works", "mrpc"] == ("", "not measured")
    assert verdicts(GOOD[0], *GOOD[2:])["A works", "mrpc"] == ("", "not measured")


@pytest.mark.parametrize("came_to", [{"error": "the loss is nan at step 3"}, {"scores": {"accuracy": None}}])
def test_a_lost_run_does_not_work(came_to):
    """So is one whose score is no number: a correlation with a constant answer."""
    lost = {**GOOD[0], "point": {**GOOD[0]["point"], "seed": 2}, **came_to}
    found = verdicts(*GOOD, lost)["A works", "mrpc"]
    assert "1 lost" in found[0]
    assert found[1] == "not confirmed at this size"


def test_a_run_that_was_lost_at_another_rate_is_of_the_rates_alone():
    lost = [{"point": {**GOOD[3]["point"], "seed": seed}, "error": "the loss is nan at step 3"} for seed in (0, 1)]
    for found in (verdicts(*GOOD, {**lost[0], "point": {**lost[0]["point"], "seed": 2}}),
                  verdicts(*GOOD[:3], *lost)):  # the second: nothing but lost runs at that rate
        assert found["A works", "mrpc"][1] == "confirmed"
        assert found["A rates", "mrpc"][1] == "not confirmed at this size"
        assert " lost; constant answer 0.684" in found["A rates", "mrpc"][0]


def test_a_correlation_of_a_constant_answer_is_0():
    stsb = [row("stsb", seed, score, start, baseline=0.0, metric="pearson", spearman=score - 0.01)
            for seed, score, start in ((0, 0.3, "pre-trained"), (1, 0.2, "pre-trained"), (0, 0.1, "random"))]
    assert verdicts(*stsb)["A works", "stsb"][1] == "confirmed"


# --- the report

def test_the_table_stands_beside_the_published_numbers():
    about = {"date": "2026-11-22", "devices": 1, "device": "cpu", "cores": 2, "commit": "0123456789",
             "preset": "small", "settings": {**SETTINGS, "limits": ("mrpc=1500",), "eval_examples": 400}}
    measured = runs.by_task(GOOD, about["settings"])
    said = table.markdown(about, measured, claims.verdicts(measured))
    assert "| mrpc | accuracy | 1500 | 0.684 | 0.810 ± 0.014 (2) | 0.690 (1) | +0.126 | +0.120 |" in said
    assert "| mrpc | f1 | 0.870 ± 0.014 (2) | 0.889 | test | 0.890 |" in said
    assert "| mrpc | accuracy | 1e-5 | 0.705 ± 0.007 (2) | 0.700 | 0.684 |" in said
    assert "Not measured: stsb." in said
    assert text("squad") == "squad f1 0.885, dev [S]"
    assert (in_metric("mrpc", "accuracy"), in_metric("squad", "f1"), in_metric("arc_easy", "accuracy")) == (
        0.8436, 0.885, None)
    assert (in_metric("qqp", "accuracy"), in_metric("qqp", "f1")) == (0.9076, 0.8751)
    assert all(0 < score.value < 1 for score in DEVLIN.values())


def test_points_come_seed_by_seed_and_are_measured_as_they_say(monkeypatch, tmp_path):
    seen = []

    def trained(config):
        seen.append(Config.make(**config))
        score = 0.9 - 0.3 * config["random_init"] + 0.01 * config["seed"]
        return {"metric": "accuracy", "scores": {"accuracy": score, "loss": 1 - score}, "baseline": 0.4}
    monkeypatch.setattr(training, "trained", trained)
    run = importlib.import_module("experiments.run")
    result = run.run("fine_tuning", "tiny", str(tmp_path), tasks=("toy_pair",))
    assert (result["measured"], result["failed"]) == (5, 0)
    assert [(config.seed, config.random_init, config.learning_rate) for config in seen] == [
        (0, False, 1e-3), (0, True, 1e-3), (0, False, 3e-4), (1, False, 1e-3), (1, False, 3e-4)]
    assert run.run("fine_tuning", "tiny", str(tmp_path), tasks=("toy_pair",))["measured"] == 0
    assert (tmp_path / "figure.png").stat().st_size > 5000
    findings = json.loads((tmp_path / "summary.json").read_text())["findings"]
    assert [(each["claim"], each["verdict"]) for each in findings["claims"]] == [("A works", "confirmed"),
                                                                                 ("A rates", "confirmed")]


@pytest.mark.parametrize(("given", "line"), [
    ({"seeds": 0}, "--seeds: at least 1"), ({"rates": ("fast",)}, "--rates=fast: should be numbers"),
    ({"rates_task": "toy_token"}, "--rates_task=toy_token: none of --tasks"),
    ({"tasks": ("swag",)}, "--tasks=swag: unknown")])
def test_bad_settings_are_a_line(given, line):
    assert line in refused(study.points, {**study.PRESETS["tiny"], "tasks": ("toy_pair",), **given})


def test_files_are_found_by_pattern_and_by_other_names(monkeypatch, tmp_path):
    for name in ("data/arc/ARC-E/arc_easy_dev.csv", "data/arc/ARC-E/arc_easy_test.csv", "data/glue/QQP/train.tsv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("FLAXBERT_DATA", str(tmp_path))
    settings = {**study.PRESETS["tiny"], "limits": ()}
    arc, qqp = (training.settings_of(task, settings) for task in ("arc_easy", "qqp"))
    assert arc["train_file"] == str(tmp_path / "data/arc/ARC-E/arc_easy_dev.csv")
    assert qqp["dev_file"] == str(tmp_path / "data/glue/QQP/heldout.tsv")
