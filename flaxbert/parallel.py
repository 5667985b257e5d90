"""Where a step runs: devices, mesh, pods, jit or pmap. The step itself knows none of it.

A placement holds `shards` copies of the model, one a device, and gives each the same number of rows. Where several
runs train as one program, their arrays have a leading axis of runs and are split by that too, as far as the number
of devices allows: a device that has whole runs for itself talks to no other. `size` is the number of all devices.

Letters: S runs, R rows of a run's global batch, P processes.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flaxbert.config import Config
from flaxbert.errors import InputError, one_of


def start(config: Config) -> None:
    """Joins the pod where the settings say so, before any device is touched, and sets the compile cache.

    Raises:
      InputError: the other processes cannot be found or reached.
    """
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(Path(config.compilation_cache).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    # Products of float32 go through TF32 or bfloat16 on accelerators otherwise.
    jax.config.update("jax_default_matmul_precision", "highest" if config.dtype == "float32" else None)
    wanted = config.distributed or config.coordinator_address or config.num_processes or config.process_id >= 0
    if not wanted or jax.distributed.is_initialized():
        return
    given = {"coordinator_address": config.coordinator_address or None,
             "num_processes": config.num_processes or None,
             "process_id": config.process_id if config.process_id >= 0 else None}
    try:
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        raise InputError("--distributed: cannot join the other processes; give --coordinator_address=HOST:PORT, "
                         f"--num_processes and --process_id ({str(error).splitlines()[0]})") from error


def is_pod() -> bool:
    """Whether several processes train together."""
    return jax.process_count() > 1


def is_main() -> bool:
    """Whether this process writes logs and files."""
    return jax.process_index() == 0


def compute_dtype(name: str) -> Any:
    """The dtype that --dtype names; auto: bfloat16 on TPU and GPU, float32 on CPU."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[name]


def _devices(count: int) -> list[jax.Device]:
    devices = jax.devices()
    if count > len(devices):
        raise InputError(f"--devices={count}: there are {len(devices)}")
    if count and jax.process_count() > 1:
        raise InputError(f"--devices={count}: a pod uses all its devices; leave it out")
    return devices[:count] if count else devices


class JitPlacement:
    """One program over a mesh with axes (seed, data): runs split over the first, rows over the second.

    Args:
      devices: all of them.
      runs: S, that train as one program; 0: one alone, whose arrays have no axis of runs.
    """

    axis = None

    def __init__(self, devices: list[jax.Device], runs: int = 0):
        groups = 1 if is_pod() else math.gcd(len(devices), runs or 1)
        self.size, self.shards, self.runs = len(devices), len(devices) // groups, runs
        # Auto: with Explicit axes Linen's Embed raises.
        self.mesh = jax.make_mesh((groups, self.shards), ("seed", "data"), (AxisType.Auto,) * 2, devices=devices)
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.by_run = NamedSharding(self.mesh, PartitionSpec("seed"))
        self.by_row = NamedSharding(self.mesh, PartitionSpec("data"))
        self.by_run_and_row = NamedSharding(self.mesh, PartitionSpec("seed", "data"))

    def put(self, tree: Any, by_run: Any = False) -> Any:
        """The tree on the devices; `by_run`: whether arrays have an axis of runs, or a tree that says which do."""
        shardings = jax.tree.map(lambda yes: self.by_run if yes else self.replicated, by_run)
        return jax.jit(lambda t: t, out_shardings=shardings)(tree)

    def get(self, tree: Any) -> Any:
        """The tree as numpy arrays of this process: copies, which donation cannot reach."""
        return jax.tree.map(lambda x: np.array(x, copy=True), tree)

    def local_rows(self, rows: int) -> np.ndarray:
        """Global numbers of the rows that this process feeds, ascending."""
        parts = {(s[0].start or 0, rows if s[0].stop is None else s[0].stop)
                 for s in self.by_row.addressable_devices_indices_map((rows,)).values()}
        return np.concatenate([np.arange(*part) for part in sorted(parts)])

    def put_batch(self, batch: dict[str, np.ndarray], rows: int, by_run: bool = False) -> dict[str, jax.Array]:
        """This process' rows [R', ...], or [S, R', ...] where `by_run`, -> the global batch of R rows."""
        before, sharding = (1, self.by_run_and_row) if by_run else (0, self.by_row)

        def whole(x: np.ndarray) -> jax.Array:
            shape = (*x.shape[:before], rows, *x.shape[before + 1:])
            return jax.make_array_from_process_local_data(sharding, x, shape)
        return jax.tree.map(whole, batch)

    def compile_train(self, step: Callable, state: Any, batch: Any, *more: Any) -> jax.stages.Compiled:
        """The step as a program for these shapes; the state is donated, nothing else."""
        out = (jax.tree.map(lambda x: x.sharding, state), self.replicated)
        return jax.jit(step, donate_argnums=0, out_shardings=out).lower(state, batch, *more).compile()

    def compile_eval(self, step: Callable, params: Any, batch: Any) -> jax.stages.Compiled:
        """Likewise for an evaluation step; its rows come back from where they are, in a pod to all processes."""
        out = self.replicated if is_pod() else self.by_row
        return jax.jit(step, out_shardings=out).lower(params, batch).compile()


class PmapPlacement:
    """`jax.pmap` over all devices: the state is stacked once a device, rows are dealt out, runs are not."""

    axis = "data"

    def __init__(self, devices: list[jax.Device], runs: int = 0):
        self.size = self.shards = len(devices)
        self.devices, self.runs = devices, runs
        self.local = [d for d in devices if d.process_index == jax.process_index()]
        # Arrays with one leading entry a device, of all processes, as the compiled pmap wants them.
        self.stacked = NamedSharding(jax.sharding.Mesh(np.array(devices), (self.axis,)), PartitionSpec(self.axis))

    def put(self, tree: Any, by_run: Any = False) -> Any:
        def stack(x):
            x = np.asarray(x)
            return self._global(np.broadcast_to(x, (len(self.local), *x.shape)))
        return jax.tree.map(stack, tree)

    def _global(self, x: np.ndarray) -> jax.Array:
        """[local devices, ...] of each process -> [devices, ...] of all."""
        return jax.make_array_from_process_local_data(self.stacked, x, (self.shards, *x.shape[1:]))

    def get(self, tree: Any) -> Any:
        # np.array once more: a scalar's [0] is no array, and Orbax saves nothing else.
        return jax.tree.map(lambda x: np.array(np.asarray(x.addressable_shards[0].data)[0]), tree)

    def local_rows(self, rows: int) -> np.ndarray:
        mine = [i for i, d in enumerate(self.devices) if d.process_index == jax.process_index()]
        return np.arange(rows).reshape(self.shards, -1)[mine].reshape(-1)

    def put_batch(self, batch: dict[str, np.ndarray], rows: int, by_run: bool = False) -> dict[str, jax.Array]:
        before, count = int(by_run), len(self.local)

        def dealt(x: np.ndarray) -> jax.Array:
            x = x.reshape(*x.shape[:before], count, -1, *x.shape[before + 1:])
            return self._global(np.moveaxis(x, before, 0))
        return jax.tree.map(dealt, batch)

    def compile_train(self, step: Callable, state: Any, batch: Any, *more: Any) -> jax.stages.Compiled:
        return self._pmap(step, donate_argnums=0).lower(state, batch, *more).compile()

    def compile_eval(self, step: Callable, params: Any, batch: Any) -> jax.stages.Compiled:
        return self._pmap(step).lower(params, batch).compile()

    def _pmap(self, step: Callable, **kwargs: Any) -> Any:
        devices = None if jax.process_count() > 1 else self.local
        return jax.pmap(step, axis_name=self.axis, devices=devices, **kwargs)


Placement = JitPlacement | PmapPlacement
PLACEMENTS = {"jit": JitPlacement, "pmap": PmapPlacement}


def make(config: Config, runs: int = 0) -> Placement:
    """The placement that --parallel and --devices name, for so many runs as one program; 0: for one alone."""
    return PLACEMENTS[one_of(config.parallel, tuple(PLACEMENTS), "--parallel")](_devices(config.devices), runs)


def agree(work: Callable[[], str]) -> str:
    """`work()` of the main process, for all; its `InputError` too is raised in all of them."""
    if jax.process_count() == 1:
        return work()
    from jax.experimental import multihost_utils
    text, failed = "", False
    if is_main():
        try:
            text = work()
        except (InputError, OSError) as error:  # the others wait for an answer whatever happens
            text, failed = str(error), True
    mine = np.zeros(4096, np.uint8)
    encoded = text.encode()[:4094]
    mine[0], mine[1:1 + len(encoded)] = failed, np.frombuffer(encoded, np.uint8)
    message = np.asarray(multihost_utils.broadcast_one_to_all(mine))
    text = bytes(message[1:]).rstrip(b"\0").decode(errors="replace")
    if message[0]:
        raise InputError(text)
    return text


def everywhere(true: bool) -> bool:
    """Whether it is true in every process of the pod; each of them calls this."""
    if jax.process_count() == 1:
        return true
    from jax.experimental import multihost_utils
    return bool(np.all(multihost_utils.process_allgather(np.array(true))))


def barrier(name: str) -> None:
    """Waits until every process of the pod is here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils
        multihost_utils.sync_global_devices(name)


@contextmanager
def memory_told(advice: str) -> Iterator[None]:
    """Out of device memory becomes one line: `out of device memory with ADVICE`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(f"out of device memory with {advice}") from error


def stop_requested(flag: bool, step: int) -> bool:
    """Whether all processes are to stop after this step: a lone one's own flag, a pod's preemption notice."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils
    return bool(multihost_utils.reached_preemption_sync_point(step))


def describe_devices(placement: Placement) -> str:
    """`4 x cpu`, `8 x TPU v4 (2 processes)`, ..."""
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else f"cpu ({os.cpu_count()} cores)"
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{placement.size} x {kind}{processes}"
