"""The loop: what a run writes, when it evaluates and stops, and how it goes on after an interruption."""

import json
import random
import shutil
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small import (
    call,
    command,
    config,
    equal,
    finish,
    flags,
    interrupt,
    losses_of,
    result_of,
    rows_of,
    settings,
    settings_of,
    stop_after,
    wait_for,
)

from flaxbert import prepare, train, trees
from flaxbert.checkpoint import load_params
from flaxbert.config import Config
from flaxbert.errors import InputError, RunFailed
from flaxbert.loop import Loop
from flaxbert.run import Run

STEPS = 8  # of one epoch
ALIKE = dict(packing=False, schedule="constant", warmup=0.0)  # one program, however many steps


def steps_of(run, split):
    return [row["step"] for row in rows_of(run, split)]


def refused(settings: Config) -> str:
    with pytest.raises(InputError) as caught:
        train.finetune(settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """(folder, what finetune returned) of a run of two epochs, uninterrupted."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    result = train.finetune(config(tiny, run, epochs=2.0, evals_per_epoch=2, tensorboard=True, predict_test=True))
    return run, result


# --- what a run writes

def test_result_has_the_fields_of_the_contract(finished):
    run, returned = finished
    result = result_of(run)
    assert returned == {**result, "run": str(run)}
    assert result["status"] == "finished"
    assert set(result["metrics"]) == set(result["best"]) == {"dev", "test"}
    for scores in (result["metrics"], result["best"]):
        assert set(scores["dev"]) == {"loss", "accuracy", "f1"}
        assert all(isinstance(value, float) for value in scores["dev"].values())
    assert result["seconds"] > 0
    assert result["examples_per_second"] > 0
    assert 3 <= result["tokens_per_second"] / result["examples_per_second"] <= 32
    assert 0 < result["padding_share"] < 0.5
    assert result["parameters_trained"] == result["parameters_total"] == trees.count(load_params(run)[0])
    assert (result["devices"], result["seed"]) == (1, 0)


def test_settings_and_circumstances_are_written(finished, tiny):
    about = json.loads((finished[0] / "config.json").read_text())
    assert settings_of(finished[0]) == config(tiny, finished[0], epochs=2.0, evals_per_epoch=2, tensorboard=True,
                                              predict_test=True)
    assert about["versions"]["jax"]
    assert about["devices"].startswith("1 x cpu")
    assert about["task"]["labels"] == ["society", "nature"]
    assert about["steps"] == 2 * STEPS
    assert len(about["row_counts"]) <= 4


def test_metrics_has_one_row_a_step_and_the_final_scores_are_its_last(finished):
    run, _ = finished
    assert steps_of(run, "train") == list(range(1, 2 * STEPS + 1))
    assert steps_of(run, "dev") == [4, 8, 12, 16]
    for row in rows_of(run, "train") + rows_of(run, "dev"):
        assert {"step", "epoch", "split", "seed", "loss", "learning_rate"} <= set(row)
        assert row["epoch"] == row["step"] / STEPS
    last = rows_of(run, "dev")[-1]
    assert result_of(run)["metrics"]["dev"] == {name: last[name] for name in ("loss", "accuracy", "f1")}
    rates = [row["learning_rate"] for row in rows_of(run)]
    assert rates[0] == 0.0  # warm-up begins at zero
    assert max(rates) == pytest.approx(1e-3)


def test_best_is_the_first_evaluation_with_the_highest_main_metric(finished):
    run, _ = finished
    result, rows = result_of(run), rows_of(run, "dev")
    best = max(rows, key=lambda row: row["accuracy"])
    assert result["best_step"] == best["step"]
    assert load_params(run)[1]["step"] == best["step"]
    assert load_params(run, "last")[1]["step"] == 2 * STEPS
    assert result["best"]["dev"] == pytest.approx({name: best[name] for name in result["best"]["dev"]}, rel=1e-6)


def test_a_run_leaves_events_a_picture_and_predictions(finished):
    run, _ = finished
    assert list(run.glob("events.out.tfevents.*"))
    assert (run / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list((run / "predictions").glob("*"))) == 1


def test_the_same_settings_give_the_same_run_bitwise(finished, tiny, tmp_path):
    train.finetune(config(tiny, tmp_path / "again", epochs=2.0, evals_per_epoch=2))
    assert losses_of(tmp_path / "again") == losses_of(finished[0])
    assert equal(load_params(tmp_path / "again", "last")[0], load_params(finished[0], "last")[0])


def test_padding_share_and_examples_count_what_was_trained(finished):
    run, result = finished
    about = json.loads((run / "config.json").read_text())
    [rows] = about["row_counts"]  # one program
    ready = prepare.prepare(settings_of(run), 1)
    seen = np.concatenate([plan.examples for plan in ready.epochs.plans(0, 2 * STEPS)])
    assert len(seen) == 2 * 64
    tokens = ready.epochs.lengths[seen].sum()
    trained = 2 * STEPS * rows * about["row_length"]
    assert result["padding_share"] == pytest.approx(1 - tokens / trained, abs=1e-5)


# --- when a run evaluates and ends

@pytest.mark.parametrize(("given", "trained", "evaluated"), [
    (dict(eval_every=3), range(1, 9), [3, 6, 8]),
    (dict(evals_per_epoch=0, log_every=3), [3, 6, 8], [8]),
    (dict(max_steps=3, epochs=9.0), range(1, 4), [3]),
    (dict(epochs=1.6), range(1, 14), [8, 13])])
def test_steps_that_are_logged_and_evaluations(tiny, tmp_path, given, trained, evaluated):
    train.finetune(config(tiny, tmp_path / "run", **ALIKE, **given, checkpoints=False))
    assert steps_of(tmp_path / "run", "train") == [*trained]
    assert steps_of(tmp_path / "run", "dev") == evaluated
    assert rows_of(tmp_path / "run")[-1]["epoch"] == trained[-1] / STEPS
    assert result_of(tmp_path / "run")["best_step"] in evaluated


def test_early_stopping(tiny, tmp_path, capsys):
    """Without learning no evaluation is better than the first: two more, then the end."""
    result = train.finetune(config(tiny, tmp_path / "run", learning_rate=0.0, eval_every=1, early_stopping=2,
                                   checkpoints=False))
    assert steps_of(tmp_path / "run", "dev") == [1, 2, 3]
    assert (result["status"], result["best_step"]) == ("finished", 1)
    assert "stopping early" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_a_good_checkpoint(tiny, tmp_path):
    run = tmp_path / "run"
    wild = config(tiny, run, learning_rate=1e5, optimizer="sgd", clip_norm=0.0, warmup=0.0, save_every=1)
    with pytest.raises(RunFailed, match=r"loss is (nan|inf) at step \d+; the last good checkpoint is in .*run"):
        train.finetune(wild)
    assert result_of(run)["status"] == "failed"
    assert len(rows_of(run)) < STEPS
    assert all(np.isfinite(leaf).all() for leaf in trees.flatten(load_params(run, "last")[0]).values())


# --- directories

def test_resume_without_a_checkpoint_starts_anew_and_on_a_finished_run_says_so(tiny, tmp_path, capsys,
                                                                               monkeypatch):
    """In a folder that is given relative to the current one."""
    monkeypatch.chdir(tmp_path)
    result = train.finetune(config(tiny, "runs/mine", **ALIKE, resume=True))
    run = tmp_path / "runs" / "mine"
    assert (result["status"], result["run"]) == ("finished", str(run))
    assert load_params("runs/mine")[1]["step"] == STEPS
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    capsys.readouterr()
    monkeypatch.chdir("/")
    assert train.finetune(config(tiny, run, **ALIKE, resume=True)) == result
    assert "already finished" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before


def test_a_run_directory_is_not_overwritten_unless_told(finished, tiny, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    line = refused(config(tiny, run))
    assert "--resume" in line
    assert "--overwrite" in line
    result = train.finetune(config(tiny, run, overwrite=True))
    assert list(losses_of(run)) == list(range(1, STEPS + 1))
    assert result["best_step"] == STEPS
    assert not (run / "predictions").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_something_else_is_never_touched(tiny, tmp_path, overwrite):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "thesis.txt").write_text("three years of work")
    assert "not one of our runs" in refused(config(tiny, tmp_path, overwrite=overwrite))
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_resuming_with_another_configuration_is_refused_with_its_flags(finished, tiny):
    line = refused(config(tiny, finished[0], epochs=2.0, evals_per_epoch=2, resume=True, learning_rate=2e-3,
                          seed=4))
    assert "--learning_rate: 0.001 -> 0.002" in line
    assert "--seed: 0 -> 4" in line
    assert "--batch_size" not in line


@pytest.mark.parametrize(("given", "needed"), [
    (dict(mixout=0.5), "what its weights are held to"),
    (dict(pretrained_decay=0.1), "what its weights are held to"),
    (dict(diagnose_every=2), "where its distances are measured from"),
    (dict(frozen_layers=1), "the states of its frozen layers"), (dict(frozen_layers=1, cache_frozen="false"), ""),
    ({}, "")], ids=str)
def test_a_run_goes_on_with_other_weights_where_its_checkpoints_hold_all(deep, tmp_path, given, needed):
    settings = config(deep, tmp_path / "run", max_steps=4, max_train_examples=16, evals_per_epoch=0, resume=True,
                      **given)
    begun = {"weights": "others"}
    if not needed:
        assert prepare.prepare(settings, 1, begun).pretrained.digest != "others"
        return
    with pytest.raises(InputError) as caught:
        prepare.prepare(settings, 1, begun)
    line = str(caught.value)
    assert f"--model={deep} holds other weights than when this run began, which takes {needed} from" in line
    assert ("--cache_frozen=false" in line) == (needed == "the states of its frozen layers")


def test_a_run_goes_on_from_its_checkpoint_with_the_model_changed_or_put_back(tiny, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if name.endswith("embeddings.LayerNorm.bias"))
    for folder, given in (("held", dict(pretrained_decay=0.1)), ("free", {})):
        given |= dict(max_steps=4, max_train_examples=16, evals_per_epoch=0)
        stop_after(2, config(str(model), tmp_path / folder, **given))
        save_file({**tensors, name: tensors[name] + 1}, model / "model.safetensors")
        again = config(str(model), tmp_path / folder, **given, resume=True)
        if folder == "held":
            assert "what its weights are held to" in refused(again)
            save_file(tensors, model / "model.safetensors")
        assert train.finetune(again)["status"] == "finished"


def test_a_file_in_the_place_of_the_directory_is_refused(tiny, tmp_path):
    (tmp_path / "run").write_text("")
    assert "not one of our runs" in refused(config(tiny, tmp_path / "run"))


def test_overwriting_deletes_nothing_before_all_else_is_right(finished, tiny, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    assert "--optimizer=nosuch" in refused(config(tiny, run, overwrite=True, optimizer="nosuch"))
    assert "nosuch" in refused(config(str(tmp_path / "nosuch"), run, overwrite=True))
    assert (run / "metrics.jsonl").read_text() == (finished[0] / "metrics.jsonl").read_text()
    assert load_params(run)[1]["step"] == result_of(run)["best_step"]


def test_a_refused_run_leaves_no_folder(tiny, tmp_path):
    refused(config(tiny, tmp_path / "run", optimizer="nosuch"))
    assert not (tmp_path / "run").exists()


def test_resuming_needs_a_folder(tiny):
    assert "--output_dir" in refused(config(tiny, "", resume=True))


def test_an_update_that_is_not_finite_is_never_saved(tiny, tmp_path, monkeypatch):
    """The loss of the step is finite, that of dev after it is not."""
    real, run = Run.scores_of, tmp_path / "run"

    def after_step_4(*arguments):
        scores = real(*arguments)
        return {**scores, "loss": float("nan")} if len(rows_of(run, "dev")) == 1 else scores
    monkeypatch.setattr(Run, "scores_of", after_step_4)
    with pytest.raises(RunFailed, match="the dev loss is nan after step 4"):
        train.finetune(config(tiny, run, eval_every=2))
    assert load_params(run, "last")[1]["step"] == load_params(run)[1]["step"] == 2
    assert result_of(run)["status"] == "failed"


def test_a_run_stopped_early_and_killed_before_its_result_trains_no_further(tiny, tmp_path):
    given = dict(early_stopping=1, eval_every=1, learning_rate=0.0)
    train.finetune(config(tiny, tmp_path / "run", **given))
    assert list(losses_of(tmp_path / "run")) == [1, 2]
    want = result_of(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    train.finetune(config(tiny, tmp_path / "run", resume=True, **given))
    assert list(losses_of(tmp_path / "run")) == [1, 2]
    got = result_of(tmp_path / "run")
    assert (got["metrics"], got["best"], got["best_step"]) == (want["metrics"], want["best"], want["best_step"])
    assert got["seconds"] > 0.5 * want["seconds"]


# --- interruptions

@pytest.fixture(scope="module")
def interrupted(tiny, tmp_path_factory):
    """The run `finished`, ended by SIGTERM in step 11, with checkpoints of steps 10 and 11."""
    run = tmp_path_factory.mktemp("runs") / "interrupted"
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt(monkeypatch, 11)
        result = train.finetune(config(tiny, run, epochs=2.0, evals_per_epoch=2, save_every=5))
    assert result["status"] == "interrupted"
    return run


def same_as(run, reference):
    assert losses_of(run) == losses_of(reference)
    assert rows_of(run, "dev") == rows_of(reference, "dev")
    for which in ("best", "last"):
        (params, about), (want, want_about) = load_params(run, which), load_params(reference, which)
        assert about["step"] == want_about["step"]
        assert equal(params, want)
    mine, other = result_of(run), result_of(reference)
    for name in ("status", "metrics", "best", "best_step", "padding_share"):
        assert mine[name] == other[name], name


def test_a_signal_saves_and_ends_cleanly(interrupted):
    assert result_of(interrupted)["status"] == "interrupted"
    assert steps_of(interrupted, "train") == list(range(1, 12))
    assert load_params(interrupted, "last")[1]["step"] == 11


def test_resumed_equals_uninterrupted_with_other_logging_and_saving(finished, interrupted, tiny, tmp_path, capsys):
    run = shutil.copytree(interrupted, tmp_path / "run")
    again = config(tiny, run, epochs=2.0, evals_per_epoch=2, save_every=3, resume=True, output_dir=str(run))
    assert train.finetune(again)["status"] == "finished"
    assert "going on from step 11 of 16" in capsys.readouterr().err
    same_as(run, finished[0])


@pytest.mark.usefixtures("collected")
def test_a_corrupt_newest_checkpoint_falls_back_to_the_same_run(finished, interrupted, tiny, tmp_path, capsys):
    run = shutil.copytree(interrupted, tmp_path / "run")
    for file in (run / "checkpoints" / "last" / "11").rglob("d/*"):
        file.write_bytes(b"not what was written")
    train.finetune(config(tiny, run, epochs=2.0, evals_per_epoch=2, resume=True))
    err = capsys.readouterr().err
    assert "last/11: damaged" in err
    assert "going on from step 10 of 16" in err
    same_as(run, finished[0])


def test_resume_goes_on_with_pmap_and_on_more_devices(finished, interrupted, tiny, tmp_path):
    """Placement may change: the same run to rounding."""
    run = shutil.copytree(interrupted, tmp_path / "run")
    train.finetune(config(tiny, run, epochs=2.0, evals_per_epoch=2, resume=True, parallel="pmap", devices=2))
    mine, want = losses_of(run), losses_of(finished[0])
    assert mine.keys() == want.keys()
    assert max(abs(mine[step] - want[step]) for step in want) < 1e-5
    assert result_of(run)["devices"] == 2


def test_ctrl_c_twice_ends_at_once(tiny, tmp_path, monkeypatch):
    def impatient(self, state, step):
        signal.raise_signal(signal.SIGINT)
        assert self.interrupted
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(Loop, "_train", impatient)
    with pytest.raises(KeyboardInterrupt):
        train.finetune(config(tiny, tmp_path / "run"))


def test_the_best_checkpoint_survives_a_crash_between_saves(tiny, tmp_path, monkeypatch):
    """Evaluations come more often than saves: the best one after a resume is still on disk."""
    run = tmp_path / "run"
    given = dict(epochs=2.0, eval_every=2, save_every=5)
    script = iter([0.5, 0.6, 0.7, 0.8] + [0.1] * 40)  # dev scores of steps 2, 4, 6, 8, and after
    real = Run.scores_of

    def scripted(self, split, outputs, dev):
        scores = real(self, split, outputs, dev)
        return {**scores, "accuracy": next(script)} if split == "dev" else scores
    monkeypatch.setattr(Run, "scores_of", scripted)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 9, OSError("power cut"))
        with pytest.raises(OSError, match="power cut"):
            train.finetune(config(tiny, run, **given))
    train.finetune(config(tiny, run, resume=True, **given))
    best = max(rows_of(run, "dev"), key=lambda row: row["accuracy"])
    assert result_of(run)["best_step"] == best["step"] == load_params(run)[1]["step"]
    assert losses_of(run).keys() == set(range(1, 17))


def test_killed_at_random_steps_a_run_is_bitwise_the_same(tiny, tmp_path, capsys, monkeypatch):
    """SIGTERM in this process, then kill -9 of another, mid-epoch, dropout and shuffling on; few steps a save."""
    long = dict(epochs=2.0, max_train_examples=240, evals_per_epoch=2, save_every=6, packing=False)
    # First: the others find its programs in the cache.
    train.finetune(config(tiny, tmp_path / "whole", **{**long, "save_every": 0}))
    where = random.Random(time.time_ns())
    asked, killed = where.randint(4, 22), where.randint(26, 42)
    run = tmp_path / "run"
    command_line = ["finetune", *flags(settings(tiny, run, **long)), "--resume"]
    with monkeypatch.context() as patch:
        interrupt(patch, asked, signal.SIGTERM)
        code, out, err = call(capsys, *command_line)
    print("stops:", asked, killed)
    assert code == 0, err
    assert result_of(run)["status"] == "interrupted"
    assert len(losses_of(run)) == asked
    assert f"--resume --output_dir={run}" in out
    process = command(*command_line)
    wait_for(run, killed, process)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    train.finetune(config(tiny, run, resume=True, **long))
    assert "going on from step" in capsys.readouterr().err
    assert len(losses_of(run)) == 60
    same_as(run, tmp_path / "whole")
