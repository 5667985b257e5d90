"""Orbax checkpoints of a run: save, resume, reuse.

`checkpoints/last/STEP` holds the whole state (items `params` and `training`), `checkpoints/best/STEP` the
parameters of the best evaluation. Both hold one unreplicated model as plain arrays, whatever
placement trained it. Two of each are kept, so that a damaged one has one before it.

Of a run that leaves its encoder as it was they hold the head alone: what is said of them tells its `backbone`.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from flaxbert import trees
from flaxbert.errors import InputError, note, one_of
from flaxbert.steps import TrainState

WHICH = ("best", "last")


def kept(params: Mapping[str, Any], backbone: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a model's parameters those that a checkpoint holds: not the encoder where a backbone stands for it."""
    return {part: tree for part, tree in params.items() if not (backbone and part == "bert")}


class Checkpoints:
    """The two series of checkpoints of one run. All processes of a pod call every method."""

    def __init__(self, run: Path):
        run = run.resolve()  # Orbax takes absolute paths only
        keep = ocp.training.preservation_policies.LatestN(2)
        self._series = {which: ocp.training.Checkpointer(run / "checkpoints" / which, preservation_policy=keep,
                                                         cleanup_tmp_directories=True) for which in WHICH}
        self._best_on_its_way: Any = None
        self._last_on_its_way: Any = None

    def save(self, state: TrainState, about: dict[str, Any]) -> None:
        """Saves a state at rest (host arrays, its parameters `kept`) in the background; `about` is JSON."""
        if self._best_on_its_way:  # a run must never go on from a step whose best parameters were not yet written
            self._best_on_its_way.result()
        training = {"step": state.step, "opt_state": state.opt_state, "key": state.key}
        self._last_on_its_way = self._save("last", int(state.step), {"params": state.params, "training": training},
                                           about)

    def save_best(self, step: int, params: Any, about: dict[str, Any]) -> None:
        """Saves the parameters (host arrays, `kept`) as the best so far, likewise."""
        self._best_on_its_way = self._save("best", step, {"params": params}, about)

    def _save(self, which: str, step: int, items: dict[str, Any], about: dict[str, Any]) -> Any:
        series = self._series[which]
        if step in {c.step for c in series.checkpoints}:
            return None
        return series.save_checkpointables_async(step, items, force=True, custom_metadata=about)

    def settle(self) -> None:
        """Waits until the state that was saved last is on disk."""
        if self._last_on_its_way:
            self._last_on_its_way.result()

    def restore(self, template: TrainState, at: int | None = None) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest whole state that can be read, and what was saved about it; None where none was saved.

        Args:
          template: a state at rest, of the same structure; gives shapes and types, and the encoder where that was
            left out.
          at: the newest up to this step; None: of all.

        Raises:
          InputError: there are checkpoints, but none can be read, or they are of another model.
        """
        series = self._series["last"]
        training = {"step": template.step, "opt_state": template.opt_state, "key": template.key}

        def params(about: dict[str, Any]) -> dict[str, Any]:
            return kept(template.params, about.get("backbone"))
        found = _readable(series, lambda about: {"params": params(about), "training": training}, at)
        for step, items, about in found:
            problems = trees.mismatches(items["params"], params(about))
            if problems:
                raise InputError(f"{series.directory}/{step}: another model: {'; '.join(problems[:4])}")
            self.forget_after(step)
            return template.replace(params={**template.params, **items["params"]}, **items["training"]), about
        if series.checkpoints and at is None:
            raise InputError(f"--resume: no checkpoint in {series.directory} can be read; nothing was changed; "
                             "--overwrite starts anew")
        return None

    def forget_after(self, step: int) -> None:
        """Deletes what was saved past `step`: the resumed run makes it anew."""
        for series in self._series.values():
            for checkpoint in list(series.checkpoints):
                if checkpoint.step > step:
                    series.delete(checkpoint.step)

    def close(self) -> None:
        """Waits until everything is on disk."""
        for series in self._series.values():
            series.close()


class Memory:
    """In place of `Checkpoints` where nothing is to be kept: the best parameters are, while the run lasts."""

    def __init__(self):
        self._best: Any = None

    def save(self, state: TrainState, about: dict[str, Any]) -> None:
        """Nothing: the run cannot be gone on with."""

    def save_best(self, step: int, params: Any, about: dict[str, Any]) -> None:
        """Holds the parameters: copies, for they may be parts of larger arrays."""
        self._best = jax.tree.map(np.array, params)

    def best(self) -> Any:
        """The parameters that were held last."""
        return self._best

    def settle(self) -> None:
        """Nothing to wait for."""

    def restore(self, template: TrainState, at: int | None = None) -> None:
        """Nothing was kept."""

    def forget_after(self, step: int) -> None:
        """Nothing to delete."""

    def close(self) -> None:
        """Nothing to wait for."""


def _readable(series: ocp.training.Checkpointer,
              want: Callable[[dict[str, Any]], dict[str, Any]],
              at: int | None = None) -> Iterator[tuple[int, Any, dict]]:
    """(step, items, about) from the newest on; one that cannot be read is named and passed over.

    Args:
      series: of checkpoints.
      want: about -> templates of the items.
      at: from this step on; None: from the newest.
    """
    for step in sorted((c.step for c in series.checkpoints if at is None or c.step <= at), reverse=True):
        try:
            about = series.checkpointables_metadata(step).custom_metadata or {}
            items = series.load_checkpointables(step, want(about))
        except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            note(f"{series.directory}/{step}: damaged ({reason[:120]}); falling back to the one before")
            continue
        yield step, items, about


def load_params(run: str | Path, which: str = "best") -> tuple[dict, dict[str, Any]]:
    """Parameters of a run as numpy arrays, `kept`, and what was saved about them; with `checkpoint`, best or last.

    Args:
      run: the run's directory.
      which: best, or last; a run that has no readable best gives its last, and says so.

    Raises:
      InputError: no readable checkpoint.
    """
    run = Path(run).resolve()
    one_of(which, WHICH, "--checkpoint")
    for name in ("best", "last") if which == "best" else ("last",):
        folder = run / "checkpoints" / name
        if not folder.is_dir():
            continue
        with ocp.training.Checkpointer(folder) as series:
            for _, items, about in _readable(series, lambda _: {"params": None}):
                if name != which:
                    note(f"{run}: no readable best checkpoint; taking the last")
                return _as_dict(items["params"]), {**about, "checkpoint": name}
    raise InputError(f"{run}/checkpoints: no readable checkpoint; finish the run with --resume (one of "
                     "--checkpoints=false keeps none)")


def _as_dict(tree: Any) -> dict:
    return trees.unflatten({name: np.asarray(leaf) for name, leaf in trees.flatten(tree).items()})
