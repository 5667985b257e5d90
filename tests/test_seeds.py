"""Many seeds in one program: each is the run that it is alone, whatever becomes of the others."""

import functools
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from small import call, config, equal, interrupt, result_of, rows_of

import flaxbert
from flaxbert import compare, evaluation, parallel, prepare, train, trees
from flaxbert import seeds as seeds_module
from flaxbert.checkpoint import load_params
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.export import export
from flaxbert.prepare import Ready

SEEDS = (3, 1, 4)
STRATEGIES = {"full": dict(), "freeze": dict(frozen_layers=1), "features": dict(strategy="features", layers="1,2"),
              "held": dict(mixout=0.3, pretrained_decay=0.1, reinit_layers=1)}
SHORT = dict(max_steps=20, max_train_examples=64, max_eval_examples=24, batch_size=8, evals_per_epoch=0,
             learning_rate=1e-3, checkpoints=False)


@pytest.fixture(autouse=True)
def one_program(monkeypatch):
    """Of the largest number of rows that any seed needs: compiling is most of the time here."""
    monkeypatch.setattr(prepare, "PROGRAMS", 1)


def losses(folder, seed, split="train", name="loss"):
    return [row[name] for row in rows_of(folder, split) if row["seed"] == seed]


@pytest.fixture(scope="module")
def model(tiny, deep):
    """Strategy -> a model with as few layers as do for it: more take longer to compile."""
    return lambda name: tiny if name in ("full", "held") else deep


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory):
    """Strategy -> folder of the runs of two seeds, each by itself."""
    @functools.cache
    def runs(name):
        folder = tmp_path_factory.mktemp("alone") / name
        train.finetune(config(model(name), folder, **SHORT, **STRATEGIES[name], seeds=SEEDS[::2],
                              seeds_per_program="1"))
        return folder
    return runs


def test_one_at_a_time_they_are_runs_by_themselves(tiny, alone, tmp_path):
    """What the others are held against."""
    train.finetune(config(tiny, tmp_path / "run", **SHORT, seed=SEEDS[0]))
    assert losses(tmp_path / "run", SEEDS[0]) == pytest.approx(losses(alone("full"), SEEDS[0]), rel=0, abs=1e-5)


@pytest.mark.parametrize(("name", "how", "devices", "together"), [
    ("full", "jit", 1, "3"), ("full", "pmap", 4, "3"), ("freeze", "jit", 4, "2"), ("features", "jit", 4, "4"),
    ("held", "jit", 1, "2")])
def test_a_seed_among_others_is_the_run_that_it_is_alone(model, alone, tmp_path, name, how, devices, together):
    """Dropout on: losses of 20 steps within 1e-5; scores of dev too.

    Four together: each device has a run for itself. Two: the last is with a copy that stands still, and on four
    devices each run has two.
    """
    seeds = (*SEEDS, 5) if together == "4" else SEEDS
    result = train.finetune(config(model(name), tmp_path / "run", **SHORT, **STRATEGIES[name], seeds=seeds,
                                   parallel=how, devices=devices, seeds_per_program=together))
    assert (result["status"], result["seeds"]) == ("finished", [*seeds])
    want = alone(name)
    for seed in SEEDS[::2]:
        np.testing.assert_allclose(losses(tmp_path / "run", seed), losses(want, seed), rtol=0, atol=1e-5)
        np.testing.assert_allclose(losses(tmp_path / "run", seed, "dev"), losses(want, seed, "dev"), atol=1e-5)
        own, other = (result_of(folder / f"seed_{seed}") for folder in (tmp_path / "run", want))
        assert own["best_step"] == other["best_step"]
    first, second = (losses(tmp_path / "run", seed) for seed in SEEDS[::2])
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 1e-2


# Two epochs of three steps, each scored.
QUICK = dict(max_steps=6, max_train_examples=24, max_eval_examples=12, batch_size=8, evals_per_epoch=1,
             learning_rate=1e-3)
UNSAVED = dict(checkpoints=False, evals_per_epoch=0)


def test_rates_and_switches_are_numbers_of_one_program(tiny, tmp_path, monkeypatch):
    """Runs of other rates in a group are those that they are alone; each group's programs do for all groups."""
    compiled = []
    real = parallel.JitPlacement.compile_train
    monkeypatch.setattr(parallel.JitPlacement, "compile_train",
                        lambda self, *rest: (compiled.append(1), real(self, *rest))[1])
    told = []
    for size in ("1", "2"):
        cells = []
        for rate, correct in ((1e-3, True), (3e-3, False)):
            folder = tmp_path / size / f"{rate}-{correct}"
            given = {**QUICK, **UNSAVED, "learning_rate": rate, "bias_correction": correct}
            cells.append(train.Cell(folder, config(tiny, folder, **given, seeds=(0, 1), seeds_per_program=size)))
        for cell in cells:
            cell.folder.parent.mkdir(exist_ok=True)
        results, _ = train.train_cells(cells, lambda cell, result: told.append((cell.folder.name, result["seed"])))
        assert [result["dev"]["n"] for result in results] == [2, 2]
    assert len(compiled) == 2 * len(result_programs(tmp_path))
    assert told == [(name, seed) for name in ("0.001-True", "0.003-False") for seed in (0, 1)] * 2
    train.finetune(config(tiny, tmp_path / "alone", **{**QUICK, **UNSAVED, "learning_rate": 3e-3},
                          bias_correction=False, seed=1, devices=1))
    for size in ("1", "2"):
        np.testing.assert_allclose(losses(tmp_path / size / "0.003-False", 1), losses(tmp_path / "alone", 1),
                                   atol=1e-5)


def result_programs(folder):
    """The row counts of the programs of a cell's runs."""
    return json.loads((folder / "1" / "0.001-True" / "config.json").read_text())["row_counts"]


@pytest.fixture(scope="module")
def full(tiny, tmp_path_factory):
    """A folder of two seeds, each of which trained by itself."""
    folder = tmp_path_factory.mktemp("seeds") / "full"
    train.finetune(config(tiny, folder, **QUICK, seeds=(0, 1)))
    return folder


def test_a_seed_whose_loss_is_not_finite_stands_still_and_harms_nobody(tiny, full, tmp_path, capsys, monkeypatch):
    """The second one's parameters are none before the first step."""
    real = Ready.start

    def broken(self):
        state = real(self)
        if self.config.seed == 1:
            bias = state.params["head"]["bias"]
            state = state.replace(params=trees.merge(state.params, {"head": {"bias": bias * np.nan}}))
        return state
    monkeypatch.setattr(Ready, "start", broken)
    run = tmp_path / "run"
    result = train.finetune(config(tiny, run, **QUICK, seeds=(0, 1), seeds_per_program="2"))
    assert (result["status"], result["seeds"]) == ("finished", [0, 1])
    assert 1 in result["failed"]  # the other has learnt too little to be sure of
    assert "seed_1: the loss is nan at step 1; it stands still, the others go on" in capsys.readouterr().err
    assert result_of(run / "seed_1")["status"] == "failed"
    assert losses(run, 1) == []
    np.testing.assert_allclose(losses(run, 0), losses(full, 0), atol=1e-5)


@pytest.mark.parametrize("together", ["1", "2"])
def test_interrupted_anywhere_many_seeds_go_on_to_the_same_end(tiny, full, tmp_path, monkeypatch, together):
    given = dict(**QUICK, seeds=(0, 1), seeds_per_program=together, save_every=3)
    whole = full if together == "1" else tmp_path / "whole"  # one at a time, as `full` is
    if whole != full:
        train.finetune(config(tiny, whole, **given))
    with monkeypatch.context() as patch:
        interrupt(patch, 8, OSError("power cut"))  # one by one: in the second; together: in the fourth step
        with pytest.raises(OSError, match="power cut"):
            train.finetune(config(tiny, tmp_path / "cut", **given))
    again = train.finetune(config(tiny, tmp_path / "cut", **given, resume=True))
    assert again["status"] == "finished"
    for seed in range(2):
        assert losses(tmp_path / "cut", seed) == losses(whole, seed)
        a, b = (load_params(folder / f"seed_{seed}", "last")[0] for folder in (tmp_path / "cut", whole))
        assert equal(a, b)
    assert train.finetune(config(tiny, tmp_path / "cut", **given, resume=True))["dev"] == again["dev"]


@pytest.mark.parametrize(("given", "line"), [
    (dict(seeds="1,1:3"), "--seeds: 1 more than once"), (dict(seeds="5:1"), "--seeds: 5:1 is empty; write 1:5"),
    (dict(seeds="-1"), "--seeds: -1 is out of range; valid: 0 to 2147483647"),
    (dict(seeds="1,2147483648"), "--seeds: 2147483648 is out of range; valid: 0 to 2147483647"),
    (dict(seeds="0:2147483647"), "--seeds: more than 10000; give fewer"),
    (dict(seeds=[]), "--seeds: none given; write 1:25, both included, or 1,2,5"),
    (dict(seeds="1:2", seeds_per_program="0"), "--seeds_per_program=0: should be auto, or a number from 1 on"),
    (dict(seeds="a"), "--seeds='a': should be whole numbers, 1:25 (both included) or 1,2,5")])
def test_bad_lists_of_seeds_are_one_line(given, line):
    with pytest.raises(InputError) as caught:
        Config.make(**given)
    assert str(caught.value) == line


@pytest.mark.parametrize(("arguments", "line"), [
    (["--seeds="], "--seeds: none given; write 1:25, both included, or 1,2,5"),
    (["--seeds=1,1"], "--seeds: 1 more than once"),
    (["--seeds_per_program=2"], "--seeds_per_program=2: only with --seeds")])
def test_bad_seeds_on_the_command_line_are_one_line(capsys, tmp_path, arguments, line):
    assert call(capsys, "finetune", *arguments, f"--output_dir={tmp_path}/run") == (2, "", f"flaxbert: {line}\n")
    assert not (tmp_path / "run").exists()


def test_what_stays_as_it_was_is_there_once_for_all_seeds(deep, tmp_path):
    """No frozen leaf has an axis of runs."""
    given = config(deep, tmp_path / "run", **SHORT, frozen_layers=1, seeds=SEEDS, cache_frozen="false")
    parallel.start(given)
    ready = prepare.prepare(given, 1)
    [group] = seeds_module.groups(ready, [given.of_seed(seed) for seed in SEEDS], "3")
    state, common = group.put([run.start() for run in group.runs], [True] * 3)
    before, now = (trees.flatten(tree) for tree in (ready.parted(ready.start())[1].frozen, common.fixed.frozen))
    assert before
    assert {name: leaf.shape for name, leaf in now.items()} == {name: leaf.shape for name, leaf in before.items()}
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(state.params))


def no_memory(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory while trying to allocate 99999999 bytes.")


@pytest.mark.parametrize(("together", "advice"), [
    ("2", ", 2 seeds at a time: try a --seeds_per_program below 2, a larger --micro_batches"),
    ("1", ": try a larger --micro_batches")])
def test_no_memory_for_the_seeds_is_one_line(tiny, tmp_path, monkeypatch, together, advice):
    """Then fewer at a time go on where they were to begin."""
    given = {**QUICK, **UNSAVED, "max_steps": 1, "seeds": (0, 1), "seeds_per_program": together}
    with monkeypatch.context() as patch:
        patch.setattr(seeds_module.Group, "compile", no_memory)
        with pytest.raises(InputError) as caught:
            train.finetune(config(tiny, tmp_path / "run", **given))
    assert str(caught.value).startswith(f"out of device memory with --batch_size=8 and --max_length=32{advice}")
    if together == "2":
        result = train.finetune(config(tiny, tmp_path / "run", **{**given, "seeds_per_program": "1"}, resume=True))
        assert result["status"] == "finished"


@pytest.mark.parametrize(("limit", "count"), [(1000, 1), (10_000, 1), (20_000, 2), (41_000, 5)])
def test_as_many_seeds_train_at_a_time_as_memory_holds(limit, count):
    """Of 0.8 of it, what is shared is taken once, and 6,000 bytes for each seed."""
    plan = SimpleNamespace(argument_size_in_bytes=5000, output_size_in_bytes=4000, temp_size_in_bytes=3000,
                           alias_size_in_bytes=4000)
    assert seeds_module.held(limit, 2000, plan) == count


def test_seeds_are_told_in_three_ways():
    assert Config.make(seeds="1:3,7").seeds == Config.make(seeds=[1, 2, 3, 7]).seeds == (1, 2, 3, 7)
    assert Config.make(seeds=range(2)).seeds == (0, 1)


def test_each_source_of_chance_has_a_seed_of_its_own(tiny):
    """Each changes one thing that a run begins with; where all three are the same, --seed changes none."""
    def begun(**given):
        ready = prepare.prepare(config(tiny, "", **{**QUICK, "seed": 5, **given}), 1)
        plans = np.concatenate([plan.examples for plan in ready.epochs.plans(0, 6)])
        return {"init": ready.params, "order": {"plans": plans}, "dropout": {"key": ready.start().key},
                "data": {"tokens": ready.encoded["train"].tokens}}

    def differ(**given):
        found = begun(**given)
        return {name for name, tree in found.items() if not equal(tree, first[name])}
    first = begun()
    assert differ(seed=9, init_seed=5, order_seed=5, dropout_seed=5) == set()
    for name in ("init", "order", "dropout"):
        assert differ(**{f"{name}_seed": 6}) == {name}


def test_without_checkpoints_the_scores_are_the_same_and_nothing_else_stays(tiny, tmp_path):
    given = dict(**QUICK, seeds=(0, 1), eval_every=2)
    with_them = train.finetune(config(tiny, tmp_path / "with", **given))
    without = train.finetune(config(tiny, tmp_path / "without", **given, checkpoints=False))
    assert without["dev"] == with_them["dev"]
    assert without["best_seed"] == with_them["best_seed"]
    for seed in (0, 1):
        a, b = (result_of(tmp_path / name / f"seed_{seed}") for name in ("with", "without"))
        assert (a["best"], a["metrics"]) == (b["best"], b["metrics"])
    assert not list((tmp_path / "without").rglob("checkpoints"))


# --- using them

TEXTS = ["A good film.", "The train to Lisbon was late.", "Nobody liked the bread."]


@pytest.fixture(scope="module")
def seeds(request, tiny, full, tmp_path_factory):
    """A folder of two seeds, whose encoders train; `BOTH`: or are one."""
    if getattr(request, "param", "full") == "full":
        return full
    folder = tmp_path_factory.mktemp("seeds") / "head"
    train.finetune(config(tiny, folder, **QUICK, strategy="head", seeds=(0, 1)))
    return folder


BOTH = pytest.mark.parametrize("seeds", ["full", "head"], indirect=True)


@BOTH
def test_one_seed_the_best_or_all_together_are_loaded(seeds):
    each = [flaxbert.load(seeds / f"seed_{n}")(TEXTS) for n in (0, 1)]
    best = result_of(seeds)["best_seed"]
    assert flaxbert.load(seeds)(TEXTS) == each[best]
    assert flaxbert.load(seeds, seed=0)(TEXTS) == each[0]
    together = flaxbert.load(seeds, seed="ensemble")(TEXTS)
    for n, answer in enumerate(together):
        for label, probability in answer["probabilities"].items():
            mean = np.mean([one[n]["probabilities"][label] for one in each])
            assert probability == pytest.approx(mean, abs=1e-5)
    assert each[0] != each[1]


@BOTH
def test_an_ensemble_is_compiled_once(seeds, monkeypatch):
    made, compile_eval = [], parallel.JitPlacement.compile_eval
    monkeypatch.setattr(parallel.JitPlacement, "compile_eval",
                        lambda self, *rest: (made.append(1), compile_eval(self, *rest))[1])
    flaxbert.load(seeds, seed="ensemble")(TEXTS)
    assert len(made) == 1


@BOTH
def test_evaluate_and_export_take_them_too(seeds, tmp_path):
    best = result_of(seeds)["best_seed"]
    scores = evaluation.evaluate(str(seeds))
    want = evaluation.evaluate(str(seeds / f"seed_{best}"))
    assert scores == {**want, "run": str(seeds), "seeds": [best]}
    other = evaluation.evaluate(str(seeds), seed=str(1 - best))
    assert other["loss"] == pytest.approx(evaluation.evaluate(str(seeds / f"seed_{1 - best}"))["loss"])
    ensemble = evaluation.evaluate(str(seeds), seed="ensemble")
    assert ensemble["loss"] < max(scores["loss"], other["loss"]) + 1e-6
    assert (other["seeds"], ensemble["seeds"]) == ([1 - best], [0, 1])
    export(seeds, tmp_path / "export")
    answers = flaxbert.load(tmp_path / "export")(TEXTS), flaxbert.load(seeds)(TEXTS)
    for got, wanted in zip(*answers, strict=True):
        assert got["label"] == wanted["label"]


def test_models_are_compared_over_the_examples_of_dev(seeds, capsys):
    code, out, _ = call(capsys, "compare", str(seeds), str(seeds), "--examples=0")
    assert code == 0
    assert "expected best of k seeds, A and B: k = 1: " in out
    assert ("over the 12 examples of dev (0 of each), A is ahead by +0.0000 (95 %: +0.0000 to +0.0000); A alone "
            "is right on 0, B alone on 0, p = 1.000 (McNemar)\n") in out
    outputs, labels = evaluation.dev_outputs(str(seeds), "last", "1")
    found = compare.over_dev(seeds, seeds, "last", "ensemble")
    assert (found["examples"], found["seed"]) == (len(labels), "ensemble") == (12, "ensemble")
    accuracy = result_of(seeds / "seed_1")["metrics"]["dev"]["accuracy"]
    assert np.mean(outputs.argmax(-1) == labels) == pytest.approx(accuracy)


def test_seeds_that_are_not_all_there_are_told(seeds, tmp_path):
    """Three were to be trained: what judges all of them, or chooses the best, waits for the last one."""
    half = tmp_path / "half"
    shutil.copytree(seeds, half)
    about = json.loads((half / "config.json").read_text())
    about["settings"]["seeds"] = [0, 1, 2]
    (half / "config.json").write_text(json.dumps(about))
    for use, line in ((lambda: compare.compare(half, half), f"{half}: seed 2 has not been trained yet (1 of 3 are "
                       "lacking); go on by --resume"),
                      (lambda: flaxbert.load(half), f"{half}: its seeds are not all finished; --seed=NUMBER takes "
                       "one of 0, 1, or go on with --resume")):
        with pytest.raises(InputError) as caught:
            use()
        assert str(caught.value) == line


def test_a_run_of_another_version_is_told(seeds, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(seeds, other)
    about = json.loads((other / "config.json").read_text())
    about["settings"]["colour"], about["versions"]["flaxbert"] = "red", "9.9"
    (other / "config.json").write_text(json.dumps(about))
    with pytest.raises(InputError) as caught:
        flaxbert.load(other)
    assert str(caught.value) == (f"{other}/config.json: written by flaxbert 9.9, which this one, "
                                 f"{flaxbert.__version__}, cannot read (--colour: no such setting); read it with "
                                 "that version, or train anew")


def test_a_seed_that_is_not_there_is_one_line(seeds, tmp_path):
    for given, line in (("7", f"--seed=7: {seeds} has no such finished run; valid: best, ensemble, 0, 1"),
                        ("all", f"--seed=all: {seeds} has no such finished run; valid: best, ensemble, 0, 1")):
        with pytest.raises(InputError) as caught:
            flaxbert.load(seeds, seed=given)
        assert str(caught.value) == line
    with pytest.raises(InputError, match="does not hold the runs of many seeds; leave it out"):
        flaxbert.load(seeds / "seed_0", seed=1)


@pytest.mark.pictures
def test_diagnostics_are_logged_of_every_seed_as_if_it_were_alone(tiny, tmp_path):
    given = {**QUICK, **UNSAVED, "diagnose_every": 2}
    train.finetune(config(tiny, tmp_path / "both", **given, seeds=(0, 1), seeds_per_program="2"))
    train.finetune(config(tiny, tmp_path / "alone", **given, seed=1, devices=1))
    rows = [row for row in rows_of(tmp_path / "both", "diagnostics") if row["seed"] == 1]
    wanted = rows_of(tmp_path / "alone", "diagnostics")
    assert [row["step"] for row in rows] == [row["step"] for row in wanted] == [2, 4, 6]
    for got, want in zip(rows, wanted, strict=True):
        assert got.keys() == want.keys() >= {"grad_norm/layer_0", "distance/head", "saturation", "entropy_ratio"}
        for name, value in want.items():
            assert name == "split" or got[name] == pytest.approx(value, rel=5e-3, abs=1e-5), name
    assert losses(tmp_path / "both", 1) == pytest.approx(losses(tmp_path / "alone", 1), abs=1e-5)
    for name in ("seeds", "failures"):
        assert (tmp_path / "both" / f"{name}.png").stat().st_size > 5000


def test_runs_that_are_done_do_not_hold_up_the_others(tiny, tmp_path, monkeypatch):
    """Three cells of two seeds, three at a time: interrupted in the second group, whose cells are partly done."""
    given = {**QUICK, "evals_per_epoch": 0, "max_steps": 4, "save_every": 2, "seeds": (0, 1),
             "seeds_per_program": "3"}

    def cells(**more):
        folders = {rate: tmp_path / str(rate) for rate in (1e-3, 2e-3, 3e-3)}
        return [train.Cell(folder, config(tiny, folder, **{**given, "learning_rate": rate, **more}))
                for rate, folder in folders.items()]
    with monkeypatch.context() as patch:
        interrupt(patch, 3 * 4 + 3 * 2)
        results, stopped = train.train_cells(cells())
        assert ([result["status"] for result in results], stopped) == (["finished"] + ["interrupted"] * 2, True)
    done = (tmp_path / "0.002" / "seed_0" / "result.json").read_text()
    results, stopped = train.train_cells(cells(resume=True))
    assert not stopped
    assert [(result["status"], result["seeds"]) for result in results] == [("finished", [0, 1])] * 3
    assert (tmp_path / "0.002" / "seed_0" / "result.json").read_text() == done
    for rate in (1e-3, 2e-3, 3e-3):
        for seed in (0, 1):
            rows = [row["step"] for row in rows_of(tmp_path / str(rate)) if row["seed"] == seed]
            assert rows == [1, 2, 3, 4]


def test_more_seeds_join_a_folder_that_is_done_or_half_done(tiny, tmp_path, monkeypatch):
    """Groups of two: killed in the second, gone on with one seed more; what was done stays as it was."""
    given = dict(**QUICK, seeds_per_program="2", save_every=3)
    with monkeypatch.context() as patch:
        interrupt(patch, 2 * 6 + 2 * 4, OSError("power cut"))
        with pytest.raises(OSError, match="power cut"):
            train.finetune(config(tiny, tmp_path / "run", **given, seeds=(0, 1, 2, 3)))
    done = (tmp_path / "run" / "seed_1" / "result.json").read_text()
    result = train.finetune(config(tiny, tmp_path / "run", **given, seeds=(0, 1, 2, 3, 4), resume=True))
    assert (result["status"], result["seeds"]) == ("finished", [0, 1, 2, 3, 4])
    assert (tmp_path / "run" / "seed_1" / "result.json").read_text() == done
    for seed in range(5):
        steps = [row["step"] for row in rows_of(tmp_path / "run") if row["seed"] == seed]
        assert steps == list(range(1, 7))


@pytest.mark.parametrize(("count", "most", "size"), [(25, 7, 7), (25, 13, 13), (25, 100, 25), (7, 3, 3), (4, 3, 2),
                                                     (1, 9, 1), (6, 1, 1)])
def test_groups_are_as_few_and_as_even_as_can_be(count, most, size):
    assert seeds_module.balanced(count, most) == size


def test_whole_devices_are_filled_where_memory_allows_it():
    assert seeds_module.balanced(25, 100, Config.make(devices=4)) == 28
    assert seeds_module.balanced(25, 25, Config.make(devices=4)) == 25
    assert seeds_module.balanced(25, 100, Config.make(devices=4, parallel="pmap")) == 25
