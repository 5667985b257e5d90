"""Sweeps: a grid of settings x seeds that goes on where it was; and two recipes compared on the command line."""

import json
import signal
import time

import pytest
from small import call, command, flags, interrupt, refused, result_of, settings

from flaxbert import disk_cache, tasks, train
from flaxbert.errors import InputError
from flaxbert.grid import groups_of, points_of, read_grid
from flaxbert.sweep import sweep

RATES = {"learning_rate": [1e-3, 3e-3]}


def given(model, folder, **other):
    """The settings of a sweep whose runs take three steps."""
    short = dict(max_steps=3, max_train_examples=24, max_eval_examples=12, evals_per_epoch=0, seeds=(0, 1))
    found = settings(model, folder, **{**short, **other})
    del found["learning_rate"]
    return found


def rows_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def keys_of(folder):
    return [(row["cell"], row["seed"]) for row in rows_of(folder)]


def results_of(folder):
    """The result.json of each run, by cell and seed."""
    return {(file.parent.parent.name, file.parent.name): file.read_text()
            for file in folder.glob("*/seed_*/result.json")}


# --- the grid

def test_a_grid_is_read_as_its_settings_types():
    grid = read_grid(["learning_rate=5e-5,0.00004", "bias_correction=true,False", "batch_size=8",
                      "model=a/b,bundled", "dropout=none,0", "layers=1,2;last", "lora_targets=query;query,value",
                      "class_weights=1,2;3,4"])
    assert grid == {"learning_rate": [5e-5, 4e-5], "bias_correction": [True, False], "batch_size": [8],
                    "model": ["a/b", "bundled"], "dropout": [None, 0.0], "layers": ["1,2", "last"],
                    "lora_targets": [("query",), ("query", "value")], "class_weights": [(1.0, 2.0), (3.0, 4.0)]}


def test_cells_are_the_product_and_their_names_can_be_read():
    points = points_of({"learning_rate": [5e-5, 4e-5], "bias_correction": [True, False]}, {"seeds": "1:3"})
    assert [point.name for point in points] == [
        "learning_rate=5e-05,bias_correction=true", "learning_rate=5e-05,bias_correction=false",
        "learning_rate=4e-05,bias_correction=true", "learning_rate=4e-05,bias_correction=false"]
    config = points[1].config
    assert (config.learning_rate, config.bias_correction, config.seeds) == (5e-5, False, (1, 2, 3))
    assert points_of({"dropout": [None]}, {"seed": 4})[0].config.seeds == (4,)


def test_names_of_any_values_are_names_of_folders():
    long = "~" + 3 * ("/" + 90 * "x")
    names = [point.name for point in points_of({"model": ["a/b", "a-b", long, long + "/y"]}, {})]
    assert names[1] == "model=a-b"
    assert len({*names}) == 4
    assert all("/" not in name and len(name) < 250 for name in names)


def test_a_recipe_brings_all_its_settings():
    devlin, mosbach = (point.config for point in points_of({"recipe": ["devlin", "mosbach"]}, {"batch_size": 8}))
    assert (devlin.epochs, mosbach.epochs, devlin.batch_size) == (3, 20, 8)


def test_runs_that_differ_in_rates_and_switches_share_a_program():
    points = points_of({"frozen_layers": [0, 1], "learning_rate": [1e-3, 2e-3], "bias_correction": [True, False]},
                       {"strategy": "freeze"})
    assert [len(group) for group in groups_of(points)] == [4, 4]
    assert {point.values["frozen_layers"] for point in groups_of(points)[0]} == {0}


@pytest.mark.parametrize(("texts", "more", "line"), [
    (["learning_rate"], {}, "--grid=learning_rate: write --grid=NAME=VALUE,VALUE,..."),
    (["lerning_rate=1"], {}, "--grid=lerning_rate: unknown; valid: task, "),
    (["learning_rate="], {}, "--grid=learning_rate=: no values"),
    (["learning_rate=1,,2"], {}, "--grid=learning_rate=1,,2: a value is empty"),
    (["learning_rate=1", "learning_rate=2"], {}, "--grid=learning_rate: more than once"),
    (["learning_rate=5e-5,0.00005"], {}, "--grid: learning_rate=5e-05 more than once"),
    (["learning_rate=fast"], {}, "--learning_rate='fast': should be a number"),
    (["learning_rate=1e-3,-1"], {}, "--learning_rate=-1.0: out of range"),
    (["batch_size=8,1.5"], {}, "--batch_size='1.5': should be a whole number"),
    (["remat=maybe"], {}, "--remat='maybe': should be true or false"),
    (["parallel=jit,both"], {}, "--parallel=both: unknown; valid: jit, pmap"),
    (["optimizer=adamw,adem"], {}, "--optimizer=adem: unknown"),
    (["optimizer=adamw,sgd"], {"bias_correction": False}, "--optimizer=sgd: sgd does not read --bias_correction"),
    (["strategy=full,half"], {}, "--strategy=half: unknown"),
    (["doc_stride=1,2"], {}, "--doc_stride: only for spans"),
    (["seeds=1,2"], {}, "--grid=seeds: not over this one; give --seeds=1:5"),
    (["seed=1,2"], {}, "--grid=seed: not over this one; give --seeds=1:5"),
    (["output_dir=a,b"], {}, "--grid=output_dir: not over this one; each cell has a folder of its own"),
    (["learning_rate=1,2"], {"learning_rate": 1.0}, "--grid=learning_rate: not together with --learning_rate"),
    (["epochs=1,2"], {"seeds": "1,1"}, "--seeds: 1 more than once"),
    (["epochs=1,2"], {"task": "pretrain"}, "--task=pretrain: a sweep fine-tunes"),
    ([], {}, "--grid: no setting to sweep")])
def test_a_bad_grid_is_one_line(tmp_path, texts, more, line):
    said = refused(lambda: sweep(read_grid(texts), **more, output_dir=str(tmp_path / "sweep")))
    assert said.startswith(line), said
    assert not (tmp_path / "sweep").exists()


# --- the sweep

def test_a_sweep_from_beginning_to_end(tiny, tmp_path, capsys, monkeypatch):
    """Two rates of which one is absurd; interrupted in the second run, gone on with, again, with one more seed."""
    folder = tmp_path / "sweep"
    command = ["sweep", "--grid=learning_rate=1e-3,1e6", *flags(given(tiny, folder))]
    cells = ["learning_rate=0.001", "learning_rate=1000000.0"]
    with monkeypatch.context() as patch:
        interrupt(patch, 5, signal.SIGTERM)
        code, out, _ = call(capsys, *command)
    assert (code, out) == (0, "interrupted, 1 of 4 runs are there; the same command goes on with "
                              f"--output_dir={folder}\n")
    (folder / "results.jsonl").unlink()  # it can be made again from the runs
    code, out, err = call(capsys, *command)
    assert code == 0, err
    assert f"{folder}: 2 cells x 2 seeds, 1 of 4 runs are there" in err
    assert "seed_1: going on from step 2 of 3" in err
    assert "4/4" in err
    assert keys_of(folder) == [(cell, seed) for cell in cells for seed in (0, 1)]
    good, bad = rows_of(folder)[0], rows_of(folder)[-1]
    assert (good["format"], good["grid"], good["status"]) == (1, {"learning_rate": 1e-3}, "finished")
    assert good["dev"] == result_of(folder / cells[0] / "seed_0")["metrics"]["dev"]
    assert good["best_dev"] == good["dev"]
    assert good["versions"].keys() == {"flaxbert", "jax"}
    assert (bad["status"], bad["dev"]) == ("failed", None)
    assert "nan" in bad["failure"]

    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["done"], summary["runs"]) == ("finished", 4, 4)
    assert summary["cells"][1]["failed"] == 2
    assert out.startswith((folder / "table.md").read_text())

    before, lines = results_of(folder), (folder / "results.jsonl").read_text()
    assert call(capsys, *command)[:2] == (0, out)
    assert (results_of(folder), (folder / "results.jsonl").read_text()) == (before, lines)

    code, out, err = call(capsys, *command, "--seeds=1,0,2")
    assert code == 0, err
    assert (folder / "results.jsonl").read_text().startswith(lines)
    assert keys_of(folder)[4:] == [(cell, 2) for cell in cells]
    assert before.items() <= results_of(folder).items()
    assert result_of(folder / cells[0])["dev"]["n"] == 3  # as `finetune --seeds` leaves it


def test_killed_it_repeats_nothing(tiny, tmp_path):
    """kill -9 after the first row, and the next one torn."""
    folder = tmp_path / "sweep"
    process = command("sweep", "--grid=learning_rate=1e-3,3e-3", *flags(given(tiny, folder)))
    try:
        deadline = time.monotonic() + 240
        while not ((folder / "results.jsonl").exists() and rows_of(folder)):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.kill()
        process.communicate()
    done, before = keys_of(folder), results_of(folder)
    assert 0 < len(done) < 4
    with (folder / "results.jsonl").open("a") as file:
        file.write('{"format": 1, "cell": "learning')
    assert (folder / "sweep.lock").exists()  # nobody holds it
    result = sweep(RATES, **given(tiny, folder))
    assert (result["status"], result["done"]) == ("finished", 4)
    assert keys_of(folder)[:len(done)] == done
    assert keys_of(folder) == [(f"learning_rate={rate}", seed) for rate in (0.001, 0.003) for seed in (0, 1)]
    assert before.items() <= results_of(folder).items()


@pytest.fixture
def trained(monkeypatch):
    """What was trained, as (cell, seed). A run scores by its learning rate, one of 9 epochs is refused, and
    one of 8 is asked to stop in its last step.
    """
    done = []

    def train_cells(cells, told):
        for cell in cells:
            if cell.config.epochs == 9:
                raise InputError("9 epochs are too many")
        for cell in cells:
            task = tasks.get(cell.config.task)
            for config, folder in cell.places():
                if (folder / "result.json").exists():
                    continue
                scores = {"dev": {task.main_metric: min(1.0, 0.5 + 100 * config.learning_rate)}}
                result = {"status": "finished", "seed": config.seed, "task": task.name, "metrics": scores,
                          "main_metric": task.main_metric, "majority_baseline": 0.6, "best": scores,
                          "best_step": 3, "seconds": 1.0, "together": 1}
                folder.mkdir(parents=True)
                (folder / "result.json").write_text(json.dumps(result))
                done.append((cell.folder.name, config.seed))
                told(cell, result)
            (cell.folder / "result.json").write_text(json.dumps(
                {"status": "finished", "seeds": cell.config.seeds}))
        return [{"status": "finished"} for _ in cells], cells[-1].config.epochs == 8
    monkeypatch.setattr(train, "train_cells", train_cells)
    return done


@pytest.mark.pictures
def test_the_best_cell_is_the_one_with_the_best_mean(trained, tmp_path):
    result = sweep({"learning_rate": [1e-3, 3e-3, 2e-3]}, output_dir=tmp_path / "sweep", seeds="1:2")
    assert result["best"] == ["learning_rate=0.003"]
    assert (tmp_path / "sweep" / "figure.png").stat().st_size > 5000
    assert result["table"].splitlines() == [
        "toy_pair, dev accuracy after the last step; failed: no better than the best constant answer, 0.6000", "",
        "| learning_rate | mean ± std      | median | min    | max    | failed | n   |      |",
        "| ------------- | --------------- | ------ | ------ | ------ | ------ | --- | ---- |",
        "| 0.001         | 0.6000 ± 0.0000 | 0.6000 | 0.6000 | 0.6000 | 2      | 2   |      |",
        "| 0.003         | 0.8000 ± 0.0000 | 0.8000 | 0.8000 | 0.8000 | 0      | 2   | best |",
        "| 0.002         | 0.7000 ± 0.0000 | 0.7000 | 0.7000 | 0.7000 | 0      | 2   |      |"]


def test_cells_of_several_tasks_have_a_best_one_each(trained, tmp_path):
    result = sweep({"task": ["toy_sentence", "toy_regression"], **RATES}, output_dir=tmp_path / "sweep")
    assert result["best"] == [f"task={task},learning_rate=0.003" for task in ("toy_sentence", "toy_regression")]
    assert "toy_regression, dev pearson after the last step" in result["table"]


def test_more_values_and_seeds_are_added_and_nothing_else(trained, tmp_path):
    folder = tmp_path / "sweep"
    sweep({"learning_rate": [3e-3]}, output_dir=folder, seeds=(0, 1))
    sweep({"learning_rate": [1e-3, 3e-3]}, output_dir=folder, seeds=(1, 0, 2))
    assert trained == keys_of(folder) == [("learning_rate=0.003", 0), ("learning_rate=0.003", 1),
                                          ("learning_rate=0.001", 1), ("learning_rate=0.001", 0),
                                          ("learning_rate=0.001", 2), ("learning_rate=0.003", 2)]
    before = (folder / "sweep.json").read_text()

    def line(grid=RATES, **other):
        return refused(lambda: sweep(grid, **{"output_dir": folder, "seeds": (0, 1, 2), **other}))
    assert line({"learning_rate": [3e-3]}) == (
        f"--output_dir={folder}: holds another sweep (--grid=learning_rate lacks 0.001); give the same flags, "
        "with more values or seeds if you like, or choose another folder")
    assert "holds another sweep (--seeds lacks 2);" in line(seeds=(0, 1))
    assert "holds another sweep (--batch_size: 32 -> 4);" in line(batch_size=4)
    assert "holds another sweep (--grid over learning_rate -> epochs);" in line({"epochs": [1, 2]})
    assert (folder / "sweep.json").read_text() == before
    sweep(RATES, output_dir=folder, seeds=(0, 1, 2), log_every=3)  # decides nothing
    assert len(trained) == 6


def test_a_folder_that_it_cannot_go_on_with_is_one_line(trained, tmp_path):
    folder = tmp_path / "sweep"

    def line():
        return refused(lambda: sweep(RATES, output_dir=folder))
    sweep(RATES, output_dir=folder)
    rows, about = folder / "results.jsonl", folder / "sweep.json"
    with disk_cache.lock(folder, "sweep"):
        assert line() == (f"--output_dir={folder}: another sweep is at work there; wait, or choose another folder")
    lines = rows.read_text()
    rows.write_text(lines.replace('"format": 1', '"format": 2'))
    assert line() == (f"{rows}, line 1: of format 2, and this version of flaxbert reads and writes 1; choose "
                      "another --output_dir")
    rows.write_text("{}\n" + lines)
    assert line() == f"{rows}, line 1: no row of a sweep; delete the line"
    about.write_text('{"format": 0}')
    assert line().startswith(f"{about}: of format 0, ")
    about.write_text("{")
    assert line().startswith(f"{about}: cannot be read (JSONDecodeError")
    about.unlink()
    assert line() == f"--output_dir={folder}: not empty and not a sweep; choose another folder"
    folder = rows
    assert line() == f"--output_dir={folder}: cannot be written (File exists)"


def test_a_cell_that_cannot_be_trained_does_not_keep_the_others_from_it(trained, tmp_path, capsys):
    """Where there is no result yet it ends at once, and nothing stays."""
    folder = tmp_path / "sweep"
    assert refused(lambda: sweep({"epochs": [9, 1]}, output_dir=folder)) == "9 epochs are too many"
    assert not folder.exists()
    code, out, err = call(capsys, "sweep", "--grid=epochs=1,9,2", f"--output_dir={folder}")
    assert code == 2
    assert "flaxbert: epochs=9.0: 9 epochs are too many\n" in err
    assert err.endswith(f"{folder}: 2 of 3 runs are there; the same command tries the others again\n")
    assert "\nnot trained: epochs=9.0: 9 epochs are too many\n" in out
    assert json.loads((folder / "summary.json").read_text())["status"] == "incomplete"
    assert trained == keys_of(folder) == [("epochs=1.0", 0), ("epochs=2.0", 0)]


def test_asked_to_stop_in_the_last_step_of_a_run_it_begins_no_other(trained, tmp_path):
    given = dict(grid={"epochs": [8, 2]}, output_dir=tmp_path / "sweep")
    result = sweep(**given)
    assert (result["status"], result["done"], trained) == ("interrupted", 1, [("epochs=8.0", 0)])
    assert sweep(**given)["status"] == "finished"
    assert sweep({"epochs": [8]}, output_dir=tmp_path / "alone")["status"] == "finished"  # nothing was left to do


# --- compare

def study(folder, **scores):
    """Runs with these scores by seed."""
    for name, score in scores.items():
        (folder / name).mkdir(parents=True)
        result = {"seed": int(name[1:]), "status": "finished", "task": "rte", "main_metric": "accuracy",
                  "majority_baseline": 0.53, "metrics": {"dev": {"accuracy": score}},
                  "best": {"dev": {"accuracy": 0.9}}}
        (folder / name / "result.json").write_text(json.dumps(result))
    return str(folder)


def test_compare_says_and_draws_which_is_ahead(tmp_path, capsys):
    a, b = study(tmp_path / "a", s1=0.7, s2=0.72, s3=0.5), study(tmp_path / "b", s1=0.6, s2=0.65, s3=0.55)
    code, out, _ = call(capsys, "compare", a, b, f"--output={tmp_path}/figure.png")
    assert code == 0
    assert f"A: {a}\nB: {b}\n" in out
    assert "A is ahead of B by +0.0400" in out
    assert out.endswith(f"picture: {tmp_path}/figure.png\n")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    code, out, _ = call(capsys, "compare", "--checkpoint=best", b, a)
    assert code == 0
    assert "A is ahead of B by +0.0000" in out
    assert "picture" not in out


def test_compare_takes_two_folders_of_runs(tmp_path, capsys):
    a, swept = study(tmp_path / "a", s1=0.7), tmp_path / "swept"
    swept.mkdir()
    (swept / "sweep.json").write_text("{}")
    for arguments, line in (
            ([a], f"flaxbert compare {a}: say A and B"),
            ([a, a, a], f"flaxbert compare {a} {a} {a}: say A and B"),
            ([a, f"{tmp_path}/none"], f"{tmp_path}/none: no runs there (no result.json, nor one in a folder in "
             "it); give the folder that finetune wrote"),
            ([a, str(swept)], f"{swept}: a sweep; give one of its cells, the folders in it"),
            ([a, a, "--output=x.doc"], "--output=x.doc: should end in .png, .pdf, .svg"),
            ([a, a, "--checkpoint=first"], "--checkpoint=first: unknown; valid: last, best")):
        assert call(capsys, "compare", *arguments) == (2, "", f"flaxbert: {line}\n")
    assert "flaxbert compare A B: Compare two recipes" in call(capsys, "compare", "--help")[1]
