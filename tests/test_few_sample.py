"""The few_sample study: effects whose size is known, and what its rules say of them."""

import importlib
import json

import pytest

from experiments.claims import judge
from experiments.few_sample import arms, study, table
from experiments.few_sample.arms import ARMS
from flaxbert.errors import InputError

SETTINGS = {**study.PRESETS["small"], "tasks": ("toy_pair",), "seeds": 3}
EFFECTS = (0.10, -0.05, 0.02)
ABOUT = {"settings": SETTINGS, "devices": 1, "cores": 1,
         **dict.fromkeys(("date", "preset", "device", "commit"), "")}


def row(key, task="toy_pair", effects=EFFECTS, noise=0.0, failed=0, metric="accuracy"):
    """Three seeds at 0.6, moved by the effects of the remedies and, with noise, unevenly from arm to arm."""
    corrected, anew, longer = key
    score = 0.6 + sum(effect for effect, yes in zip(effects, key, strict=True) if yes)
    runs = [{"seed": seed, "score": None if seed <= failed else
             score + 0.01 * seed + noise * (-1) ** (seed + sum(key))} for seed in (1, 2, 3)]
    return {"point": {"task": task, "epochs": 6.0 if longer else 3.0, "reinit_layers": int(anew),
                      "bias_correction": corrected, "rate": 6e-4, "seeds": 3},
            "metric": metric, "baseline": 0.34, "runs": runs}


def of(*rows):
    return arms.of(json.loads(json.dumps(rows)), SETTINGS)


def verdicts(measured):
    return {verdict.claim: (verdict.found, verdict.published, verdict.verdict)
            for verdict in judge(study.CLAIMS, [(each.task, each) for each in measured])}


def test_the_effect_of_each_remedy_is_found():
    [measured] = of(*map(row, ARMS))
    for remedy, effect in enumerate(EFFECTS):
        found = measured.effect(remedy)
        assert (found.mean, *found.interval, found.n) == pytest.approx((effect, effect, effect, 3))
    found = verdicts([measured])
    assert found["E bias correction"] == ("+0.100 (+0.100 to +0.100, 3 seeds)", "", "confirmed")
    assert found["E re-initialisation"][2] == "not confirmed at this size"
    assert found["E longer"][2] == "confirmed"
    assert found["E together"] == ("+0.070 (+0.070 to +0.070, 3 seeds)", "", "confirmed")


def test_an_effect_within_the_noise_is_not_confirmed():
    [measured] = of(*(row(key, effects=(0.0, 0.0, 0.001), noise=0.05 * (key == ARMS[-1])) for key in ARMS))
    assert measured.effect(2).mean == pytest.approx(0.001 + 0.05 / 12)
    assert verdicts([measured])["E longer"][2] == "not confirmed at this size"


def test_failed_runs_are_counted_over_all_arms():
    """A run whose loss was not finite has the score of the constant answer, and has failed."""
    [measured] = of(*(row(key, failed=0 if key[0] else 2) for key in ARMS))
    found = verdicts([measured])
    assert found["E correction saves"] == ("0 of 12 failed against 8 of 12, p = 0.001", "", "confirmed")
    assert found["E longer saves"][0] == "4 of 12 failed against 4 of 12, p = 1.000"
    assert found["E longer saves"][2] == "not confirmed at this size"
    assert measured.arms[ARMS[0]].numbers["min"] == 0.34


def test_what_was_not_measured_is_not_judged_but_told():
    measured = of(*(row(key, task="rte") for key in ARMS if not key[2]))
    found = verdicts(measured)
    for claim in ("E bias correction", "E longer", "E together"):
        assert found[claim] == ("", "", "not measured")
    # Half of the arms: with and without a remedy they differ in others, too.
    for claim in ("E longer saves", "E correction saves", "E re-initialisation saves"):
        assert found[claim] == ("", "", "not measured")
    assert found["E re-initialisation"] == ("", "rte accuracy 0.695 ± 0.025 to 0.726 ± 0.016 [S]", "not measured")
    text = table.markdown(ABOUT, measured, [])
    assert "Published of rte, without layers drawn anew and with: accuracy 0.695 ± 0.025 to 0.726" in text
    assert "Not measured, or not whole: rte (4 of 8 arms), toy_pair." in text
    assert "Not measured, or not whole: toy_pair." in table.markdown(ABOUT, [], [])


def test_a_record_has_tables_and_a_picture(monkeypatch, tmp_path):
    rows = [row(key, failed=int(key == ARMS[0])) for key in ARMS]
    known = {tuple(each["point"].values()): each for each in rows}

    def measure(point, settings):
        return {name: value for name, value in known[tuple(point.values())].items() if name != "point"}
    monkeypatch.setattr(study, "measure_point", measure)
    run = importlib.import_module("experiments.run").run
    result = run("few_sample", "small", str(tmp_path), tasks=("toy_pair",), seeds=3)
    assert (result["measured"], result["failed"]) == (8, 0)
    text = (tmp_path / "table.md").read_text()
    assert "| toy_pair | 3 | 0 | no | accuracy | 1 of 3 | 0.530 | 0.165 | 0.340 | 0.630 |" in text
    assert "| toy_pair | 6 | 1 | yes | accuracy | 0 of 3 | 0.690 | 0.010 | 0.680 | 0.700 |" in text
    assert "; 0 of 12 and 1 of 12 |" in text
    assert (tmp_path / "figure.png").stat().st_size > 5000
    findings = json.loads((tmp_path / "summary.json").read_text())["findings"]
    told = [each for each in findings["claims"] if each["task"] == "rte"]  # which the paper has
    assert [(each["claim"], each["verdict"]) for each in told] == [("E re-initialisation", "not measured")]
    assert (len(findings["claims"]), len(findings["arms"])) == (len(study.CLAIMS) + 1, 8)


def test_points_are_the_cross_product_and_what_a_point_trains(monkeypatch):
    found = study.points({**SETTINGS, "tasks": ("toy_pair", "toy_sentence")})
    assert len({json.dumps(point) for point in found}) == len(found) == 16
    assert [point["task"] for point in found[:2]] == ["toy_pair", "toy_sentence"]
    assert [point["epochs"] for point in found] == [3.0] * 8 + [6.0] * 8
    given = {}

    class Stop(Exception):
        pass

    def trained(**settings):
        given.update(settings)
        raise Stop
    monkeypatch.setattr(study.seeds, "trained", trained)
    for point, anew in ((found[0], False), (found[-1], True)):
        with pytest.raises(Stop):
            study.measure_point(point, SETTINGS)
        assert (given["reinit_layers"], given["reinit_pooler"]) == (int(anew), anew)
        assert given["bias_correction"] == anew
        assert (given["recipe"], [*given["seeds"]], given["max_train_examples"]) == (
            "zhang", [1, 2, 3], 1000 if point["task"] == "toy_pair" else 0)


@pytest.mark.parametrize(("given", "line"), [
    (dict(seeds=0), "--seeds and --reinit_layers: at least 1"), (dict(reinit_layers=0), "at least 1"),
    (dict(epochs=("3",)), "--epochs=3: should be few, many"), (dict(tasks=("wnli",)), "--tasks=wnli: unknown")])
def test_settings_that_make_no_points(given, line):
    with pytest.raises(InputError, match=line):
        study.points({**SETTINGS, **given})
