"""The stability study: its points, what it keeps of a run, and what it says of records whose answer is known."""

import dataclasses
import importlib
import json

import numpy as np
import pytest
from small import TINY, result_of, rows_of, toy_sentences, write_model

from experiments.claims import judge
from experiments.stability import arms, claims, study, table
from experiments.stability.arms import PLAIN
from experiments.stability.published import METRIC, MOSBACH
from flaxbert.errors import InputError

SETTINGS = {**study.PRESETS["small"], "tasks": ("toy_pair",), "rates": ("1e-3",), "seeds": 12, "many_seeds": 12,
            "grid_seeds": 12}
LABELS = np.arange(200) % 2


def point(epochs=3.0, corrected=False, rate=3e-4, part="arms", task="toy_pair"):
    return {"part": part, "task": task, "epochs": epochs, "bias_correction": corrected, "rate": rate, "seeds": 12}


def row(point, failed, right=0.8, loss=0.3):
    """Twelve seeds, of which the first so many failed: a half right, and a training loss of log 2."""
    rng, runs = np.random.default_rng(0), []
    for seed in range(1, 13):
        bad = seed <= failed
        said = np.where(rng.random(200) < right, LABELS, 1 - LABELS) if not bad else np.ones_like(LABELS)
        score = float((said == LABELS).mean())
        runs.append({"seed": seed, "dev": {"accuracy": score, "f1": score - 0.1, "loss": 0.5},
                     "training_loss": 0.69 if bad else loss + seed / 100, "predicted": arms.digits(said)})
    return {"point": point, "metric": "accuracy", "baselines": {"accuracy": 0.5, "f1": 0.4}, "runs": runs,
            "constant_loss": float(np.log(2)), "labels": arms.digits(LABELS)}


def of(*rows, settings=SETTINGS):
    return arms.of(json.loads(json.dumps(rows)), settings)


def verdicts(*rows):
    return {verdict.claim: (verdict.found, verdict.verdict)
            for verdict in judge(claims.CLAIMS, [(each.task, each) for each in of(*rows)])}


STABLE = (row(point(), 6), row(point(corrected=True), 0), row(point(20.0), 1), row(point(20.0, True), 0),
          row(point(rate=1e-3, part="grid"), 12), row(point(corrected=True, rate=1e-3, part="grid"), 2))


# --- the rules

def test_what_the_papers_found_is_confirmed():
    found = verdicts(*STABLE)
    assert found["E1 failures"] == ("0 of 12 failed against 6 of 12, p = 0.014", "confirmed")
    assert found["E1 rates"] == ("at 3e-4: 0 of 12 failed against 6 of 12, p = 0.014", "confirmed")
    assert found["E2 failures"] == ("1 of 12 failed against 6 of 12, p = 0.069", "not confirmed at this size")
    assert found["E mean"][1] == found["E spread"][1] == "confirmed"
    assert found["E optimisation"] == ("21 of 21 failed runs, 0 of 51 others", "confirmed")


def test_without_failed_runs_nothing_is_confirmed():
    found = verdicts(*(row(each["point"], 0) for each in STABLE))
    for claim in ("E1 failures", "E2 failures", "E mean", "E spread"):
        assert found[claim][1] == "not confirmed at this size"
    assert found["E1 rates"] == ("up to 1e-3 not a fifth of them fails", "not measured")
    assert found["E optimisation"] == ("0 of 0 failed runs, 0 of 72 others", "not measured")


def test_failed_runs_that_fit_their_data_are_told_from_those_that_do_not():
    over_fitted = row(point(), 12)
    for run in over_fitted["runs"]:
        run["training_loss"] = 0.05
    assert verdicts(over_fitted)["E optimisation"] == ("0 of 12 failed runs, 0 of 0 others",
                                                       "not confirmed at this size")


def test_a_grid_that_fails_from_some_rate_on_is_judged_there():
    low, high = (row(point(rate=rate, part=part), failed) for rate, part, failed in ((3e-4, "arms", 2),
                                                                                   (1e-3, "grid", 11)))
    same = [row(point(corrected=True, rate=rate, part=part), 0) for rate, part in ((3e-4, "arms"), (1e-3, "grid"))]
    assert verdicts(low, high, *same)["E1 rates"] == ("at 1e-3: 0 of 12 failed against 11 of 12, p < 0.001",
                                                      "confirmed")


def test_what_was_not_measured_is_not_judged():
    found = verdicts(*STABLE[:2])
    assert found["E1 failures"][1] == "confirmed"
    for claim in ("E1 rates", "E2 failures", "E mean", "E spread"):
        assert found[claim] == ("", "not measured")


def test_a_loss_that_was_not_finite_is_a_failed_run():
    lost = row(point(), 0)
    lost["runs"][3] |= {"dev": None, "training_loss": None, "predicted": None}
    [measured] = of(lost)
    arm = measured.arms[PLAIN]
    assert arm.numbers["failed"] == 1
    assert arm.numbers["min"] == 0.5
    assert verdicts(lost)["E optimisation"][0] == "1 of 1 failed runs, 0 of 11 others"


def test_a_later_row_of_an_arm_takes_the_place_of_the_first():
    [measured] = of(STABLE[0], row({**point(), "seeds": 5}, 2))
    assert measured.arms[PLAIN].numbers["failed"] == 2
    assert len(measured.every) == 1


# --- the report

@pytest.fixture
def run():
    return importlib.import_module("experiments.run")


@pytest.fixture
def measured_as(monkeypatch):
    """Points are not measured, but said to be these rows; the list of those asked for."""
    asked = []

    def use(*rows):
        known = [({**each["point"]}, each) for each in rows]

        def measure(point, settings):
            asked.append(point)
            found = next(each for key, each in known if key == point)
            return {name: value for name, value in found.items() if name != "point"}
        monkeypatch.setattr(study, "measure_point", measure)
        return asked
    return use


def test_a_record_has_tables_and_pictures_and_goes_on(run, measured_as, monkeypatch, tmp_path):
    given = {name: SETTINGS[name] for name in ("tasks", "rates", "seeds", "many_seeds", "grid_seeds")}
    asked = measured_as(*STABLE)
    first = run.run("stability", "small", str(tmp_path), **given)
    assert (first["measured"], first["failed"]) == (6, 0)
    text = (tmp_path / "table.md").read_text()
    assert "| toy_pair | 3 | no | accuracy | 6 of 12 |" in text
    assert "| toy_pair | 1e-3 | 12 of 12 | 0.500 (0.500 to 0.500) | 2 of 12 |" in text
    assert "| E1 failures | toy_pair | 0 of 12 failed against 6 of 12, p = 0.014 |  | confirmed |" in text
    assert "Beside the published numbers" not in text
    assert all(f"- **{claim.name}.** {claim.says}" in text for claim in claims.CLAIMS)
    for name in ("figure", "losses", "rates"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "finished"
    verdicts = {(each["claim"], each["task"]): each["verdict"] for each in summary["findings"]["claims"]}
    assert len([task for _, task in verdicts if task == "toy_pair"]) == len(claims.CLAIMS)
    others = {key: verdict for key, verdict in verdicts.items() if key[1] != "toy_pair"}  # which the paper has
    assert others.keys() == {(claim, task) for claim in ("E mean", "E spread") for task in MOSBACH}
    assert {*others.values()} == {"not measured"}
    assert [arm["failed"] for arm in summary["findings"]["arms"]] == [6, 0, 1, 0, 12, 2]

    lines = (tmp_path / "results.jsonl").read_text().splitlines(True)
    (tmp_path / "results.jsonl").write_text("".join(lines[:-1]))
    assert run.run("stability", "small", str(tmp_path), **given)["measured"] == 1
    assert asked[-1] == asked[-2] == study.points(SETTINGS)[-1]


def test_published_numbers_stand_beside_ours_in_their_metric():
    assert METRIC.keys() == MOSBACH.keys()
    about = {"settings": {**SETTINGS, "tasks": ("mrpc", "rte")}, "devices": 1, "cores": 1,
             **dict.fromkeys(("date", "preset", "device", "commit"), "")}
    mrpc = of(row(point(task="mrpc"), 0), row(point(20.0, True, task="mrpc"), 0))
    text = table.markdown(about, mrpc, [])
    [plain, both] = [line.split(" | ") for line in text.splitlines() if line.startswith("| mrpc | f1 ")]
    assert plain[2:4] + plain[7:] == ["3", "no", "0.840", "0.039", "0.912 |"]
    assert both[2:4] + both[7:] == ["20", "yes", "0.903", "0.008", "0.917 |"]
    mean = np.mean([each["dev"]["f1"] for each in row(point(), 0)["runs"]])
    assert plain[4] == f"{mean:.3f}"
    assert "Not measured: rte." in text


# --- points

def test_points_of_few_epochs_come_first_and_those_of_many_last():
    found = study.points({**SETTINGS, "seeds": 25, "grid_seeds": 5, "many_seeds": 10})
    assert [(each["part"], each["epochs"], each["rate"], each["seeds"], each["bias_correction"])
            for each in found] == [
        (part, epochs, rate, seeds, corrected) for part, epochs, rate, seeds in (
            ("arms", 3.0, 3e-4, 25), ("grid", 3.0, 1e-3, 5), ("arms", 20.0, 3e-4, 10))
        for corrected in (False, True)]


@pytest.mark.parametrize(("given", "line"), [
    (dict(seeds=0), "--seeds, --many_seeds and --grid_seeds: at least 1"),
    (dict(epochs=("3",)), "--epochs=3: should be few, many"), (dict(epochs=("20", "twenty")), "should be numbers"),
    (dict(rates=("2e-5", "1e-3")), "--rates=2e-5,1e-3: should be above --rate=0.0003"),
    (dict(tasks=("toy_token",)), "--tasks=toy_token: the labels are no classes"),
    (dict(tasks=("wnli",)), "--tasks=wnli: unknown"), (dict(limits=("cola",)), "should be TASK=NUMBER")])
def test_settings_that_make_no_points(given, line):
    with pytest.raises(InputError, match=line.replace("(", r"\(")):
        study.points({**SETTINGS, **given})


# --- runs

@pytest.fixture
def rte(tmp_path, monkeypatch):
    """FLAXBERT_DATA with RTE's files: pairs of sentences, of which a third entails."""
    monkeypatch.setenv("FLAXBERT_DATA", str(tmp_path))
    folder, texts = tmp_path / "data/glue/RTE", toy_sentences(60)
    folder.mkdir(parents=True)
    for split, first, count in (("train", 0, 24), ("dev", 24, 12)):
        lines = ["index\tsentence1\tsentence2\tlabel"]
        lines += [f"{i}\t{texts[i]}\t{texts[i + 1]}\t{'not_' * (i % 3 > 0)}entailment"
                  for i in range(first, first + count)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")


def test_of_each_seed_scores_loss_and_predictions_are_kept(run, rte, tmp_path, monkeypatch):
    """Two points are trained, and what is kept of them is compared with the runs' own files."""
    real = arms.found

    def found(folder, config):
        kept = real(folder, config)
        assert [each["seed"] for each in kept["runs"]] == [1, 2]
        for each in kept["runs"]:
            assert each["dev"] == result_of(folder / f"seed_{each['seed']}")["metrics"]["dev"]
            said = np.array([*each["predicted"]]) == np.array([*kept["labels"]])
            assert said.mean() == pytest.approx(each["dev"]["accuracy"])
            last = [row["loss"] for row in rows_of(folder, "train") if row["seed"] == each["seed"]][-3:]
            assert each["training_loss"] == pytest.approx(np.mean(last))
        file = folder / "seed_2" / "result.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "status": "failed"}))
        lost = {"seed": 2, "dev": None, "training_loss": None, "predicted": None}
        assert real(folder, config)["runs"] == [kept["runs"][0], lost]
        return kept
    every = study.points
    monkeypatch.setattr(study.arms, "found", found)
    monkeypatch.setattr(study, "points", lambda settings: every(settings)[:2])
    model = write_model(tmp_path / "model", dataclasses.replace(TINY, max_position_embeddings=128))
    folder = tmp_path / "record"
    result = run.run("stability", "tiny", str(folder), model=model, tasks=("rte",), rates=(), seeds=2,
                     epochs=("2", "3"), batch_size=8)
    assert (result["measured"], result["failed"]) == (2, 0)
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [row["point"]["bias_correction"] for row in rows] == [False, True]
    for row in rows:
        assert (row["metric"], row["baselines"]) == ("accuracy", {"accuracy": pytest.approx(2 / 3)})
        assert row["constant_loss"] == pytest.approx(-(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3))
        assert row["labels"] == "011" * 4
    plain, corrected = ([run["training_loss"] for run in row["runs"]] for row in rows)
    assert len({*plain, *corrected}) == 4
    assert (folder / "figure.png").stat().st_size > 5000
    assert not (folder / "rates.png").exists()
