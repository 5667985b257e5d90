"""Placement: the same run on one device, on several, under jit and pmap, and over two processes."""

import json
import shutil
import signal
import socket

import jax
import numpy as np
import pytest
from small import (
    TINY,
    config,
    equal,
    finish,
    flags,
    losses_of,
    python,
    result_of,
    rows_of,
    settings,
    wait_for,
)

from flaxbert import disk_cache, evaluation, heads, parallel, train
from flaxbert.checkpoint import load_params
from flaxbert.config import Config
from flaxbert.errors import InputError

STEPS = 30
RUN = dict(max_steps=STEPS, evals_per_epoch=0, save_every=20, learning_rate=5e-4)
TOLERANCE = 1e-5


def apart(run, reference):
    """The largest difference of a training loss between two runs; dropout is on in both."""
    mine, want = losses_of(run), losses_of(reference)
    assert list(mine) == list(want) == list(range(1, STEPS + 1))
    return max(abs(mine[step] - want[step]) for step in want)


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """The run on one device."""
    run = tmp_path_factory.mktemp("alone") / "run"
    train.finetune(config(tiny, run, **RUN))
    losses = losses_of(run)
    assert max(losses.values()) - min(losses.values()) > 0.01  # batches differ: equal losses mean something
    return run


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_four_devices_equal_one(alone, tiny, tmp_path, how, record_property):
    result = train.finetune(config(tiny, tmp_path / "run", parallel=how, devices=4, **RUN, checkpoints=False))
    assert result["devices"] == 4
    worst = apart(tmp_path / "run", alone)
    record_property("worst", float(worst))
    print(f"4 devices, {how}: {worst:.1e}")
    assert worst < TOLERANCE
    assert result["metrics"]["dev"] == pytest.approx(result_of(alone)["metrics"]["dev"], abs=1e-4)


@pytest.mark.parametrize(("given", "how"), [
    (dict(task="toy_span", max_length=48, doc_stride=16), "jit"),
    (dict(task="toy_token", layers="scalar_mix", mix_layer_norm=True, head="bilstm", head_layers=1, head_width=8,
          crf=True), "pmap")],
    ids=["span", "token"])
def test_four_devices_equal_one_of_spans_and_tokens(tiny, tmp_path, given, how):
    given = {**given, "max_steps": 4, "evals_per_epoch": 0, "max_eval_examples": 8, "checkpoints": False,
             "packing": False}  # one program
    train.finetune(config(tiny, tmp_path / "one", **given))
    train.finetune(config(tiny, tmp_path / "four", parallel=how, devices=4, **given))
    one, four = losses_of(tmp_path / "one"), losses_of(tmp_path / "four")
    assert max(abs(one[step] - four[step]) for step in range(1, 5)) < TOLERANCE
    got, want = (result_of(tmp_path / name)["metrics"]["dev"] for name in ("four", "one"))
    assert got == pytest.approx(want, abs=1e-4)


PRETRAIN = dict(task="pretrain", next_sentence=True, schedule="constant", warmup=0.0, max_steps=4000,
                evals_per_epoch=0)
FROZEN = dict(frozen_layers=1, max_steps=6, evals_per_epoch=0, max_train_examples=24)
ONE_AFTER_THE_OTHER = """
import json, sys
from flaxbert import cli
for arguments in json.loads(sys.argv[1]):
    cli.main(["finetune", *arguments, *sys.argv[2:]])
"""


@pytest.fixture(scope="module")
def pod(tiny, text, tmp_path_factory):
    """A folder of runs of two processes with two devices each, that find each other over loopback.

    Starting takes longer than a run, so the same two processes do all four: by jit, by pmap, with a frozen layer
    computed once, and one that pre-trains until process 1 gets Ctrl-C, handed on as the SIGTERM that a preempted
    machine gets.
    """
    folder = tmp_path_factory.mktemp("pod")
    runs = [settings(tiny, folder / how, **{**RUN, "parallel": how, "devices": 0}) for how in ("jit", "pmap")]
    runs.append(settings(tiny, folder / "frozen", **{**FROZEN, "devices": 0}))
    runs.append(settings(tiny, folder / "stopped", **{**PRETRAIN, "train_file": text, "devices": 0}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [python("-c", ONE_AFTER_THE_OTHER, json.dumps([flags(each) for each in runs]), "--distributed",
                        f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}",
                        devices=2) for i in range(2)]
    wait_for(folder / "stopped", 3, processes[0])
    processes[1].send_signal(signal.SIGINT)
    for code, _, err in [finish(process) for process in processes]:
        assert code == 0, err[-3000:]
    return folder


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_two_processes_equal_one_and_the_run_belongs_to_everybody(pod, how, alone, tiny, tmp_path,
                                                                  record_property):
    pod = pod / how
    worst = apart(pod, alone)
    record_property("worst", float(worst))
    print(f"2 processes x 2 devices, {how}: {worst:.1e}")
    assert worst < TOLERANCE
    result = result_of(pod)
    assert (result["devices"], result["status"]) == (4, "finished")
    # One process loads it ...
    scores = evaluation.evaluate(str(pod))
    assert {name: scores[name] for name in ("loss", "accuracy")} == pytest.approx(
        {name: result["best"]["dev"][name] for name in ("loss", "accuracy")}, abs=1e-5)
    # ... and goes on with it from step 20 on one device, as if it had been killed after that.
    run = shutil.copytree(pod, tmp_path / "run")
    (run / "result.json").unlink()
    shutil.rmtree(run / "checkpoints" / "last" / str(STEPS))
    train.finetune(config(tiny, run, resume=True, **RUN))
    assert len(rows_of(run)) == STEPS
    assert apart(run, alone) < TOLERANCE
    assert result_of(run)["devices"] == 1


def test_one_process_of_a_pod_is_told_to_stop_and_all_save_and_stop(pod, text, tiny, tmp_path):
    """Until then the pod pre-trains as one."""
    run = pod / "stopped"
    assert result_of(run)["status"] == "interrupted"
    saved = load_params(run, "last")[1]["step"]
    assert 3 <= saved == max(losses_of(run)) < 4000
    train.finetune(config(tiny, tmp_path / "alone", **{**PRETRAIN, "train_file": text, "max_steps": 3},
                          checkpoints=False))
    together = losses_of(run)
    assert all(abs(loss - together[step]) < TOLERANCE for step, loss in losses_of(tmp_path / "alone").items())


def test_a_pod_computes_frozen_layers_once(pod, tiny, tmp_path):
    kept = disk_cache.entries(pod / "frozen.activations")
    assert sorted(entry.about["split"] for entry in kept) == ["dev", "test", "train"]
    train.finetune(config(tiny, tmp_path / "alone", **{**FROZEN, "cache_frozen": "false", "checkpoints": False}))
    together = losses_of(pod / "frozen")
    assert all(abs(loss - together[step]) < TOLERANCE for step, loss in losses_of(tmp_path / "alone").items())


# --- placements

@pytest.fixture(params=["jit", "pmap"])
def placement(request):
    return parallel.make(Config.make(parallel=request.param, devices=4))


def test_a_tree_comes_back_bitwise_as_arrays_that_can_be_saved(placement):
    tree = {"scalar": np.int32(7), "a": np.ones((2, 3), np.float32), "key": np.arange(2, dtype=np.uint32)}
    back = placement.get(placement.put(tree))
    assert equal(back, tree)
    assert all(type(leaf) is np.ndarray for leaf in back.values())  # a numpy scalar is none: Orbax refuses it
    assert all(back[name].dtype == np.asarray(leaf).dtype for name, leaf in tree.items())


def test_every_row_goes_to_one_device(placement):
    local = placement.local_rows(8)
    np.testing.assert_array_equal(local, np.arange(8))
    batch = placement.put_batch({"row": local, "tokens": np.arange(16).reshape(8, 2)}, 8)
    shards = [np.asarray(shard.data).ravel().tolist() for shard in batch["row"].addressable_shards]
    assert sorted(shards) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_state_is_donated_and_what_was_read_of_it_stays(placement):
    step = jax.tree_util.Partial(lambda state, batch: (jax.tree.map(lambda x: x + 1, state), batch["row"].sum()))
    state = placement.put({"a": np.zeros((3, 3), np.float32)})
    before = placement.get(state)
    batch = placement.put_batch({"row": np.arange(8, dtype=np.int32)}, 8)
    after, _ = placement.compile_train(step, state, batch)(state, batch)
    assert state["a"].is_deleted()
    assert not before["a"].any()
    assert (placement.get(after)["a"] == 1).all()


@pytest.mark.parametrize(("given", "text"), [(dict(devices=5), "--devices=5: there are 4"),
                                             (dict(parallel="jit", devices=99), "--devices=99: there are 4")])
def test_more_devices_than_there_are_is_one_line(given, text):
    with pytest.raises(InputError) as caught:
        parallel.make(Config.make(**given))
    assert str(caught.value) == text


def test_auto_arithmetic_is_float32_on_the_cpu():
    assert parallel.compute_dtype("auto") == jax.numpy.float32
    assert parallel.compute_dtype("bfloat16") == jax.numpy.bfloat16


def test_parameters_are_float32_whatever_the_arithmetic():
    model = heads.SequenceModel(TINY, 2, jax.numpy.bfloat16)
    params = heads.shapes(model)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


def test_one_process_agrees_with_itself():
    def wrong():
        raise InputError("--flag: no")
    assert parallel.agree(lambda: "said") == "said"
    with pytest.raises(InputError, match="--flag: no"):
        parallel.agree(wrong)
    assert parallel.stop_requested(True, 3)
    assert not parallel.stop_requested(False, 3)
    assert parallel.is_main()
