"""The studies' runner and its records, and the studies that have no tests of their own."""

import dataclasses
import importlib
import json
from pathlib import Path

import pytest
from small import TINY, write_model

from experiments.claims import judge
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.train import finetune

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run():
    """The module experiments.run."""
    return importlib.import_module("experiments.run")


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_split_squad_splits_by_article(tmp_path, capsys):
    def article(n):
        asked = [{"id": f"{n}.{i}", "question": "?", "answers": [{"text": "a", "answer_start": 0}] * (i % 2)}
                 for i in range(n)]
        return {"title": str(n), "paragraphs": [{"context": "a", "qas": asked}]}
    (tmp_path / "all.json").write_text(json.dumps({"version": "v2.0", "data": [article(n) for n in range(1, 12)]}))
    importlib.import_module("experiments.split_squad").main(str(tmp_path / "all.json"), str(tmp_path / "new"))
    titles = {}
    for split in ("train", "dev"):
        content = json.loads((tmp_path / "new" / f"{split}-v2.0.json").read_text())
        assert content["version"] == "v2.0"
        titles[split] = [int(article["title"]) for article in content["data"]]
    assert titles == {"train": [1, 2, 3, 4, 6, 7, 8, 9, 11], "dev": [5, 10]}
    assert capsys.readouterr().out.splitlines()[1] == "dev: 2 articles, 15 questions, 8 without an answer"


def test_transfer_makes_a_record_of_both_starts(told, tmp_path, monkeypatch):
    seen = []

    def trained(config):
        seen.append(Config.make(**config))
        score = 0.9 - 0.3 * config["random_init"] + 0.01 * config["seed"]
        return {"metric": "accuracy", "scores": {"accuracy": score, "loss": 1 - score}, "baseline": 0.34}
    monkeypatch.setattr("experiments.training.trained", trained)
    folder = tmp_path / "record"
    status, out, err = told("transfer", "--preset=tiny", "--tasks=toy_pair", "--seeds=2", f"--output={folder}")
    assert (status, out.splitlines()) == (0, ["4 measured, 0 failed", f"record: {folder}"]), err
    assert [(config.random_init, config.seed) for config in seen] == [(False, 0), (True, 0), (False, 1), (True, 1)]
    assert {(each.task, each.model, each.learning_rate) for each in seen} == {("toy_pair", "bundled", 1e-3)}
    assert "| +0.300 | yes (0.007) | yes |" in (folder / "table.md").read_text()
    assert "yes (0.007)" in (folder / "report.html").read_text()
    assert (folder / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize(("random", "won", "apart"), [
    ((0.70, 0.72, 0.74), "yes (0.020)", "yes"), ((0.55, 0.80, 0.81), "no (0.147)", "no"),
    ((0.77, 0.78, 0.801), "yes (0.016)", "no")])
def test_a_transfer_task_is_won_by_more_than_the_spread(random, won, apart):
    table = importlib.import_module("experiments.transfer.table")
    rows = table.compare([{"point": {"task": "mrpc", "start": start, "seed": seed}, "metric": "f1",
                           "scores": {"f1": score, "loss": 0.0}}
                          for start, scores in (("pre-trained", (0.80, 0.80, 0.81)), ("random", random))
                          for seed, score in enumerate(scores)], ("sst2", "mrpc"))
    about = {"date": "2026-11-21", "devices": 1, "device": "cpu", "cores": 2, "preset": "small",
             "commit": "0123456789",
             "settings": importlib.import_module("experiments.transfer.study").PRESETS["small"]}
    cells = table.markdown(about, rows).splitlines()[-1].split(" | ")
    assert cells[:3] == ["| mrpc", "f1", "0.803 ± 0.006 (3)"]
    assert cells[5:] == [won, f"{apart} |"]


def test_throughput_writes_a_record_and_a_second_run_repeats_nothing(run, told, tmp_path, monkeypatch):
    monkeypatch.setitem(importlib.import_module("experiments.throughput.measure").MATMUL, "cpu", (256, 1))
    folder = tmp_path / "record"
    command = ("throughput", "--preset=tiny", "--parts=speed", f"--output={folder}")
    status, out, err = told(*command)
    assert (status, out.splitlines()) == (0, ["2 measured, 0 failed", f"record: {folder}"]), err
    assert (folder / "figure.png").stat().st_size > 5000
    first = rows(folder)
    assert [row["point"]["data"] for row in first] == ["full_length", "toy_pair"]
    for row in first:
        assert row["padding_share"] == 0 or row["point"]["data"] == "toy_pair"
        assert row["flops_per_step"] > 0
        assert row["tokens_per_second"] > 0
        assert len(row["windows"]) == 2
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert {"date", "commit", "device", "versions"} <= set(summary)
    assert (folder / "table.md").read_text().count("| bundled |") == 2

    # Torn by a kill in the middle of its last row: that one alone is measured again, here by hand.
    monkeypatch.setitem(run.find("throughput").KINDS, "step", lambda *_: {
        name: value for name, value in first[1].items() if name not in ("point", "seconds", "time")})
    text = (folder / "results.jsonl").read_text()
    (folder / "results.jsonl").write_text(text[:-20])
    assert told(*command)[:2] == (0, f"1 measured, 0 failed\nrecord: {folder}\n")
    assert rows(folder)[:1] == first[:1]
    assert told(*command)[:2] == (0, f"0 measured, 0 failed\nrecord: {folder}\n")
    assert len(rows(folder)) == 2
    status, _, err = told("throughput", "--preset=small", f"--output={folder}")
    assert status == 2
    assert "preset tiny, not small" in err


@pytest.mark.parametrize(("arguments", "line"), [
    (["nonsense"], "study=nonsense: unknown; valid: "),
    (["throughput", "--preset=huge"], "--preset=huge: unknown; valid: tiny, small, paper"),
    (["throughput", "--models=gpt"], "--models=gpt: unknown; valid: bundled, minilm, tiny, bert_base, bert_large"),
    (["throughput", "--parts=all"], "--parts=all: unknown; valid: speed, savings, seeds"),
    (["throughput", "--counts=1,0"], "--counts=1,0: should be numbers of seeds, from 1 on"),
    (["throughput", "--frozen=eight"], "--frozen=eight: should be numbers of layers"),
    (["throughput", "--nonsense=1"], "Unknown command line flag 'nonsense'"),
    (["throughput", "small"], "small: not a flag"),
    (["throughput", "--steps=0"], "at least 1"),
    (["feature_based", "--rows=first"], "--rows=first: unknown; valid: embeddings, second_to_last, last"),
    (["tune_or_not", "--tasks=wnli"], "--tasks=wnli: unknown; valid: toy_sentence"),
    (["tune_or_not", "--limits=mrpc"], "--limits=mrpc: should be TASK=NUMBER"),
    (["tune_or_not", "--seeds=0"], "--seeds: at least 1"),
    (["feature_based", "--rows="], "feature_based: nothing is named that could be measured"),
    (["layer_freezing", "--frozen_layers=-1"], "--frozen_layers: at least 0"),
    (["layer_freezing", "--preset=tiny", "--update_readme"], "--update_readme: shows a record of --preset=small"),
])
def test_bad_input_is_one_line(told, tmp_path, arguments, line):
    status, _, err = told(*arguments, *([f"--output={tmp_path}/new"] * (len(arguments) > 1)))
    assert status == 2
    assert line in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_without_a_name_the_studies_are_listed(told):
    status, out, _ = told()
    assert status == 0
    assert "throughput" in out


def test_every_study_has_all_that_the_runner_asks_for(run):
    for name in run.studies():
        study = run.find(name)
        assert {"small", "paper"} <= set(study.PRESETS)
        assert len({tuple(preset) for preset in study.PRESETS.values()}) == 1
        assert set(study.FLAGS) <= set(study.PRESETS["small"])
        assert "<!-- record -->" in (ROOT / "experiments" / name / "README.md").read_text()
        assert all(callable(getattr(study, part)) for part in ("points", "measure_point", "report"))


def test_a_failed_point_is_told_and_tried_again(monkeypatch, run, tmp_path):
    study = run.find("throughput")
    from experiments.records import PointFailed

    def fails(point, settings):
        raise PointFailed("out of device memory")
    monkeypatch.setitem(study.KINDS, "step", fails)
    for _ in range(2):
        result = run.run("throughput", "tiny", str(tmp_path / "record"), parts=("speed",))
        assert (result["measured"], result["failed"]) == (2, 2)
    summary = json.loads((tmp_path / "record" / "summary.json").read_text())
    assert [point["error"] for point in summary["failed"]] == ["out of device memory"] * 2


def test_a_record_of_several_days_says_so(tmp_path):
    from experiments.records import Records
    about = {"study": "throughput", "preset": "tiny", "settings": {}, "date": "2026-11-23"}
    record = Records(tmp_path, about)
    assert record.about["date"] == "2026-11-23"
    for number, day in enumerate(("2026-11-21", "2026-11-22")):
        record.append({"number": number}, {"time": f"{day} 23:00:00 +0000"})
    assert record.about["date"] == Records(tmp_path, about).about["date"] == "2026-11-21 to 2026-11-22"


def test_a_record_is_of_one_setting_but_for_what_chooses_its_points(tmp_path):
    """Tasks and seeds of all calls add up; a rate of another call would be told of rows that never had it."""
    from experiments.records import Records

    def opened(**settings):
        about = {"study": "transfer", "preset": "small", "date": "2026-11-23", "settings": settings}
        return Records(tmp_path, about, ("tasks", "seeds")).about["settings"]
    opened(tasks=("a", "b"), seeds=2, rate=1e-4, limits=("a=10",))
    assert opened(tasks=("b", "c"), seeds=1, rate=1e-4, limits=("a=10",)) == {
        "tasks": ["a", "b", "c"], "seeds": 2, "rate": 1e-4, "limits": ["a=10"]}
    with pytest.raises(InputError) as caught:
        opened(tasks=("a",), seeds=5, rate=5e-5, limits=())
    assert str(caught.value) == (f"--output={tmp_path}: holds a record of --rate=0.0001, not 5e-05; "
                                 "--limits=a=10, not none; give another folder")


def test_records_that_are_shown_can_be_gone_on_with(run):
    """Their presets, today, are those that they were measured with."""
    from experiments.gallery import in_order
    from experiments.records import differences
    kept = [each for each in in_order() if each.folder]
    assert len(kept) > 8
    for each in kept:
        study = run.find(each.name)
        settings, choices = study.PRESETS[each.summary["preset"]], getattr(study, "CHOICES", run.CHOICES)
        assert differences(each.summary["settings"], settings, choices) == [], each.name


def test_the_table_goes_between_its_marks(tmp_path):
    from experiments.records import write_between_marks
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- record -->\nold\n<!-- end of record -->\nafter\n")
    write_between_marks(page, "new\n")
    assert page.read_text() == "before\n<!-- record -->\n\nnew\n\n<!-- end of record -->\nafter\n"
    page.write_text("nothing\n")
    with pytest.raises(InputError, match="no lines"):
        write_between_marks(page, "new")


@pytest.fixture
def small_runs(monkeypatch, tmp_path) -> list[str]:
    """Flags for runs of a model of two layers on a few examples; they leave nothing outside the test."""
    training = importlib.import_module("experiments.training")
    monkeypatch.setattr(training, "finetune", lambda config: finetune(dataclasses.replace(
        config, compilation_cache="", devices=1)))
    model = write_model(tmp_path / "model", dataclasses.replace(TINY, num_hidden_layers=2,
                                                                max_position_embeddings=128))
    return ["--preset=tiny", f"--model={model}", "--limits=toy_pair=16,toy_token=16", "--eval_examples=8",
            "--batch_size=8", f"--output={tmp_path}/record"]


def test_features_writes_a_record(told, small_runs, tmp_path):
    status, _, err = told("tune_or_not", *small_runs, "--tasks=toy_pair", f"--cache_dir={tmp_path}/cache")
    assert status == 0, err
    features, full = rows(tmp_path / "record")
    assert [row["point"]["how"] for row in (features, full)] == ["scalar_mix", "fine-tuned"]
    assert [row["cached_layers"] for row in (features, full)] == [[0, 1, 2], []]
    assert features["parameters_trained"] < full["parameters_trained"]
    assert "| toy_pair | accuracy | " in (tmp_path / "record" / "table.md").read_text()
    assert (tmp_path / "record" / "figure.png").stat().st_size > 5000


def test_freezing_writes_a_record(told, small_runs, tmp_path):
    status, _, err = told("layer_freezing", *small_runs, "--frozen_layers=1")
    assert status == 0, err
    none, one = rows(tmp_path / "record")
    assert (none["cached_layers"], none["cache_seconds"]) == ([], 0)
    assert one["cached_layers"] == [1]
    assert one["cache_seconds"] > 0
    assert one["parameters_trained"] < none["parameters_trained"]
    text = (tmp_path / "record" / "table.md").read_text()
    assert text.count("| toy_pair | 0 | ") == text.count("| toy_pair | 1 | ") == 1
    assert (tmp_path / "record" / "figure.png").stat().st_size > 5000


def test_features_come_seed_by_seed_and_without_what_is_not_here(run, monkeypatch, capsys):
    monkeypatch.delenv("FLAXBERT_DATA", raising=False)
    for name, given, hows in (("feature_based", {"rows": ("last", "fine-tuned")}, ("last", "fine-tuned")),
                              ("tune_or_not", {"tasks": ("toy_token", "mrpc")}, ("scalar_mix", "fine-tuned"))):
        study = run.find(name)
        points = study.points({**study.PRESETS["tiny"], **given, "seeds": 2})
        assert [tuple(point.values()) for point in points] == [("toy_token", how, seed)
                                                               for seed in (0, 1) for how in hows]
    assert capsys.readouterr().err.endswith("tune_or_not: left out for want of FLAXBERT_DATA: mrpc\n")


@pytest.mark.parametrize("name", ["feature_based", "fine_tuning", "layer_change", "layer_freezing", "tune_or_not"])
def test_without_data_small_is_of_toy_tasks(run, monkeypatch, capsys, tmp_path, name):
    study = run.find(name)
    monkeypatch.delenv("FLAXBERT_DATA", raising=False)
    settings = run.settings_of(study, "small", {"seeds": 2})
    assert settings.items() >= {"model": "bundled", "seeds": 2}.items()
    points = study.points(settings)
    assert points
    assert {point["task"] for point in points} <= {*importlib.import_module("experiments.training").TOYS}
    assert run.settings_of(study, "small", {"model": "bundled"}) == {**study.PRESETS["small"], **study.TOYS}
    given = run.settings_of(study, "small", {"model": "hub/name"})  # which can be had
    assert given == {**study.PRESETS["small"], "model": "hub/name"}

    def interrupted(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(study, "measure_point", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run(name, "small", str(tmp_path / "record"))
    assert "FLAXBERT_DATA has no MiniLM" in capsys.readouterr().err


def test_a_record_of_nothing_is_not_begun(run, monkeypatch, tmp_path):
    monkeypatch.delenv("FLAXBERT_DATA", raising=False)
    with pytest.raises(InputError, match="tune_or_not: nothing to measure; the data of the named tasks"):
        run.run("tune_or_not", "tiny", str(tmp_path / "record"), tasks=("mrpc",))
    assert not (tmp_path / "record").exists()


def measured(metric: str, **scores: tuple) -> list[dict]:
    """Rows of a record, from TASK__HOW=scores by seed."""
    return [{"point": {**dict(zip(("task", "how"), name.split("__"), strict=True)), "seed": seed},
             "metric": metric, "scores": {metric: score}}
            for name, values in scores.items() for seed, score in enumerate(values)]


def about(study: str) -> dict:
    return {"date": "2026-11-21", "preset": "small", "devices": 1, "device": "cpu", "cores": 2, "commit": None,
            "settings": importlib.import_module(f"experiments.{study}.study").PRESETS["paper"]}


def test_the_table_by_layers_tells_where_the_papers_order_does_not_hold():
    table, claims = (importlib.import_module(f"experiments.feature_based.{name}") for name in ("table", "claims"))
    rows = measured("f1", **{
        "conll2003__embeddings": (0.60, 0.60), "conll2003__last": (0.86, 0.88),
        "conll2003__second_to_last": (0.84, 0.84), "conll2003__fine-tuned": (0.90, 0.90)})
    layers = table.by_layers(rows, "conll2003")
    assert [row["how"] for row in layers] == ["embeddings", "second_to_last", "last", "fine-tuned"]
    assert [round(row["behind"], 3) for row in layers] == [0.3, 0.06, 0.03, 0.0]
    assert [row["published_behind"] for row in layers] == [0.054, 0.008, 0.015, 0.0]
    (pair,) = table.reversed_pairs(layers)
    assert (pair["better"], pair["worse"], round(pair["by"], 3), round(pair["spread"], 4)) == (
        "last", "second_to_last", 0.03, 0.0141)
    verdicts = judge(claims.CLAIMS, [("conll2003", claims.of(rows, "conll2003"))])
    assert [each.verdict for each in verdicts] == ["not measured", "not confirmed at this size", "not measured"]
    text = table.markdown(about("feature_based"), layers, verdicts)
    assert "| second_to_last | 0.840 ± 0.000 (2) | 0.060 | 3 | 0.956 | 0.008 | 2 |" in text
    assert "in 1 of 6 pairs of rows: last above second_to_last by 0.030 (spread 0.014)" in text
    assert ("| C second-to-last | conll2003 | -0.030 (-0.157 to +0.097, 2 seeds) | +0.007 [S] | not confirmed at "
            "this size |") in text


@pytest.mark.parametrize(("tuned", "verdict"), [
    ((0.962, 0.965, 0.963), "confirmed"), ((0.93, 0.93, 0.93), "not confirmed at this size"),
    ((0.99, 0.99, 0.99), "not confirmed at this size"), ((0.963,), "not measured")])
def test_features_are_close_to_fine_tuning_neither_far_below_nor_far_above(tuned, verdict):
    claims = importlib.import_module("experiments.feature_based.claims")
    rows = measured("f1", **{f"conll2003__{how}": (0.95, 0.951, 0.952) for how in claims.ROWS}
                    | {"conll2003__concat_last4": (0.960, 0.961, 0.963), "conll2003__fine-tuned": tuned})
    found = {each.claim: each for each in judge(claims.CLAIMS, [("conll2003", claims.of(rows, "conll2003"))])}
    assert found["C close"].verdict == verdict
    assert found["C best"].verdict == "confirmed"
    assert found["C best"].published == "nearest sum_last4, +0.002 [S]"


def test_the_table_by_task_tells_where_the_papers_signs_do_not_hold():
    table, claims = (importlib.import_module(f"experiments.tune_or_not.{name}") for name in ("table", "claims"))
    rows = measured("accuracy", **{
        "sst2__scalar_mix": (0.80, 0.81), "sst2__fine-tuned": (0.85, 0.86), "mrpc__scalar_mix": (0.80,),
        "mrpc__fine-tuned": (0.78,), "mnli__scalar_mix": (0.5,), "mnli__fine-tuned": (0.6,),
        "stsb__scalar_mix": (0.7, 0.9), "stsb__fine-tuned": (0.81, 0.81), "sick_e__scalar_mix": (0.7,)})
    compared, verdicts = table.by_task(rows, "scalar_mix"), claims.verdicts(claims.of(rows))
    assert {row["task"]: table.sign(row) for row in compared} == {
        "sst2": "yes", "mrpc": "no", "mnli": "no difference published", "stsb": "yes (within the spread)"}
    text = table.markdown(about("tune_or_not"), compared, verdicts)
    assert "2 of 3 differences have the published sign; the other sign here: mrpc." in text
    assert "| D close | sst2 | -0.050 (-0.050 to -0.050, 2 seeds) | sst2 -0.005 [R] | not confirmed" in text
    assert "| D close | mnli | -0.100, one seed | mnli +0.000 [R] | not measured |" in text
    assert [each.task for each in verdicts if each.claim == "D similarity"] == ["mrpc", "stsb"]
    assert "Not measured: sick_e, sick_r, conll2003." in text


def test_every_row_of_the_features_record_was_kept_and_its_verdicts_follow_from_it():
    """The two studies were one: fine-tuned names are a row of both. Of the other tasks seeds joined later."""
    both = {name: ROOT / "experiments" / name / "records" / "2026-11-21"
            for name in ("feature_based", "tune_or_not")}
    points = [{tuple(row["point"].values()) for row in rows(folder)} for folder in both.values()]
    assert (len(points[0] | points[1]), points[0] & points[1]) == (
        60, {("conll2003", "fine-tuned", seed) for seed in range(3)})
    by_layers, by_task = (importlib.import_module(f"experiments.{name}.claims") for name in both)
    again = (judge(by_layers.CLAIMS, [("conll2003", by_layers.of(rows(both["feature_based"]), "conll2003"))]),
             by_task.verdicts(by_task.of(rows(both["tune_or_not"]))))
    for folder, verdicts in zip(both.values(), again, strict=True):
        said = json.loads((folder / "summary.json").read_text())["findings"]["claims"]
        assert said == [verdict._asdict() for verdict in verdicts]


def test_freezing_costs_and_saves_against_no_frozen_layer():
    table, claims = (importlib.import_module(f"experiments.layer_freezing.{x}") for x in ("table", "claims"))
    found = [{"point": {"task": "mrpc", "frozen": frozen, "seed": seed}, "metric": "f1", "scores": {"f1": score},
              "training_seconds": 100.0 - 30 * frozen, "cache_seconds": 5.0 * frozen,
              "parameters_trained": 3100 - 1000 * frozen}
             for frozen, scores in enumerate(((0.80, 0.84), (0.79, 0.83), (0.70, 0.70)))
             for seed, score in enumerate(scores)]
    frozen = table.by_layers(found)
    assert [round(row["ahead"], 3) for row in frozen] == [0.0, -0.01, -0.12]
    assert [(row["training_share"], row["share"]) for row in frozen] == [(1.0, 1.0), (0.7, 0.75), (0.4, 0.5)]
    verdicts = judge(claims.CLAIMS, [(each.task, each) for each in claims.of(found)])
    assert [(each.found, each.verdict) for each in verdicts] == [
        ("1 of 3: -0.010 (-0.010 to -0.010, 2 seeds)", "confirmed"),
        ("2 of 3: -0.120 (-0.374 to +0.134, 2 seeds)", "not confirmed at this size"),
        ("1 and 2 of 3 layers frozen: 0.70 and 0.40 of the seconds, the latter 0.50 with computing the states "
         "(2 seeds timed)", "confirmed")]
    # One seed has no interval; of one number of frozen layers no depth can be told.
    assert [each.verdict for each in judge(claims.CLAIMS, [
        (each.task, each) for each in claims.of([row for row in found if not row["point"]["seed"]])])] == [
        "not measured", "not measured", "confirmed"]
    assert {each.verdict for each in judge(claims.CLAIMS, [
        (each.task, each) for each in claims.of(found[:2])])} == {"not measured"}
    untimed = [{**row, "training_seconds": None, "cache_seconds": None} for row in found]
    half = table.by_layers([row if row["point"]["seed"] else untimed[n] for n, row in enumerate(found)])
    assert half == frozen  # the seconds are those of the other seed
    none = table.by_layers(untimed)
    assert [row["ahead"] for row in none] == [row["ahead"] for row in frozen]
    assert "| mrpc | 1 | f1 | 0.810 ± 0.028 (2) | -0.010 |  |  |  |  |" in table.markdown(
        about("layer_freezing"), none, [])
    again = judge(claims.CLAIMS, [(each.task, each) for each in claims.of(untimed)])
    assert [*again[:2], again[2].verdict] == [*verdicts[:2], "not measured"]
    text = table.markdown(about("layer_freezing"), frozen, verdicts)
    assert "mrpc: up to 1 frozen layers cost no more than the spread over the seeds" in text
    assert "Not measured: mnli, squad." in text
