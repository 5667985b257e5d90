"""`flaxbert report`: a page of what a folder holds, with its numbers, and a line for what it cannot be made of."""

import base64
import json
import statistics
from pathlib import Path

import pytest
from small_runs import PNG, about, check, result, rows, write_json, write_log, write_run, write_seeds

from flaxbert import cli
from flaxbert.errors import InputError
from flaxbert.report import report

ROOT = Path(__file__).parents[1]


def page_of(tmp_path, *folders):
    return check(report(folders, tmp_path / "page.html"))


# --- runs

def test_one_run(tmp_path):
    run = write_run(tmp_path / "mine", learning_rate=1e-3, seed=7)
    page = check(report([run]))
    assert (run / "report.html").exists()
    assert "<title>Run mine</title>" in page.source
    assert page.row("dev", "accuracy") == ["dev", "accuracy", "0.7500", "0.8000"]  # last step, best checkpoint
    assert page.row("learning_rate")[1:] == ["0.001", "0.0003"]
    assert page.row("seed")[1:] == ["7", "0"]
    assert page.row("warmup")[1] == "0.1"  # among the others, folded
    assert [row[0] for row in page.cells].index("learning_rate") < [row[0] for row in page.cells].index("warmup")
    assert page.row("4", "2") == ["4", "2", "dev", "0.2000", "0.8000", "0.8000"]  # an evaluation of the log
    for text in ("mrpc · bundled", "finished", "best dev accuracy 0.8000 at step 4", "0.6800", "21.50", "6.2 %",
                 "1,234,567 of 7,654,321", "6 of 6", "SHA-256 0123456789abcdef…", "train 90, dev 40 examples",
                 "1 x cpu (2 cores)", "jax 0.10.1",
                 "flaxbert finetune --task=mrpc --model=bundled --learning_rate=0.001 --seed=7"):
        assert text in page.text, text
    assert len(page.all("svg")) == 2
    assert "Every evaluation" in page.text


@pytest.mark.parametrize(("given", "texts"), [
    (dict(status="failed", ended={"failure": "the loss is nan at step 4"}, log={"losses": (0.7, 1e9)}),
     ("This run failed: the loss is nan at step 4.", "Off the scale")),
    (dict(status="interrupted"), ("This run was interrupted at step 6 of 6; --resume goes on with it.",)),
    (dict(status=None), ("This run has no result yet: it is at work at step 6 of 6, or was killed there",
                         "unfinished", "best dev accuracy 0.8000", "There is no result yet.")),
    (dict(random_init=True), ("random weights in the shape of bundled",)),
    (dict(recipe="mosbach"), ("--recipe=mosbach",))])
def test_the_state_of_a_run(tmp_path, given, texts):
    page = page_of(tmp_path, write_run(tmp_path / "run", **given))
    assert all(text in page.text for text in texts), page.text
    assert ("--bias_correction" in page.text) is False  # as its recipe has it


def test_a_run_that_failed_before_it_logged_anything(tmp_path):
    run = write_run(tmp_path / "run", status="failed", ended={"failure": "the loss is nan at step 1"})
    (run / "metrics.jsonl").unlink()
    page = page_of(tmp_path, run)
    assert "the loss is nan at step 1" in page.text
    assert "no finite loss or score to draw" in page.text


def test_a_torn_last_line_is_passed_over_and_numbers_that_are_none_are_drawn_as_gaps(tmp_path):
    run = write_run(tmp_path / "run", status=None)
    write_log(run, [*rows(0, [0.7]), {"step": 7, "split": "train", "seed": 0, "loss": None}])
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 8, "split": "train", "seed": 0, "loss": NaN}\n{"step": 9, "spl')
    page = page_of(tmp_path, run)
    assert "at step 8 of 6" in page.text
    assert not any("nan" in line["points"] for line in page.all("polyline"))


def test_hostile_names_are_text(tmp_path):
    bad = "<script>alert(1)<!--'\""
    run = write_run(tmp_path / bad.replace("/", ""), status="failed", ended={"failure": bad}, data_dir=f"a {bad}")
    content = json.loads((run / "config.json").read_text())
    content["task"]["name"] = content["settings"]["task"] = content["versions"]["jax"] = content["devices"] = bad
    content["settings"][bad] = bad  # a setting of another version
    write_json(run / "config.json", content)
    other = write_run(tmp_path / "other", seed=1)
    for page in (page_of(tmp_path, run), page_of(tmp_path, run, other)):
        assert page.text.count("<script>") > 5
        assert "&lt;script&gt;alert(1)" in page.source
    assert page_of(tmp_path, run).row(bad) == [bad, bad, "–"]


# --- several runs

def test_several_runs_side_by_side(tmp_path):
    good = write_run(tmp_path / "good", [0.70, 0.80, 0.75])
    fast = write_run(tmp_path / "fast", [0.70, 0.60], learning_rate=1e-2, optimizer="lamb")
    lost = write_run(tmp_path / "lost", [], seed=3, status="failed", log={"losses": (0.7, 40.0, 1e9)},
                     ended={"failure": "the loss is inf at step 4"}, learning_rate=9.0)
    page = page_of(tmp_path, good, fast, lost)
    assert page.cells.count(["", "optimizer", "learning_rate"]) == 1
    assert page.row("fast", "lamb") == ["fast", "lamb", "0.01"]
    assert page.row("good", "0.7500")[2:4] == ["1", "0"]
    assert page.row("fast", "0.6000")[2:4] == ["1", "1 (seed 0)"]  # below the best constant answer
    assert page.row("lost", "0.6800")[2:4] == ["1", "1 (seed 3)"]  # counts as it
    assert "lost failed: the loss is inf at step 4." in page.text
    assert page.row("lost", "3", "failed")[-1] == "the loss is inf at step 4"
    assert "Off the scale: lost (up to 1e+09)" in page.text
    curves = {svg["aria-label"].partition(":")[0]: svg for svg in page.all("svg")}
    assert [*curves] == ["loss", "dev accuracy"]
    # The good run's training loss goes over half of the height or more.
    points = next(line["points"] for line in page.all("polyline")).split()
    heights = [float(point.split(",")[1]) for point in points]
    assert max(heights) - min(heights) > 100


def test_single_runs_that_differ_in_their_seed_are_one_arm(tmp_path):
    scores = {1: 0.70, 2: 0.72, 3: 0.77}
    runs = [write_run(tmp_path / f"a-{seed}", [score], seed, output_dir=f"runs/{seed}")
            for seed, score in scores.items()]
    page = page_of(tmp_path, *runs)
    want = f"{statistics.fmean(scores.values()):.4f} ± {statistics.stdev(scores.values()):.4f}"
    assert page.row("all runs", want)[2:4] == ["3", "0"]
    assert "--seeds=1:3" in page.text
    assert "What differs" not in page.text
    folder = page_of(tmp_path, tmp_path)  # the folder that they stand in
    assert folder.row(tmp_path.name, want)
    assert "Runs in" in folder.text
    again = write_run(tmp_path / "again" / "a-1", [0.70], 1)  # a repetition is no further seed
    both = page_of(tmp_path, runs[0], again)
    assert both.row(f"{tmp_path.name}/a-1", "0.7000")
    assert both.row("again/a-1", "0.7000")
    assert "No setting but the seed" in both.text


def test_a_folder_of_seeds(tmp_path):
    folder = write_seeds(tmp_path / "runs", {1: 0.80, 2: None, 3: 0.66, 4: 0.90}, lacking=(5, 6), epochs=2.0)
    (folder / "seeds.png").write_bytes(PNG)
    page = page_of(tmp_path, folder)
    counted = [0.80, 0.68, 0.66, 0.90]  # a lost one counts as the best constant answer
    want = f"{statistics.fmean(counted):.4f} ± {statistics.stdev(counted):.4f}"
    assert page.row("runs", want)[1:5] == [want, "4", "2 (seed 2, 3)", "0.7400"]
    assert "runs, seed 2 failed: the loss is nan at step 4." in page.text
    assert "runs: not begun yet: seed 5, 6." in page.text
    assert "3 finished 1 failed" in page.text
    assert page.row("runs", "3")[2] == "finished no better than a constant answer"
    [image] = page.all("img")
    assert base64.b64decode(image["src"].partition(",")[2]) == PNG
    assert image["width"] == "640"
    assert "runs, seed 2 (up to 1e+09)" in page.text
    one = page_of(tmp_path, folder / "seed_4")  # its log is in the folder of all
    assert one.row("dev", "accuracy") == ["dev", "accuracy", "0.9000", "0.9000"]
    assert len(one.all("svg")) == 2


def test_a_folder_of_seeds_of_which_one_has_begun(tmp_path):
    """Still the page of all: that the others are to come is told."""
    page = page_of(tmp_path, write_seeds(tmp_path / "runs", {1: 0.80}, lacking=(2, 3), epochs=2.0))
    assert "Seeds of runs" in page.text
    assert "runs: not begun yet: seed 2, 3." in page.text


def test_a_sweep(tmp_path):
    sweep = tmp_path / "rates"
    for rate, scores in ((1e-3, {1: 0.80, 2: 0.82}), (1e-2, {1: 0.70, 2: None})):
        write_seeds(sweep / f"learning_rate={rate}", scores, learning_rate=rate)
    cells = {f"learning_rate={rate}": {"learning_rate": rate} for rate in (1e-3, 1e-2, 1.0, 2.0)}
    write_json(sweep / "sweep.json", {"format": 1, "cells": cells, "seeds": [1, 2], "grid": {}, "settings": {}})
    write_json(sweep / "summary.json", {"errors": {"learning_rate=1.0": "no memory <b>"}})
    (sweep / "figure.png").write_bytes(PNG)
    page = page_of(tmp_path, sweep)
    assert page.row("learning_rate=0.001", "0.8100 ± 0.0141")
    assert page.row("learning_rate=0.01", "0.6900 ± 0.0141")
    assert ["learning_rate=0.001", "0.001"] in page.cells
    assert "learning_rate=1.0: not trained: no memory <b>." in page.text
    assert "learning_rate=2.0: not trained yet." in page.text
    assert "learning_rate=0.01, seed 2 failed" in page.text
    assert len(page.all("img")) == 1
    assert "The best mean is bold" in page.text


def test_a_run_in_a_folder_that_has_measured_nothing_is_told_and_harms_no_others(tmp_path):
    folder = tmp_path / "runs"
    write_run(folder / "good")
    killed = write_run(folder / "killed", status=None)
    (killed / "metrics.jsonl").write_text("")
    page = page_of(tmp_path, folder)
    assert "0.8000" in page.text
    assert "killed: not trained yet." in page.text
    (folder / "good" / "result.json").write_text("{")
    with pytest.raises(InputError, match=r"result\.json"):
        page_of(tmp_path, folder)


def test_arms_of_several_tasks_have_charts_and_tables_of_their_own(tmp_path):
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other", task="rte")
    page = page_of(tmp_path, one, other)
    assert [svg["aria-label"].partition(", ")[0].rpartition(":")[0] for svg in page.all("svg")] == [
        "mrpc: loss", "mrpc: dev accuracy", "rte: loss", "rte: dev accuracy"]


# --- records

README = """# Some freezing

**Question.** What do `frozen` layers
cost?

**In short.** Little, up to *half* of them.

## Run it

```
python -m experiments.run freezing
```

## Result

Before.

<!-- record -->

| copied | table |
| --- | --- |

<!-- end of record -->

After. ![Score by layer](records/2026-01-02/figure.png)
"""


def write_record(folder, **other):
    summary = {"study": "freezing", "question": "What?", "preset": "small", "status": "failed points",
               "date": "2026-01-02", "device": "AMD EPYC", "devices": 1, "cores": 2, "system": "Linux",
               "commit": ["abc", "def"], "measured": 3,
               "versions": {"jax": "0.10.1", "torch": None}, "settings": {"seeds": 3},
               "command": "python -m experiments.run freezing && python -m experiments.run freezing --seeds=3",
               "failed": [{"k": 8, "seed": 1, "error": "no <memory>"}]}
    write_json(folder / "summary.json", {**summary, **other})
    (folder / "table.md").write_text("**By layer**\n\n| k | here | Merchant 2020 [R] |\n| --- | --- | --- |\n"
                                     "| 8 | 0.812 ± 0.004 (3) | 0.840 |\n")
    for name in ("figure.png", "by_layer.png"):
        (folder / name).write_bytes(PNG)
    return folder


def test_a_record(tmp_path):
    folder = write_record(tmp_path / "freezing" / "records" / "2026-01-02")
    (tmp_path / "freezing" / "README.md").write_text(README)
    page = page_of(tmp_path, folder)
    assert page.row("8", "0.812 ± 0.004 (3)", "0.840")
    assert page.row("8", "1", "no <memory>")
    for text in ("Some freezing What do frozen layers cost?", "In short Little, up to half of them.", "By layer",
                 "failed points", "[R]: recalled, not checked again.", "1 x AMD EPYC, 2 processor cores",
                 "abc, def", "jax 0.10.1", "python -m experiments.run freezing --seeds=3", "Run it",
                 "Before.", "After."):
        assert text in page.text, text
    assert "copied" not in page.text
    assert "[S]" not in page.text
    assert "torch" not in page.text
    assert [image["alt"] for image in page.all("img")] == ["Score by layer", "Some freezing: by layer"]


def test_a_record_away_from_its_study(tmp_path):
    folder = write_record(tmp_path / "elsewhere", status="unfinished", failed=[])
    page = page_of(tmp_path, folder)
    assert "Freezing What?" in page.text
    assert "This record is not whole" in page.text
    assert "In short" not in page.text
    readme = tmp_path / "readme.md"
    readme.write_text(README)
    assert "Little, up to half" in check(report([folder], tmp_path / "b.html", readme)).text


# A record without a table is still being measured.
@pytest.mark.parametrize("folder", sorted(file.parent for file in ROOT.glob("experiments/*/records/*/table.md")),
                         ids=lambda folder: f"{folder.parts[-3]} {folder.name}")
def test_every_record_that_is_kept_has_a_page(tmp_path, folder):
    page = page_of(tmp_path, folder)
    lines = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("| ")]
    tables = [line for line in lines if not set(line) <= set("| -:")]
    for line in tables:  # every number of the table
        want = [cell.strip().replace("**", "").replace("`", "") for cell in line.strip("|").split(" | ")]
        assert [cell for cell in want if cell] in [[cell for cell in row if cell] for row in page.cells], line
    assert len(page.all("img")) == len(list(folder.glob("*.png")))


def test_an_analysis(tmp_path):
    folder = tmp_path / "changed"
    write_json(folder / "analysis.json", {
        "settings": {"after": "runs/a", "what": ["rsa"]}, "versions": {"jax": "1.2"},
        "models": {"before": {"model": "base"}, "after": {"model": "runs/a"}},
        "texts": {"dev": {"tokens": 512}}})
    (folder / "table.md").write_text("## rsa\n\nHow alike.\n\n| layer | dev |\n| --- | ---: |\n| 1 | 0.987 |\n\n"
                                     "![rsa](rsa.png)\n\n## cka\n\n![cka](cka.png)\n")
    for name in ("rsa.png", "plane.png"):
        (folder / name).write_bytes(PNG)
    page = page_of(tmp_path, folder)
    assert page.row("1") == ["1", "0.987"]
    assert page.row("dev tokens") == ["dev tokens", "512"]
    assert "base → runs/a" in page.text
    assert page.row("before model") == ["before model", "base"]
    assert page.source.index("How alike") < page.source.index("<img") < page.source.index("Pictures")
    assert [image["alt"] for image in page.all("img")] == ["Analysis changed: rsa", "Analysis changed: plane"]


# --- bad input

def torn(folder, name, text="{"):
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("make", "line"), [
    (lambda d: d / "nowhere", "nowhere: no such folder; give the folder of a run"),
    (lambda d: write_run(d / "a") / "result.json", "result.json: is a file; give the folder"),
    (lambda d: d, "no run, folder of seeds, sweep, analysis or record of a study"),
    (lambda d: torn(write_run(d / "a"), "result.json"), "a/result.json: cannot be read"),
    (lambda d: torn(write_run(d / "a"), "result.json", "{}"), "a/result.json: lacks status"),
    (lambda d: torn(write_run(d / "a"), "config.json"), "a/config.json: cannot be read"),
    (lambda d: torn(write_run(d / "a"), "config.json", "[1]"), "a/config.json: should hold one JSON object"),
    (lambda d: torn(write_run(d / "a"), "config.json", '{"x": 1}'), "a: not one of our runs"),
    (lambda d: torn(write_run(d / "a"), "metrics.jsonl", "{\n{}\n"), "a/metrics.jsonl, line 1: cannot be read"),
    (lambda d: torn(write_run(d / "a"), "metrics.jsonl", "{}\n"), "a/metrics.jsonl, line 1: no row of a log"),
    (lambda d: torn(write_run(d / "a", status=None), "metrics.jsonl", ""), "a/metrics.jsonl: no measurement yet"),
    (lambda d: torn(write_seeds(d / "a", {1: 0.5}), "seed_1/result.json"), "a/seed_1/result.json: cannot be read"),
    (lambda d: write_json(d / "a" / "config.json", about(seeds=(1, 2))).parent,
     "a/metrics.jsonl: no measurement yet"),
    (lambda d: write_json(d / "a" / "sweep.json", {"cells": {"x": {}}, "seeds": [1]}).parent,
     "a/results.jsonl: no cell of the sweep has a measurement yet"),
    (lambda d: torn(write_record(d / "a"), "summary.json"), "a/summary.json: cannot be read"),
    (lambda d: write_json(d / "a" / "summary.json", {}).parent, "a/summary.json: lacks study"),
    (lambda d: write_json(d / "a" / "analysis.json", {}).parent, "a/table.md: is missing"),
    (lambda d: torn(write_record(d / "a"), "figure.png"), "a/figure.png: not a PNG picture"),
    (lambda d: write_record(d / "s" / "records" / "1").parents[1], "s: a study; give one of its records")])
def test_what_no_page_can_be_made_of_is_one_line(tmp_path, make, line):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError) as caught:
        report([make(tmp_path / "in")], tmp_path / "page.html")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def test_a_record_is_reported_alone(tmp_path):
    with pytest.raises(InputError, match="a: is the record of a study, which has a page of its own"):
        report([write_run(tmp_path / "b"), write_record(tmp_path / "a")], tmp_path / "page.html")


def test_only_pages_of_ours_are_written_over(tmp_path):
    run, page = write_run(tmp_path / "run"), tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><p>flaxbert report</p>")
    for output, line in ((page, "is there and no page of ours"), (tmp_path / "page.pdf", "should end in .html"),
                         (tmp_path / "no" / "page.html", "no folder"), ("run.html", "is a folder")):
        (tmp_path / "run.html").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=line):
            report([run], tmp_path / output)
    assert page.read_text() == "<!DOCTYPE html><p>flaxbert report</p>"
    page.unlink()
    report([run], page)
    assert "0.9900" not in page.read_text()
    write_json(run / "result.json", result(0, [0.99]))
    assert "0.9900" in report([run], page).read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.html", "run", "run.html"]


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1)
    cli.main(["report", "a", "b", "--output=both.html"])
    assert capsys.readouterr().out == "both.html: written\n"
    assert check(tmp_path / "both.html").row("all runs", "0.7500 ± 0.0000")
    cli.main(["report", "a"])
    assert capsys.readouterr().out == "a/report.html: written\n"
    for arguments, line in ((["report"], "flaxbert report: say RUN, one or more"),
                            (["report", "c"], "c: no such folder"),
                            (["report", "a", "--seed=1"], "Unknown command")):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        [told] = capsys.readouterr().err.splitlines()
        assert (caught.value.code, line in told) == (2, True), told
    cli.main(["report", "--help"])
    assert capsys.readouterr().out.startswith("flaxbert report RUN ...: Write a page")
