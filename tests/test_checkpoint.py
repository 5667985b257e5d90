"""Checkpoints: what is saved comes back bitwise, damage is passed over and told."""

import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from small import TINY, equal

from flaxbert import heads, optimizers, trees
from flaxbert.checkpoint import Checkpoints, kept, load_params
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.steps import TrainState


@pytest.fixture(scope="module")
def first():
    params = trees.to_host(heads.init(heads.SequenceModel(TINY, 2), 0))
    return TrainState.start(params, optimizers.make(Config.make(), 10)[0], 3)


def at(state, step):
    """The state with every number moved by `step`, so that states of different steps differ everywhere."""
    return jax.tree.map(lambda x: np.asarray(x + step, x.dtype), state.replace(step=np.int32(0)))


def save(run, first, steps, best=()):
    checkpoints = Checkpoints(run)
    for step in steps:
        if step in best:
            checkpoints.save_best(step, at(first, step).params, {"step": step, "which": "best"})
        checkpoints.save(at(first, step), {"step": step, "sums": {"examples": 7 * step}})
    checkpoints.close()


def restore(run, template):
    checkpoints = Checkpoints(run)
    try:
        return checkpoints.restore(template)
    finally:
        checkpoints.close()


def damage(folder):
    """Cuts every data file short, as a full disk or a lost block would."""
    files = [f for f in folder.rglob("d/*") if f.is_file()]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:len(file.read_bytes()) // 3])


def same(a, b):
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in
               zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_state_comes_back_bitwise_with_what_was_said_of_it(tmp_path, first):
    save(tmp_path, first, [0, 5])
    state, about = restore(tmp_path, first)
    assert jax.tree.structure(state) == jax.tree.structure(first)
    assert same(state, at(first, 5))
    assert about["sums"] == {"examples": 35}


def test_nothing_there_is_none(tmp_path, first):
    assert restore(tmp_path, first) is None


def test_two_of_each_are_kept(tmp_path, first):
    save(tmp_path, first, [0, 2, 4, 6], best=[2, 4, 6])
    for which in ("last", "best"):
        steps = {int(p.name) for p in (tmp_path / "checkpoints" / which).iterdir() if p.name.isdigit()}
        assert steps == {4, 6}


def test_a_whole_state_is_written_only_after_the_best_of_its_step(tmp_path, first, monkeypatch):
    """Killed between the two, a run would go on from a step whose best parameters are lost."""
    checkpoints, order = Checkpoints(tmp_path), []
    best, last = (checkpoints._series[which].save_checkpointables_async for which in ("best", "last"))

    def save_best(*args, **kwargs):
        response = best(*args, **kwargs)
        return SimpleNamespace(result=lambda: (response.result(), order.append("best is there")))

    def save_last(*args, **kwargs):
        order.append("last")
        return last(*args, **kwargs)
    monkeypatch.setattr(checkpoints._series["best"], "save_checkpointables_async", save_best)
    monkeypatch.setattr(checkpoints._series["last"], "save_checkpointables_async", save_last)
    checkpoints.save_best(2, first.params, {})
    checkpoints.save(at(first, 2), {})
    checkpoints.close()
    assert order == ["best is there", "last"]


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("harm", ["cut", "emptied", "part"])
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(tmp_path, first, capsys, harm):
    save(tmp_path, first, [2, 4], best=[2, 4])
    newest = tmp_path / "checkpoints" / "last" / "4"
    if harm == "cut":
        damage(newest)
    elif harm == "part":
        shutil.rmtree(newest / "training")
    else:
        shutil.rmtree(newest)
        newest.mkdir()
    state, _ = restore(tmp_path, first)
    assert same(state, at(first, 2))
    if harm != "emptied":  # an empty folder is no checkpoint in the first place
        assert "last/4: damaged" in capsys.readouterr().err
    # What came after it is gone, for the resumed run makes it anew.
    assert load_params(tmp_path, "last")[1]["step"] == 2
    assert load_params(tmp_path)[1] == {"step": 2, "which": "best", "checkpoint": "best"}


@pytest.mark.usefixtures("collected")
def test_when_all_are_damaged_nothing_is_thrown_away(tmp_path, first, capsys):
    save(tmp_path, first, [2, 4])
    for step in (2, 4):
        damage(tmp_path / "checkpoints" / "last" / str(step))
    before = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read; .*--overwrite starts anew"):
        restore(tmp_path, first)
    assert capsys.readouterr().err.count(": damaged") == 2
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == before


def test_a_stopped_save_is_no_checkpoint(tmp_path, first):
    """What a killed process leaves behind: a folder that was never committed."""
    save(tmp_path, first, [2, 4])
    (tmp_path / "checkpoints" / "last" / "4" / "commit_success.txt").unlink(missing_ok=True)
    left = tmp_path / "checkpoints" / "last" / "6.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "last" / "2", left)
    state, _ = restore(tmp_path, first)
    assert int(state.step) in (2, 4)
    assert same(state, at(first, int(state.step)))
    assert not left.exists()


def test_another_model_is_refused(tmp_path, first):
    save(tmp_path, first, [2])
    params = trees.to_host(heads.init(heads.SequenceModel(TINY, 5), 0))
    other = TrainState.start(params, optimizers.make(Config.make(), 10)[0], 3)
    with pytest.raises(InputError, match="head"):
        restore(tmp_path, other)


def test_parameters_alone_are_plain_arrays(tmp_path, first):
    save(tmp_path, first, [2, 4], best=[2])
    params, about = load_params(tmp_path)
    assert about["step"] == 2
    assert equal(params, at(first, 2).params)
    assert all(type(leaf) is np.ndarray for leaf in trees.flatten(params).values())
    assert equal(load_params(tmp_path, "last")[0], at(first, 4).params)


@pytest.mark.parametrize("backbone", [None, {"model": "elsewhere", "fingerprint": "0" * 64}])
def test_the_encoder_is_left_out_where_a_backbone_stands_for_it(tmp_path, first, backbone):
    """A state is read by what was said of it, whatever runs save today."""
    checkpoints, moved = Checkpoints(tmp_path), at(first, 3)
    held = moved.replace(params=kept(moved.params, backbone))
    checkpoints.save(held, {"backbone": backbone})
    checkpoints.save_best(0, held.params, {"backbone": backbone})
    checkpoints.close()
    state, _ = restore(tmp_path, first)
    assert equal(state.params["head"], moved.params["head"])
    assert equal(state.params["bert"], (first if backbone else moved).params["bert"])
    assert same(state.opt_state, moved.opt_state)
    for which in ("best", "last"):
        params, about = load_params(tmp_path, which)
        assert ("bert" in params) == (not backbone)
        assert about == {"backbone": backbone, "checkpoint": which}


def test_without_a_best_the_last_is_taken_and_told(tmp_path, first, capsys):
    save(tmp_path, first, [4])
    assert load_params(tmp_path)[1] == {"step": 4, "sums": {"examples": 28}, "checkpoint": "last"}
    assert "no readable best checkpoint; taking the last" in capsys.readouterr().err


def test_no_checkpoint_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no readable checkpoint"):
        load_params(tmp_path)
    with pytest.raises(InputError, match="--checkpoint=newest: unknown; valid: best, last"):
        load_params(tmp_path, "newest")
