"""Runs that differ in seeds and rates alone, trained by one program: their arrays side by side on a leading axis.

What no step changes (`steps.Fixed`) is there once where it is the same for all. A run whose loss is not finite
stands still from then on, and the others never know.

Letters: S runs, R rows of each one's batch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxbert import parallel, trees
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.inference import Inference
from flaxbert.packing import Plan, smallest
from flaxbert.parallel import Placement
from flaxbert.prepare import Ready
from flaxbert.steps import Fixed, TrainState

MEMORY_USED = 0.8  # of a device's, by the runs together
VARIED = ("learning_rate", "weight_decay", "bias_correction", "epsilon_before_correction")  # may differ in a group


class States(struct.PyTreeNode):
    """The states of the runs of a group, each with an axis of runs but for the step.

    Attributes:
      step, params, opt_state, key: as of `TrainState`.
      going: [S] bool; False: the run stands still.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    key: jax.Array
    going: jax.Array


class Common(struct.PyTreeNode):
    """What the runs of a group read and never change.

    Attributes:
      fixed: leaves with an axis of runs where theirs differ.
      varied: setting -> [S], of the settings in which they differ.
    """

    fixed: Fixed
    varied: dict[str, jax.Array]


BY_RUN = States(step=False, params=True, opt_state=True, key=True, going=True)


class Group:
    """Runs as one program. One that is alone has no axis of runs.

    Where a placement takes more runs than there are, copies of the last one stand still beside them.

    Args:
      runs: made by `Ready.siblings`.
      placement: for so many runs or more, or for one alone.
      varied: settings of `VARIED` that come to the step as numbers.
      like: an earlier group of the same kind, whose programs do for this one.
    """

    def __init__(self, runs: Sequence[Ready], placement: Placement, varied: Sequence[str] = (),
                 like: "Group | None" = None):
        self.runs, self.placement = tuple(runs), placement
        self.alone = not placement.runs
        self._all = (*runs, *[runs[-1]] * (max(placement.runs, 1) - len(runs)))
        self._varied = tuple(varied)
        self._programs: dict[tuple, jax.stages.Compiled] = like._programs if like else {}
        self.inference = like.inference if like else self._inference()

    @property
    def size(self) -> int:
        """How many runs its programs take."""
        return len(self._all)

    def only(self, numbers: Sequence[int]) -> "Group":
        """These of its runs, in the same programs."""
        return Group([self.runs[n] for n in numbers], self.placement, self._varied, self)

    # --- to the devices

    def put(self, states: Sequence[TrainState], going: Sequence[bool]) -> tuple[Any, "Common"]:
        """The runs' states at rest as what the step takes, (state, common), on the devices.

        Raises:
          InputError: each has frozen leaves of its own.
        """
        put = self.placement.put
        parts = [run.parted(state) for run, state in zip(self.runs, states, strict=True)]
        varied = {name: np.array([getattr(run.config, name) for run in self._all]) for name in self._varied}
        if self.alone:
            [(state, fixed)] = parts
            return put(state), Common(put(fixed), put({name: values[0] for name, values in varied.items()}))
        changing, fixed = zip(*self._filled(parts), strict=True)
        self._differing = _differ(fixed)
        if any(jax.tree.leaves(self._differing.frozen)):
            raise InputError("--seeds_per_program: with --random_init each run has frozen layers of its own; give "
                             "1, or --init_seed")
        common = jax.tree.map(lambda yes, *leaves: np.stack(leaves) if yes else leaves[0], self._differing, *fixed)
        together = _stack(changing)
        state = States(changing[0].step, together.params, together.opt_state, together.key, self._flags(going))
        return put(state, BY_RUN), Common(put(common, self._differing), put(varied, True))

    def _filled(self, each: Sequence[Any]) -> list[Any]:
        """As many as the placement takes, the last one again and again."""
        return [*each, *[each[-1]] * (len(self._all) - len(each))]

    def _flags(self, going: Sequence[bool]) -> np.ndarray:
        return np.array([*going, *[False] * (len(self._all) - len(going))])

    def stop(self, state: Any, going: Sequence[bool]) -> Any:
        """The state with only these runs going on."""
        return state if self.alone else state.replace(going=self.placement.put(self._flags(going), True))

    def batches(self, first: int, last: int) -> Iterator[tuple[tuple[Plan, ...], int, Any]]:
        """Yields (plan of each run, R, batch on the devices) of steps first, ..., last - 1."""
        orders = (run.epochs.plans(first, last) for run in self.runs)
        for step, plans in enumerate(zip(*orders, strict=True), start=first):
            rows = smallest(self.runs[0].row_counts, max(plan.rows for plan in plans))
            local = self.placement.local_rows(rows)
            made = [run.batch(step, plan, rows, local) for run, plan in zip(self.runs, plans, strict=True)]
            batch = made[0] if self.alone else _stack(self._filled(made))
            yield plans, rows, self.placement.put_batch(batch, rows, not self.alone)

    def program(self, rows: int) -> jax.stages.Compiled | None:
        """The compiled step `(state, batch, common) -> (state, metrics)` for batches of R rows; None: not yet."""
        return self._programs.get((rows, self._form))

    def compile(self, rows: int, state: Any, batch: Any, common: "Common") -> None:
        """Makes it."""
        step = self._one if self.alone else self._together()
        self._programs[rows, self._form] = self.placement.compile_train(step, state, batch, common)

    @property
    def _form(self) -> tuple[bool, ...]:
        """Which leaves of what no step changes have an axis of runs."""
        return () if self.alone else tuple(jax.tree.leaves(self._differing))

    def _one(self, state: TrainState, batch: Any, common: "Common") -> Any:
        """The step of one run."""
        return self.runs[0].train_step(self.placement.axis, **common.varied)(state, batch, common.fixed)

    def _together(self) -> Callable:
        """The step of runs side by side."""
        states = TrainState(None, 0, 0, 0)
        fixed = jax.tree.map(lambda yes: 0 if yes else None, self._differing)
        every = jax.vmap(self._one, in_axes=(states, 0, Common(fixed, 0)), out_axes=(states, 0))

        def step(state: States, batch: Any, common: Common) -> tuple[States, Any]:
            before = TrainState(state.step, state.params, state.opt_state, state.key)
            after, metrics = every(before, batch, common)
            going = state.going & jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])

            def only_going(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(going.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            params, opt_state = (jax.tree.map(only_going, getattr(after, name), getattr(before, name))
                                 for name in ("params", "opt_state"))
            return States(after.step, params, opt_state, after.key, going), metrics
        return step

    # --- back to the host

    def each(self, metrics: Any) -> list[dict[str, Any]]:
        """The metrics of a step, one dict a run."""
        found = self.placement.get(metrics)
        return [found] if self.alone else _unstack(found, len(self.runs))

    def states(self, state: Any) -> list[TrainState]:
        """The states of the runs, without what is frozen."""
        if self.alone:
            return [self.placement.get(state)]
        found = self.placement.get(state)
        each = _unstack((found.params, found.opt_state, found.key), len(self.runs))
        # Arrays again: of counters an entry is a scalar, and Orbax saves none.
        return [TrainState(found.step, *jax.tree.map(np.asarray, parts)) for parts in each]

    # --- forward passes

    def params(self, state: Any, common: "Common") -> Any:
        """What `inference` takes: (frozen, trained) as they are now."""
        return common.fixed.frozen, state.params

    def other_params(self, trained: Sequence[Any], common: "Common") -> Any:
        """Likewise of parameters that train, on the host, one tree a run."""
        if self.alone:
            return common.fixed.frozen, self.placement.put(trained[0])
        return common.fixed.frozen, self.placement.put(_stack(self._filled(trained)), True)

    def _inference(self) -> Inference:
        """Forward passes over the splits, whose outputs are lists, one entry a run."""
        run, count = self.runs[0], len(self._all)

        def apply(params: Any, batch: Any, dropout: None) -> list[Any]:
            frozen, trained = params

            def one(own: Any) -> Any:
                return run.family.readout(run.apply(trees.merge(frozen, own), batch, None), batch)
            return [one(trained)] if self.alone else _unstack(jax.vmap(one)(trained), count)
        return Inference(apply, self.placement, run.config.packing, [run.family.per_token] * count,
                         run.family.needs_labels, run.family.eval_batch)


def groups(ready: Ready, configs: Sequence[Config], together: str, before: int = 0) -> list[Group]:
    """Runs as few programs, as many at a time as they say.

    Args:
      ready: one of them.
      configs: of all of them; they differ in seeds and in `VARIED` alone.
      together: --seeds_per_program.
      before: with auto: how many trained at a time when they began; 0: they begin now.

    Raises:
      InputError: pre-training.
    """
    if ready.task.kind == "pretraining":
        raise InputError("--seeds: pre-training takes one --seed at a time")
    size = (before or balanced(len(configs), fitting(ready), ready.config)) if together == "auto" \
        else balanced(len(configs), int(together))
    placement = parallel.make(ready.config, size if size > 1 else 0)
    runs = ready.siblings(configs, size, placement.shards)
    varied = [name for name in VARIED if len({getattr(config, name) for config in configs}) > 1]
    made: list[Group] = []
    for first in range(0, len(runs), size):
        made.append(Group(runs[first:first + size], placement, varied, made[0] if made else None))
    return made


def balanced(count: int, most: int, config: Config | None = None) -> int:
    """The smallest S <= `most` that makes as few groups of `count` runs: the last is as full as can be.

    With `config` rounded up to whole devices where runs are split over them, if `most` allows it.
    """
    size = -(-count // -(-count // min(count, most)))
    devices = parallel.make(config).size if config and config.parallel == "jit" and not parallel.is_pod() else 1
    whole = -(-size // devices) * devices
    return whole if size > 1 and whole <= most else size


def fitting(ready: Ready) -> int:
    """How many runs the memory of the devices holds side by side, as XLA plans one of them; on CPU 1.

    There one after the other is faster: its cores are busy with one. So it is 1 where the memory is not known, or
    where each run has frozen layers of its own.
    """
    config, device = ready.config, jax.local_devices()[0]
    own_frozen = config.random_init and not all(trees.flatten(ready.trains).values())

    def count() -> str:
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if device.platform == "cpu" or own_frozen or not limit:
            return "1"
        alone = Group([ready], parallel.JitPlacement([device]))
        state, common = alone.put([ready.start()], [True])
        rows = ready.row_counts[-1]  # the largest
        plan = next(ready.epochs.plans(0, 1))
        batch = alone.placement.put_batch(ready.batch(0, plan, rows, np.arange(rows)), rows)
        alone.compile(rows, state, batch, common)
        shared = sum(x.nbytes for x in jax.tree.leaves(common))
        return str(held(limit, shared, alone.program(rows).memory_analysis()))
    each = int(parallel.agree(count))
    # Every device has all runs, each with its share of the rows, under pmap and in a pod.
    return each * (parallel.make(config).size if config.parallel == "jit" and not parallel.is_pod() else 1)


def held(limit: int, shared: int, needs: Any) -> int:
    """How many runs fit in `MEMORY_USED` of a device's memory, one at least.

    Args:
      limit: bytes of the device.
      shared: bytes that the runs read and never change: they are there once.
      needs: XLA's plan for one run; a result that takes the place of an argument counts once.
    """
    own = needs.argument_size_in_bytes + needs.output_size_in_bytes + needs.temp_size_in_bytes \
        - needs.alias_size_in_bytes - shared
    return max(1, int((MEMORY_USED * limit - shared) / max(own, 1)))


def _stack(each: Sequence[Any]) -> Any:
    """Trees alike -> one, with a new leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)


def _unstack(tree: Any, count: int) -> list[Any]:
    """The inverse of `_stack`."""
    return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(count)]


def _differ(each: Sequence[Any]) -> Any:
    """Tree of bool: where these trees are not the same."""
    first, *others = each
    return jax.tree.map(lambda x, *ys: not all(x is y or np.array_equal(x, y) for y in ys), first, *others)
