"""One point of the throughput study: the library's own training step, compiled, counted and timed.

Letters: R rows, T tokens a row, B examples a batch.
"""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from experiments.records import PointFailed
from flaxbert import packing, parallel, trees
from flaxbert.config import Config
from flaxbert.data import prefetch
from flaxbert.prepare import Ready, parameters_trained, prepare

# Side of the matrices, and multiplications at a time: enough for the full rate, tens of milliseconds.
MATMUL = {"cpu": (2048, 1), "other": (8192, 8)}


@dataclass(frozen=True)
class Programs:
    """A run made ready, with every program that its steps need.

    Attributes:
      ready: what `prepare` made.
      placement: where it runs.
      by_rows: R -> compiled training step.
      flops: R -> floating point operations of one step over all devices, as XLA counts them.
      state: what `Ready.parted` gives, on the devices, after one step of each program.
      seconds: of tracing and compiling them all.
    """

    ready: Ready
    placement: parallel.Placement
    by_rows: dict[int, jax.stages.Compiled]
    flops: dict[int, float]
    state: Any
    seconds: float

    def placed(self) -> Any:
        """The beginning of the run: what `Ready.parted` gives, on the devices."""
        return tuple(map(self.placement.put, self.ready.parted(self.ready.start())))

    def flops_per_step(self) -> float:
        """The mean over the steps of the run."""
        plans = self.ready.epochs.plans(0, self.ready.total_steps)
        return statistics.fmean(self.flops[packing.smallest(self.ready.row_counts, plan.rows)] for plan in plans)

    def bytes(self) -> int | None:
        """The largest memory need of a step on one device, as XLA plans it: state, batch and temporaries."""
        needs = [program.memory_analysis() for program in self.by_rows.values()]
        if None in needs:
            return None
        return max(n.argument_size_in_bytes + n.output_size_in_bytes + n.temp_size_in_bytes
                   - n.alias_size_in_bytes for n in needs)


def compile_programs(config: Config) -> Programs:
    """Prepares the run that `config` describes, compiles all its training steps and runs each once."""
    parallel.start(config)
    placement = parallel.make(config)
    ready = prepare(config, placement.shards)
    state, fixed = map(placement.put, ready.parted(ready.start()))
    by_rows: dict[int, jax.stages.Compiled] = {}
    seconds = 0.0
    with _no_compilation_cache():
        for _, rows, batch in ready.batches(placement, 0, ready.total_steps):
            if rows in by_rows:
                continue
            begun = time.perf_counter()
            step = ready.train_step(placement.axis)
            by_rows[rows] = placement.compile_train(step, state, batch, fixed)
            seconds += time.perf_counter() - begun
            state, _ = by_rows[rows](state, batch, fixed)
            if len(by_rows) == len(ready.row_counts):
                break
    flops = {rows: program.cost_analysis()["flops"] * placement.shards for rows, program in by_rows.items()}
    return Programs(ready, placement, by_rows, flops, jax.block_until_ready((state, fixed)), seconds)


@contextmanager
def _no_compilation_cache() -> Iterator[None]:
    """Programs kept on disk would make compilation look free."""
    def use(cache: bool) -> None:
        jax.config.update("jax_enable_compilation_cache", cache)
        compilation_cache.reset_cache()  # else the first answer to whether there is one stands for good
    before = jax.config.jax_enable_compilation_cache
    use(False)
    try:
        yield
    finally:
        use(before)


def matmul_rate(dtype: Any, repeats: int = 5) -> float:
    """Floating point operations a second of one device that multiplies large square matrices: the median.

    Args:
      dtype: of both matrices and the product; precision as jax has it by default, as in the step.
      repeats: how often it is timed.
    """
    side, count = MATMUL["cpu" if jax.default_backend() == "cpu" else "other"]
    a = jnp.full((side, side), 1 / side, dtype)
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(a, a))
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready([multiply(a, a) for _ in range(count)])
        times.append(time.perf_counter() - begun)
    return 2 * side**3 * count / statistics.median(times)


def matmul_rates(dtype: Any) -> dict[str, float]:
    """`matmul_rate` in float32, in the step's own dtype, and in bfloat16 on accelerators."""
    half = [] if jax.default_backend() == "cpu" else ["bfloat16"]
    return {name: matmul_rate(name) for name in dict.fromkeys(["float32", *half, jnp.dtype(dtype).name])}


class Training:
    """Trains as the loop does: batches made in the background, the step before waited for after a dispatch.

    Args:
      programs: compiled. Its run's batches are gone through again and again.
      state: what `Ready.parted` gives, on the devices; it is used up.
    """

    def __init__(self, programs: Programs, state: Any):
        self._programs, (self._state, self._fixed) = programs, state
        self._batches = prefetch(self._endless())

    def _endless(self) -> Iterator[tuple]:
        ready = self._programs.ready
        while True:
            yield from ready.batches(self._programs.placement, 0, ready.total_steps)

    def window(self, steps: int) -> dict[str, float]:
        """So many steps, waited for: seconds, steps, examples, tokens (real ones), processed tokens and flops."""
        programs, ready, pending = self._programs, self._programs.ready, None
        sums = dict.fromkeys(("steps", "examples", "tokens", "processed", "flops"), 0)
        begun = time.perf_counter()
        for _ in range(steps):
            plan, rows, batch = next(self._batches)
            self._state, out = programs.by_rows[rows](self._state, batch, self._fixed)
            jax.block_until_ready(pending)
            pending = out
            for name, value in (("steps", 1), ("examples", len(plan.examples)), ("flops", programs.flops[rows]),
                                ("tokens", int(ready.epochs.lengths[plan.examples].sum())),
                                ("processed", rows * ready.row_length)):
                sums[name] += value
        jax.block_until_ready((self._state, pending))
        return {"seconds": time.perf_counter() - begun, **sums}

    def close(self) -> None:
        """Ends the making of batches."""
        self._batches.close()


def timed(programs: Programs, warmup: int, steps: int, repeats: int, seconds: float) -> list[dict[str, float]]:
    """Windows of training, one after the other.

    Args:
      programs: compiled; the state in it is used up.
      warmup: steps that are not counted, at least 1.
      steps: of one window, at least.
      repeats: windows.
      seconds: of one window, at least, going by the warm-up.
    """
    training = Training(programs, programs.state)
    size = max(steps, math.ceil(seconds * warmup / training.window(warmup)["seconds"]))
    windows = [training.window(size) for _ in range(repeats)]
    training.close()
    return windows


@contextmanager
def fitting() -> Iterator[None]:
    """Out of device memory becomes a `PointFailed`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise PointFailed("out of device memory") from error


def measure(config: Config, warmup: int, steps: int, repeats: int, seconds: float) -> dict[str, Any]:
    """Everything about the training speed of one configuration.

    Args:
      config: its `max_steps` batches are gone through, again and again if need be.
      warmup, steps, repeats, seconds: as in `timed`.

    Returns:
      a row of results.jsonl; rates are medians over the windows. Units: seconds, bytes, operations.

    Raises:
      PointFailed: it does not fit the device's memory.
    """
    before = peak_bytes()
    with fitting():
        programs = compile_programs(config)
        rates = [matmul_rates(programs.ready.model.dtype)]
        windows = timed(programs, warmup, steps, repeats, seconds)
        rates.append(matmul_rates(programs.ready.model.dtype))
    ready, shards = programs.ready, programs.placement.shards
    dtype = jnp.dtype(ready.model.dtype).name
    rate = {name: statistics.mean(r[name] for r in rates) for name in rates[0]}
    total = {name: sum(window[name] for window in windows) for name in windows[0]}
    achieved = _median(windows, "flops")
    return {
        "steps_per_second": _median(windows, "steps"), "examples_per_second": _median(windows, "examples"),
        "tokens_per_second": _median(windows, "tokens"),
        "spread": spread([w["tokens"] / w["seconds"] for w in windows]),
        "padding_share": 1 - total["tokens"] / total["processed"],
        "flops_per_step": total["flops"] / total["steps"], "flops_per_second": achieved,
        "matmul_flops_per_second": rate, "matmul_share": achieved / (rate[dtype] * shards),
        "compile_seconds": programs.seconds, "programs": len(programs.by_rows), "program_bytes": programs.bytes(),
        "peak_bytes": risen(before),
        "dtype": dtype, "devices": shards, "layers": ready.pretrained.config.num_hidden_layers,
        "row_length": ready.row_length, "parameters_trained": parameters_trained(ready),
        "parameters_total": trees.count(ready.params), "warmup": warmup, "windows": windows}


def _median(windows: list[dict[str, float]], name: str) -> float:
    """Median over the windows of something a second."""
    return statistics.median(window[name] / window["seconds"] for window in windows)


def spread(values: list[float]) -> float:
    """(largest - smallest) / median."""
    return (max(values) - min(values)) / statistics.median(values)


def peak_bytes() -> int | None:
    """The most memory that this process ever used on one device; None where the device does not tell."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    return max((s["peak_bytes_in_use"] for s in stats if s and "peak_bytes_in_use" in s), default=None)


def risen(before: int | None) -> int | None:
    """`peak_bytes` of what ran since it was `before`; None where it has not risen: it is a whole process' own."""
    peak = peak_bytes()
    return peak if peak and (before is None or peak > before) else None
