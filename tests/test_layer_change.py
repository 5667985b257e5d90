"""The layer_change study: snapshots of a run, random directions, and what it says of records of known answer."""

import importlib
import json

import numpy as np
import pytest
from small import config, refused

from experiments.layer_change import claims, following, runs, study, table
from experiments.layer_change.runs import ALIKE, CKA, DISTANCE, RANDOM, RSA, SHIFT, TRAINED, Run, thirds
from flaxbert import trees
from flaxbert.analysis.base import Settings
from flaxbert.analysis.distance import distance

SETTINGS = {**study.PRESETS["paper"], "tasks": ("mnli", "squad", "conll2003_chunk"), "seeds": 2, "steps": 3}
RISING = np.array([0.0, 0.01, 0.02, 0.1, 0.2, 0.4, 0.6])


def row(task="mnli", seed=0, own=RISING, other=RISING / 2, random=RISING / 10, total=8):
    """A run whose layers change so, half as much at half of the steps."""
    found = []
    for step, direction, part in ((total // 2, TRAINED, 0.5), (total, TRAINED, 1.0), (total, RANDOM, 1.0)):
        for text, change in (("own", own if direction == TRAINED else random), ("other", other)):
            found += [{"step": step, "direction": direction, "text": text, "measure": measure, "tokens": 9,
                       "values": [float(1 - part * x if measure in ALIKE else part * x) for x in change]}
                      for measure in (RSA, CKA, SHIFT)]
        found.append({"step": step, "direction": direction, "text": "", "measure": DISTANCE, "tokens": None,
                      "values": [0.02 * part] * len(own)})
    return {"point": {"task": task, "seed": seed}, "metric": "accuracy", "scores": {"accuracy": 0.6 + seed / 100},
            "baseline": 0.35, "total_steps": total, "changes": found}


def of(*rows):
    return runs.by_task(json.loads(json.dumps(rows)), SETTINGS)


def verdicts(*rows):
    return {(each.claim, each.task): (each.found, each.verdict) for each in claims.verdicts(of(*rows))}


# --- arrays

def test_steps_double_and_the_last_one_is_among_them():
    assert following.steps(188, 6) == (5, [5, 10, 20, 40, 80, 188])
    assert following.steps(8, 4) == (1, [1, 2, 4, 8])
    assert following.steps(3, 6) == (1, [1, 2, 3])
    assert following.steps(7, 1) == (7, [7])


def test_thirds_leave_the_embeddings_out():
    assert thirds(RISING) == pytest.approx((0.015, 0.5))
    assert thirds(np.array([9.0, 1.0, 2.0])) == (1.0, 2.0)  # of two layers a third is one
    assert thirds(RISING).share == pytest.approx(0.03)
    assert np.isnan(thirds(np.zeros(4)).share)


def test_a_measure_without_a_value_in_some_layer_is_left_out():
    rows = [{"text": "own", "layer": layer, "measure": measure, "value": value}
            for measure, value in ((RSA, None), (CKA, 0.5)) for layer in range(2)]
    assert [each["measure"] for each in following.by_measure(rows)] == [CKA]


def test_random_directions_are_as_long_and_their_own():
    rng = np.random.default_rng(0)
    before = {"a": {"kernel": rng.normal(size=(30, 20)).astype(np.float32)}, "b": np.ones(40, np.float32)}
    after = {"a": {"kernel": before["a"]["kernel"] + 0.01}, "b": before["b"]}
    moved = following.random_directions(before, after, 3)
    old, new, other = (trees.flatten(tree) for tree in (before, after, moved))
    lengths = [distance([old["a/kernel"]], [each["a/kernel"]]).absolute for each in (new, other)]
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-4)
    u, v = ((each["a/kernel"] - old["a/kernel"]).ravel() for each in (new, other))
    assert abs(u @ v) / (np.linalg.norm(u) * np.linalg.norm(v)) < 0.2
    np.testing.assert_array_equal(other["b"], old["b"])  # what did not move does not move
    assert not np.array_equal(other["a/kernel"], trees.flatten(following.random_directions(before, after, 4))[
        "a/kernel"])


# --- the rules

def test_layers_that_change_more_and_more_are_confirmed():
    found = verdicts(row(), row(seed=1))
    assert found["B late most", "mnli"] == (
        "1 - RSA 0.500 at the top, 0.015 at the bottom; 1 - cosine 0.500 at the top, 0.015 at the bottom; 1 - RSA "
        "larger at the top by +0.485 (+0.485 to +0.485, 2 seeds)", "confirmed")
    assert found["B early hardly", "mnli"][1] == found["B own more", "mnli"][1] == "confirmed"
    assert found["B parsing more", "parsing"] == ("", "not measured")


def test_one_seed_that_says_otherwise_is_enough():
    found = verdicts(row(), row(seed=1, own=RISING[::-1], other=RISING))
    for claim in ("B late most", "B early hardly", "B own more"):
        assert found[claim, "mnli"][1] == "not confirmed at this size"
    half = verdicts(*(row(seed=seed, own=0.3 + RISING) for seed in range(2)))
    assert half["B late most", "mnli"][1] == "confirmed"
    assert half["B early hardly", "mnli"] == ("1 - RSA of the bottom third is 0.39 to 0.39 of the top third's",
                                              "not confirmed at this size")


def test_one_seed_or_no_change_is_too_little():
    assert verdicts(row())["B late most", "mnli"] == ("", "not measured")
    still = verdicts(*(row(seed=seed, own=0 * RISING) for seed in range(2)))
    assert still["B early hardly", "mnli"] == ("", "not measured")


def test_phrases_decide_nothing_about_parsing():
    found = verdicts(row("conll2003_chunk"), row("squad", own=RISING / 2))
    assert found["B parsing more", "parsing"] == (
        "no dependencies at hand; 1 - RSA, mean of all layers: conll2003_chunk 0.222, squad 0.111", "not measured")


# --- the report

def test_the_table_tells_thirds_steps_layers_and_the_control():
    about = {"date": "2026-11-22", "devices": 1, "device": "cpu", "cores": 2, "commit": "0123456789",
             "preset": "small", "settings": SETTINGS}
    measured = of(row(), row(seed=1))
    said = table.markdown(about, measured, claims.verdicts(measured))
    assert "| mnli | 1 - RSA | 0.015 | 0.500 | 0.03 | 0.0075 | 0.250 | 0.0015 | 0.050 |" in said
    assert "| mnli | 0.500 | 0.0075 | 0.250 | 0.010 | 0.010 |" in said
    assert "| mnli | 6 | 0.020 | 0.600 |  | 0.600 | 0.600 | 0.300 | 0.300 | 0.060 | 0.060 |" in said
    assert "moved 1 times as far as the bottom third's, and its 1 - RSA is 33.3 times as large. In random" in said
    assert "Not measured: squad, conll2003_chunk." in said


def test_a_run_keeps_its_encoder_at_its_steps_and_every_layer_is_compared(tiny, tmp_path):
    ready, result, encoders = following.follow(config(tiny, tmp_path / "run", evals_per_epoch=0), 3)
    assert (ready.total_steps, result["status"], [*encoders]) == (8, "finished", [2, 4, 8])
    start = trees.flatten(ready.pretrained.params["bert"])
    far = [distance([*start.values()], [trees.flatten(encoder)[name] for name in start]).absolute
           for encoder in encoders.values()]
    assert 0 < far[0] < far[1] < far[2]

    settings = Settings.make(after="the run", what=following.OF_STATES, texts=12, tokens=60)
    found = following.changes(ready.pretrained, {8: encoders[8]}, ready.config, settings, 0)
    run = Run({"point": {"task": "toy_sentence", "seed": 0}, "total_steps": 8, "changes": found})
    for measure in (RSA, CKA, SHIFT):
        for text in ("own", "other"):
            values = run.change(measure, text=text)
            assert values.shape == (2,)
            assert (values > 0).all()
    moved = [run.change(DISTANCE, direction=direction) for direction in (TRAINED, RANDOM)]
    np.testing.assert_allclose(*moved, rtol=1e-3)  # as far, layer by layer
    assert run.change(RSA, direction=RANDOM)[0] != run.change(RSA)[0]
    assert run.change(RSA, step=4) is None


def test_a_record_has_a_table_and_a_picture_and_goes_on(monkeypatch, tmp_path):
    asked = []

    def measure(point, settings):
        asked.append(point)
        return {name: value for name, value in row(**point).items() if name != "point"}
    monkeypatch.setattr(study, "measure_point", measure)
    run = importlib.import_module("experiments.run")
    for _ in range(2):
        run.run("layer_change", "tiny", str(tmp_path), seeds=2, tasks=("toy_pair",))
    assert asked == [{"task": "toy_pair", "seed": 0}, {"task": "toy_pair", "seed": 1}]
    assert (tmp_path / "figure.png").stat().st_size > 5000
    findings = json.loads((tmp_path / "summary.json").read_text())["findings"]
    assert [(each["claim"], each["verdict"]) for each in findings["claims"]][:3] == [
        ("B late most", "confirmed"), ("B early hardly", "confirmed"), ("B own more", "confirmed")]
    assert findings["thirds"][0]["measure"] == DISTANCE


@pytest.mark.parametrize(("given", "line"), [
    ({"texts": 0}, "at least 1"), ({"other": "toy_pair"}, "--other=toy_pair: should be a task of lone texts"),
    ({"tasks": ("swag",)}, "--tasks=swag: unknown")])
def test_bad_settings_are_a_line(given, line):
    assert line in refused(study.points, {**study.PRESETS["tiny"], **given})
