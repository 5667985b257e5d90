"""The seed_selection study: what it reads of a stability record, and what it says of seeds that are known."""

import importlib
import json

import numpy as np
import pytest

from experiments.claims import judge
from experiments.seed_selection import curves, source, study
from experiments.stability.arms import digits
from flaxbert.errors import InputError

N = 200
LABELS = np.arange(N) % 2
SETTINGS = {**study.PRESETS["small"], "tasks": ("toy_pair",)}


def row(right, epochs=3.0, corrected=False, task="toy_pair", part="arms"):
    """A row of a stability record: seeds of which each has a share of the examples right, by chance which."""
    rng, runs = np.random.default_rng(1), []
    for seed, share in enumerate(right, 1):
        said = np.where(rng.random(N) < share, LABELS, 1 - LABELS)
        runs.append({"seed": seed, "dev": {"accuracy": share, "loss": 0.5}, "training_loss": 0.1,
                     "predicted": digits(said)})
    return {"point": {"part": part, "task": task, "epochs": epochs, "bias_correction": corrected, "rate": 3e-4,
                      "seeds": len(right)}, "metric": "accuracy", "baselines": {"accuracy": 0.5}, "runs": runs,
            "constant_loss": 0.7, "labels": digits(LABELS), "commit": "abc", "time": "2026-11-22 08:00:00 +0000"}


def kept(*rows):
    return [{"point": source.point(each), **curves.found(each), "source": None} for each in rows]


def verdicts(*rows):
    measured = curves.of(kept(*rows), ("toy_pair",))
    return {verdict.claim: (verdict.found, verdict.verdict)
            for verdict in judge(study.CLAIMS, [(each.task, each) for each in measured])}


ALIKE, APART = (0.8,) * 12, (0.5,) * 6 + (0.9,) * 6


def test_the_lead_of_equally_good_seeds_is_luck_and_that_of_better_ones_stays():
    found = verdicts(row(ALIKE), row(APART, epochs=20.0, corrected=True))
    assert found["F few epochs"][1] == "confirmed"
    arm = curves.Arm(kept(row(ALIKE))[0])
    low, high = arm.band("other")
    assert low < arm.lead("other") < high
    assert f"gives {arm.lead('other'):+.3f} ({low:+.3f} to {high:+.3f} by halving, 12 seeds)" in (
        found["F few epochs"][0])
    assert found["F many epochs, corrected"][1] == "not confirmed at this size"
    assert {found[f"F {name}"] for name in ("few epochs, corrected", "many epochs")} == {("", "not measured")}
    # From five seeds on even of these only luck is to be had.
    assert found["F more seeds"][1] == "confirmed"


def test_what_dev_chooses_is_scored_on_test():
    """Two seeds: the better one on dev is chosen, or either of one."""
    found = curves.found(row((0.6, 0.9)))
    scores = [np.mean([a == b for a, b in zip(run["predicted"], row((0.6, 0.9))["labels"], strict=True)])
              for run in row((0.6, 0.9))["runs"]]
    assert found["dev"] == {"chosen": [0.75, 0.9],
                            "other": [pytest.approx(np.mean(scores)), pytest.approx(scores[1])]}
    assert found["best"]["mean"] == [pytest.approx(np.mean(scores)), pytest.approx(max(scores))]
    assert (found["n"], found["examples"]) == (2, N)
    assert curves.found(row((0.6, 0.9), task="mrpc"))["dev"] is None
    assert verdicts(row(APART))["F dev to test"][1] == "not confirmed at this size"
    assert verdicts(row(ALIKE, task="mrpc"))["F dev to test"] == ("", "not measured")


def test_a_seed_whose_loss_was_not_finite_is_not_chosen():
    lost = row(ALIKE)
    lost["runs"][3] |= {"dev": None, "predicted": None}
    assert curves.found(lost)["n"] == len(curves.found(lost)["halves"]["chosen"]) == 11
    for run in lost["runs"][1:]:
        run |= {"dev": None, "predicted": None}
    assert curves.found(lost)["halves"] is None
    assert verdicts(lost) == {}


# --- the record that is read

@pytest.fixture
def record(tmp_path):
    """The folder of a stability record of two arms and a grid."""
    rows = (row(ALIKE), row(APART, epochs=20.0, corrected=True), {**row(ALIKE, part="grid")},
            {"point": {"part": "arms", "task": "cola"}, "error": "lost"}, row(ALIKE, task="mrpc"))
    (tmp_path / "stability").mkdir()
    (tmp_path / "stability" / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return tmp_path / "stability"


def test_a_record_is_read_and_named(record, tmp_path):
    run, folder = importlib.import_module("experiments.run").run, tmp_path / "record"
    result = run("seed_selection", "small", str(folder), record=str(record), tasks=("toy_pair", "cola"))
    assert (result["measured"], result["failed"]) == (2, 0)
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [each["source"] for each in found] == [
        {"record": str(record), "commit": "abc", "measured": "2026-11-22 08:00:00 +0000"}] * 2
    text = (folder / "table.md").read_text()
    assert f"from the runs of `{record}`, commit `abc`" in text
    assert "| toy_pair | 3 | no | accuracy | 12 |" in text
    assert "| toy_pair | 20 | yes | accuracy | 12 |" in text
    assert "Not measured: cola." in text
    assert (folder / "figure.png").stat().st_size > 5000
    findings = json.loads((folder / "summary.json").read_text())["findings"]
    assert len(findings["claims"]) == len(study.CLAIMS)
    assert findings["arms"][0]["promised"] > findings["arms"][0]["given"]


def test_a_record_that_cannot_be_read_is_told(record, tmp_path):
    def line(**given):
        with pytest.raises(InputError) as caught:
            study.points({**SETTINGS, **given})
        return str(caught.value)
    assert "no record there" in line(record=str(tmp_path))
    assert "has no runs of cola; it has toy_pair, mrpc" in line(record=str(record), tasks=("cola",))
    assert "--tasks=wnli: unknown" in line(record=str(record), tasks=("wnli",))
    (record / "results.jsonl").write_text('{"point": {"part": "arms"}}\n')
    assert "not a record of the stability study" in line(record=str(record))
    assert "--seeds: at least 2" in line(record="", seeds=1)
    assert "--epochs=1,2,3: should be one number, or few, many" in line(record="", epochs=("1", "2", "3"))
    assert "the labels are no classes" in line(record="", tasks=("toy_token",))


def test_without_a_record_runs_are_trained_as_in_stability(monkeypatch, capsys):
    monkeypatch.setattr(study, "STABILITY", "nowhere")
    settings = {**SETTINGS, "record": "nowhere", "seeds": 12}
    found = study.points(settings)
    assert found == [source.point(row(ALIKE, corrected=yes)) for yes in (False, True)]
    asked = []

    def measure(point, settings):
        asked.append(point)
        return {name: value for name, value in row(ALIKE).items() if name != "point"}
    monkeypatch.setattr(study.stability, "measure_point", measure)
    kept = study.measure_point(found[0], settings)
    assert (kept["n"], kept["source"], asked) == (12, None, [found[0]])
    assert "no record at nowhere; its runs are trained anew" in capsys.readouterr().err
