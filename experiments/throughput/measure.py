"""One point of the throughput study: the library's own training step, compiled, counted and timed.

Letters: R rows, T tokens a row, B examples a batch.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator, Sequence
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
from flaxbert.seeds import Group

# Side of the matrices, and multiplications at a time: enough for the full rate, tens of milliseconds.
MATMUL = {"cpu": (2048, 1), "other": (8192, 8)}


@dataclass(frozen=True)
class Programs:
    """Runs made ready, with every program that their steps need.

    Attributes:
      groups: of the same programs; they step in turn. Mostly one, of one run.
      flops: R -> floating point operations of one step over all devices, as XLA counts them.
      state: what `Group.put` gives for the first group, after one step of each program.
      seconds: of tracing and compiling them all.
    """

    groups: tuple[Group, ...]
    flops: dict[int, float]
    state: Any
    seconds: float

    @property
    def ready(self) -> Ready:
        """The first of the runs."""
        return self.groups[0].runs[0]

    def placed(self) -> Any:
        """The beginning of the first group's runs: what `Group.put` gives."""
        runs = self.groups[0].runs
        return self.groups[0].put([run.start() for run in runs], [True] * len(runs))

    def batches(self) -> Iterator[tuple]:
        """What `Group.batches` gives for the whole length of the runs: of one group and the next, by turns."""
        for each in zip(*(group.batches(0, self.ready.total_steps) for group in self.groups), strict=True):
            yield from each

    def flops_per_step(self) -> float:
        """The mean over the steps of a lone run."""
        plans = self.ready.epochs.plans(0, self.ready.total_steps)
        return statistics.fmean(self.flops[packing.smallest(self.ready.row_counts, plan.rows)] for plan in plans)

    def bytes(self) -> int | None:
        """The largest memory need of a step on one device, as XLA plans it: state, batch and temporaries."""
        needs = [self.groups[0].program(rows).memory_analysis() for rows in self.flops]
        if None in needs:
            return None
        return max(n.argument_size_in_bytes + n.output_size_in_bytes + n.temp_size_in_bytes
                   - n.alias_size_in_bytes for n in needs)


def made_ready(config: Config) -> tuple[Ready, parallel.Placement]:
    """The run that `config` describes, and where it runs."""
    parallel.start(config)
    placement = parallel.make(config)
    return prepare(config, placement.shards), placement


def compile_programs(groups: Sequence[Group]) -> Programs:
    """Compiles all training steps of groups that share their programs, and runs each once."""
    first, *_ = groups
    made = Programs(tuple(groups), {}, None, 0.0)
    (state, common), seconds = made.placed(), 0.0
    with _no_compilation_cache():
        for _, rows, batch in made.batches():
            if rows in made.flops:
                continue
            begun = time.perf_counter()
            first.compile(rows, state, batch, common)
            seconds += time.perf_counter() - begun
            program = first.program(rows)
            made.flops[rows] = program.cost_analysis()["flops"] * first.placement.size
            state, _ = program(state, batch, common)
            if len(made.flops) == len(made.ready.row_counts):
                break
    return dataclasses.replace(made, state=jax.block_until_ready((state, common)), seconds=seconds)


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
      programs: compiled. Its runs' batches are gone through again and again.
      state: what `Group.put` gives; it is used up.
    """

    def __init__(self, programs: Programs, state: Any):
        self._programs, (self._state, self._common) = programs, state
        self._batches = prefetch(self._endless())

    def _endless(self) -> Iterator[tuple]:
        while True:
            yield from self._programs.batches()

    def window(self, steps: int) -> dict[str, float]:
        """So many steps, waited for: seconds, steps, examples, tokens (real ones), processed tokens and flops."""
        programs, ready, pending = self._programs, self._programs.ready, None
        sums = dict.fromkeys(("steps", "examples", "tokens", "processed", "flops"), 0)
        begun = time.perf_counter()
        for _ in range(steps):
            plans, rows, batch = next(self._batches)
            self._state, out = programs.groups[0].program(rows)(self._state, batch, self._common)
            jax.block_until_ready(pending)
            pending = out
            for name, value in (("steps", 1), ("examples", sum(len(plan.examples) for plan in plans)),
                                ("tokens", sum(int(ready.epochs.lengths[plan.examples].sum()) for plan in plans)),
                                ("processed", len(plans) * rows * ready.row_length),
                                ("flops", programs.flops[rows])):
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
        ready, placement = made_ready(config)
        programs = compile_programs([Group([ready], placement)])
        rates = [matmul_rates(ready.model.dtype)]
        windows = timed(programs, warmup, steps, repeats, seconds)
        rates.append(matmul_rates(ready.model.dtype))
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
        "matmul_flops_per_second": rate, "matmul_share": achieved / (rate[dtype] * placement.size),
        "compile_seconds": programs.seconds, "programs": len(programs.flops), "program_bytes": programs.bytes(),
        "peak_bytes": risen(before),
        "dtype": dtype, "devices": placement.size, "layers": ready.pretrained.config.num_hidden_layers,
        "row_length": ready.row_length, "parameters_trained": parameters_trained(ready),
        "parameters_total": trees.count(ready.params), "warmup": warmup, "windows": windows}


def _median(windows: list[dict[str, float]], name: str) -> float:
    """Median over the windows of something a second."""
    return statistics.median(window[name] / window["seconds"] for window in windows)


def spread(values: list[float]) -> float:
    """(largest - smallest) / median."""
    return (max(values) - min(values)) / statistics.median(values)


def summary(values: list[float]) -> dict[str, float]:
    """median, lowest, highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def peak_bytes() -> int | None:
    """The most memory that this process ever used on one device; None where the device does not tell."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    return max((s["peak_bytes_in_use"] for s in stats if s and "peak_bytes_in_use" in s), default=None)


def risen(before: int | None) -> int | None:
    """`peak_bytes` of what ran since it was `before`; None where it has not risen: it is a whole process' own."""
    peak = peak_bytes()
    return peak if peak and (before is None or peak > before) else None
