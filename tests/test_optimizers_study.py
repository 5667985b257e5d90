"""The optimizers study: the formulas, what it keeps of a step, and what it says of records that are known."""

import importlib
import json

import numpy as np
import pytest

from experiments.claims import judge
from experiments.optimizers import claims, figure, steps, study, table, theory
from experiments.optimizers.steps import ARMS
from flaxbert import optimizers
from flaxbert.config import Config
from flaxbert.errors import InputError

SETTINGS = {**study.PRESETS["small"], "tasks": ("toy_pair",), "seeds": 3}
STEPS = 30


def formula(count):
    t = np.arange(1, count + 1)
    return (1 - 0.9 ** t) / np.sqrt(1 - 0.999 ** t)


def row(key, score, spread=0.01, larger=1.0, task="toy_pair"):
    """Three seeds whose updates are as large as the formula says, the later ones `larger` times that."""
    corrected, warm = key
    rates = 6e-4 * np.minimum(np.arange(STEPS) / 3 if warm else 1.0, 1.0) * np.ones(STEPS)
    size = rates * (1.0 if corrected else formula(STEPS))
    size[4:] *= 1.0 if corrected else larger
    return {"point": {"part": "runs", "task": task, "bias_correction": corrected, "warmup": 0.1 * warm,
                      "rate": 6e-4, "epochs": 3.0, "seeds": 3},
            "metric": "accuracy", "baseline": 0.34, "weights": 100, "rates": rates.tolist(),
            "runs": [{"seed": seed, "score": score + spread * (seed - 2), "updates": size.tolist(),
                      "losses": [1.1] * STEPS} for seed in (1, 2, 3)]}


def rows(*scores, **given):
    """Of the arms in the order of ARMS, those with a score."""
    return [row(key, score, **given) for key, score in zip(ARMS, scores, strict=True) if score is not None]


def verdicts(*found):
    measured = steps.of(json.loads(json.dumps(found)), SETTINGS)
    return {verdict.claim: (verdict.found, verdict.verdict)
            for verdict in judge(claims.CLAIMS, [(each.task, each) for each in measured])}


# --- the formulas

def test_a_step_without_correction_is_larger_by_the_formula():
    found = theory.factor(theory.LONG)
    assert found == pytest.approx(formula(theory.LONG), rel=1e-4)
    assert (found[0], found.argmax() + 1, found.max()) == (pytest.approx(3.1623, rel=1e-4), 12,
                                                           pytest.approx(6.57, abs=5e-3))
    assert theory.factor(7) == pytest.approx(found[:7])


def test_with_a_constant_gradient_a_corrected_step_is_the_rate():
    schedule = optimizers.schedule(Config.make(recipe="devlin", learning_rate=1.0), 20)
    kept = theory.found("devlin", 20)
    assert (kept["bias_correction"], kept["warmup_steps"]) == (False, 2)
    assert kept["with"] == pytest.approx([float(schedule(step)) for step in range(20)], rel=1e-4)
    assert kept["without"] == pytest.approx(kept["with"] * formula(20), rel=1e-4)


def test_what_correction_leaves_of_a_run():
    """With a constant rate the mean of its factor."""
    kept = {"hf": {"bias_correction": True, "warmup_steps": 0, "with": [1.0, 1.0], "without": [4.0, 2.0]}}
    [found] = table.of_recipes(kept)
    assert found["left"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert (found["largest_without"], found["largest_without_at"], found["mean_without"]) == (4.0, 1, 3.0)


# --- what is kept

def test_the_size_of_an_update_is_over_all_weights_but_the_embeddings(tmp_path):
    config, wide, inner = Config.make(model="bundled", task="toy_pair"), 256, 1024
    layer = 4 * (wide * wide + wide) + 2 * 2 * wide + (wide * inner + inner) + (inner * wide + wide)
    count = 4 * layer + (wide * wide + wide) + (wide * 3 + 3)
    assert steps.weights_above_embeddings(config) == count

    folder = tmp_path / "runs"
    log = [{"split": "train", "seed": 1, "step": 1, "loss": 1.0, "learning_rate": 1e-3},
           {"split": "diagnostics", "seed": 1, "step": 1, "update_norm/embeddings": 7.0,
            "update_norm/layer_0": 3.0, "update_norm/head": 4.0, "grad_norm/head": 9.0},
           {"split": "train", "seed": 2, "step": 1, "loss": None, "learning_rate": 1e-3}]
    for seed, status in ((1, "finished"), (2, "failed")):
        (folder / f"seed_{seed}").mkdir(parents=True)
        result = {"seed": seed, "status": status, "task": "toy_pair", "main_metric": "accuracy", "best": {},
                  "metrics": {"dev": {"accuracy": 0.7}}, "majority_baseline": 0.34}
        (folder / f"seed_{seed}" / "result.json").write_text(json.dumps(result))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in log))
    assert steps.found(folder, config) == {
        "metric": "accuracy", "baseline": 0.34, "weights": count, "rates": [0.001],
        "runs": [{"seed": 1, "score": 0.7, "losses": [1.0],
                  "updates": [pytest.approx(5 / np.sqrt(count), rel=1e-4)]},
                 {"seed": 2, "score": None, "updates": [], "losses": [None]}]}


# --- the rules

def test_runs_that_go_by_the_formula_confirm_it():
    found = verdicts(*rows(0.4, 0.6, 0.8, 0.8))
    assert found["E first step"] == ("3.162 at step 1, formula 3.162; 4.250 at step 2, formula 4.250",
                                     "confirmed")
    assert found["E first steps"] == ("off by 0 % in the median step; at most 6.6 times as large", "confirmed")
    for claim, ahead in (("E correction", "+0.400"), ("E warm-up", "+0.200"), ("E either", "+0.200")):
        assert found[claim] == (f"{ahead} ({ahead} to {ahead}, 3 seeds)", "confirmed")


def test_later_steps_may_go_another_way():
    found = verdicts(*rows(0.4, 0.4, 0.4, 0.6, larger=1.5))
    assert found["E first step"][1] == "confirmed"
    assert found["E first steps"][0].startswith("off by 50 %")
    assert {found[claim][1] for claim in ("E first steps", "E correction", "E warm-up", "E either")} == {
        "not confirmed at this size"}


def test_what_was_not_measured_is_not_judged():
    found = verdicts(*rows(0.4, 0.6, None, None))
    assert found["E warm-up"][1] == "confirmed"
    assert {found[claim] for claim in ("E first step", "E first steps", "E correction", "E either")} == {
        ("", "not measured")}
    # Without the arms with warm-up half of the rule is met, which confirms nothing.
    found = verdicts(*rows(0.4, None, 0.8, None))
    assert found["E first step"] == ("3.162 at step 1, formula 3.162", "not measured")
    assert found["E first steps"][1] == "confirmed"


def test_a_run_that_was_lost_has_no_more_steps():
    lost = row((False, False), 0.4)
    lost["runs"][1] |= {"score": None, "updates": lost["runs"][1]["updates"][:5], "losses": [1.0] * 5}
    [measured] = steps.of([lost, row((True, False), 0.8)], SETTINGS)
    assert np.isfinite(measured.ratios(False)).sum(axis=1).tolist() == [30, 5, 30]
    arm = measured.arms[False, False]
    assert arm.runs().values() == pytest.approx([0.39, 0.34, 0.41])
    assert np.isfinite(figure.smooth(arm.losses)).sum(axis=1).tolist() == [30, 5, 30]


# --- the record

def test_a_record_has_tables_and_pictures(monkeypatch, tmp_path):
    known = {tuple(each["point"].values()): each for each in rows(0.4, 0.6, 0.8, 0.3)}

    def measure(point, settings):
        if point["part"] == "theory":
            size = np.linspace(1, 0, 20)
            return {"bias_correction": True, "warmup_steps": 0, "with": size.tolist(),
                    "without": (size * formula(20)).tolist()}
        return {name: value for name, value in known[tuple(point.values())].items() if name != "point"}
    monkeypatch.setattr(study, "measure_point", measure)
    run = importlib.import_module("experiments.run").run
    result = run("optimizers", "small", str(tmp_path), tasks=("toy_pair",), seeds=3)
    assert (result["measured"], result["failed"]) == (8, 0)
    text = (tmp_path / "table.md").read_text()
    assert "| times | 3.16 | 4.25 |" in text
    assert "| toy_pair | none | no | 1 | 3.16 | 6.57 (12) | 1.100 | 0 of 3 | accuracy 0.400 ± 0.010 (3) |" in text
    assert "| toy_pair | 0.1 | yes | 2 | 0.33 | 1.00 (4) | 1.100 | 3 of 3 | accuracy 0.300 ± 0.010 (3) |" in text
    assert "| toy_pair | no | 3.16 | 4.25 |" in text
    for name in ("figure", "steps"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    findings = json.loads((tmp_path / "summary.json").read_text())["findings"]
    assert len(findings["claims"]) == len(study.CLAIMS)
    assert [arm["arm"] for arm in findings["arms"]] == list(ARMS.values())


def test_points_are_the_recipes_and_four_arms_a_task():
    found = study.points({**SETTINGS, "theory_steps": 9})
    assert [point["recipe"] for point in found[:4]] == ["devlin", "mosbach", "zhang", "hf"]
    assert [(point["bias_correction"], point["warmup"]) for point in found[4:]] == [
        (False, 0.0), (False, 0.1), (True, 0.0), (True, 0.1)]
    assert len(study.points({**SETTINGS, "tasks": ()})) == 4


@pytest.mark.parametrize(("given", "line"), [
    (dict(seeds=0), "--seeds and --theory_steps: at least 1"), (dict(warmup=1.0), "--warmup=1: should be a share"),
    (dict(tasks=("wnli",)), "--tasks=wnli: unknown")])
def test_settings_that_make_no_points(given, line):
    with pytest.raises(InputError, match=line):
        study.points({**SETTINGS, **given})
