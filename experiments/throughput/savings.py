"""What freezing saves: for every number k of frozen layers the step's program and its time beside the full one's.

Two kinds of points. `program`: one training step compiled, counted and run once. `epoch`: training with k frozen
layers in turn with training of everything, window by window, so that a slow minute of the machine is a slow minute
of both; without and with the states of the frozen layers kept on disk.
"""

import dataclasses
import io
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

import jax

from experiments.throughput import measure, sources
from flaxbert import activations
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.prepare import Ready, bottom_of, parameters_trained
from flaxbert.seeds import Group

# Grid -> what is trained: `examples` are those of an epoch, 0: all there are. Batches are 32 if nothing is said,
# of models with random weights --base_batch.
SETUPS: dict[str, tuple[dict[str, Any], ...]] = {
    "tiny": ({"model": "tiny", "data": "full_length", "length": 32, "examples": 16, "dtype": "float32"},),
    "small": ({"model": "bert_base", "data": "full_length", "length": 128, "examples": 32, "dtype": "float32"},
              {"model": "minilm", "data": "mrpc", "length": 128, "examples": 320, "dtype": "float32"},
              {"model": "minilm", "data": "squad", "batch": 16, "length": 384, "examples": 160,
               "dtype": "float32"}),
    "paper": ({"model": "bert_base", "data": "full_length", "length": 128, "examples": 1024, "dtype": "bfloat16"},
              {"model": "minilm", "data": "mrpc", "length": 128, "examples": 0, "dtype": "bfloat16"},
              {"model": "minilm", "data": "squad", "length": 384, "examples": 4096, "dtype": "bfloat16"}),
}
_OF_SETUP = ("model", "data", "batch", "length", "examples", "dtype")
_OF_VARIANT = (*_OF_SETUP, "strategy", "frozen", "cached")


def setup_of(point: dict[str, Any]) -> dict[str, Any]:
    """What all points of a comparison have in common."""
    return {name: point[name] for name in _OF_SETUP}


def check(settings: dict[str, Any]) -> None:
    """Raises `InputError` where there is no number of rounds, steps or layers."""
    if min(settings["rounds"], settings["round_steps"], settings["base_batch"]) < 1:
        raise InputError("--rounds, --round_steps and --base_batch: at least 1 each")
    if not all(k.isdigit() for k in settings["frozen"]):
        raise InputError(f"--frozen={','.join(settings['frozen'])}: should be numbers of layers")


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each setup all programs, then all epochs."""
    found = []
    for each in sources.at_hand(SETUPS[settings["grid"]], settings["models"], "savings"):
        batch = settings["base_batch"] if each["model"] in sources.SHAPES else 32
        found += _points({"batch": batch, **each}, sources.layers(each["model"]), settings["frozen"])
    return found


def _points(setup: dict[str, Any], layers: int, chosen: tuple[str, ...]) -> list[dict[str, Any]]:
    """The points of one setup; 0 frozen layers are training everything.

    Programs come in the order of their need of memory, least first: a device keeps one maximum for a process.
    """
    frozen = [k for k in range(layers + 1) if not chosen or k in map(int, chosen)]
    features, freeze = ({**setup, "strategy": name} for name in ("features", "freeze"))
    programs = [{**features, "frozen": layers, "cached": True},
                *({**freeze, "frozen": k, "cached": cached} for k in sorted({0, *frozen}, reverse=True)
                  for cached in (True, False) if k or not cached)]
    epochs = [*({**freeze, "frozen": k} for k in frozen), {**features, "frozen": layers}]
    return [{"kind": kind, **each} for kind, part in (("program", programs), ("epoch", epochs)) for each in part]


def config_of(variant: dict[str, Any]) -> Config:
    """The settings of a run of one epoch."""
    freeze = variant["strategy"] == "freeze"
    how = {"frozen_layers": variant["frozen"]} if freeze else {"strategy": variant["strategy"], "head": "linear"}
    return Config.make(
        model=sources.model_folder(variant["model"]), random_init=variant["model"] == "bundled",
        dtype=variant["dtype"], batch_size=variant["batch"], epochs=1.0, max_train_examples=variant["examples"],
        cache_frozen=variant["cached"], cache_dir=sources.cache_dir(), **how,
        **sources.data_settings(variant["data"], variant["length"], variant["examples"]))


_first: dict[str, Ready] = {}  # model -> the first run of it, whose weights all the others share


@cache
def _compiled(*values: Any) -> measure.Programs:
    """The programs of a variant, without a state, for both kinds of points."""
    variant = dict(zip(_OF_VARIANT, values, strict=True))
    ready, placement = measure.made_ready(config_of(variant))
    first = _first.setdefault(variant["model"], ready)
    shared = {**ready.params, "bert": first.params["bert"]}
    ready = dataclasses.replace(ready, params=shared, pretrained=first.pretrained)
    return dataclasses.replace(measure.compile_programs([Group([ready], placement)]), state=None)


def _programs(point: dict[str, Any], **other: Any) -> measure.Programs:
    return _compiled(*({**point, **other}[name] for name in _OF_VARIANT))


def measure_program(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What the compiled step needs: operations, bytes; parameters and the optimizer's share of the bytes."""
    before = measure.peak_bytes()
    with measure.fitting():
        programs = _programs(point)
    ready = programs.ready
    moments = jax.eval_shape(ready.optimizer.init, ready.params)
    return {"flops_per_step": programs.flops_per_step(), "program_bytes": programs.bytes(),
            "peak_bytes": measure.risen(before),
            # Of its arrays; counters are left out.
            "optimizer_bytes": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(moments) if x.ndim),
            "parameters_trained": parameters_trained(ready), "cached_layers": list(ready.model.cached),
            "compile_seconds": programs.seconds, "programs": len(programs.flops)}


def measure_epoch(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Training everything, and with so many layers frozen without and with the cache, in turn.

    Returns:
      rounds: dicts of seconds: full, uncached and cached of one step, computing of computing the states of all
      training examples; first_computing: likewise, the first time, with compilation; steps_per_epoch, examples,
      layers.
    """
    with measure.fitting():
        found = {"full": _programs(point, strategy="freeze", frozen=0, cached=False)}
        if point["strategy"] == "freeze":
            found["uncached"] = _programs(point, cached=False)
        if point["frozen"]:
            found["cached"] = _programs(point, cached=True)
        return {"layers": sources.layers(point["model"]), **_rounds(found, settings)}


def _rounds(found: dict[str, measure.Programs], settings: dict[str, Any]) -> dict[str, Any]:
    """The part of `measure_epoch` that runs."""
    trainings = {name: measure.Training(each, each.placed()) for name, each in found.items()}
    compute = computing(found["cached"].ready) if "cached" in found else lambda: 0.0
    first, latest, rounds = compute(), {}, []
    for name, training in trainings.items():
        latest[name] = training.window(settings["warmup"])["seconds"] / settings["warmup"]
    for _ in range(settings["rounds"]):
        for name, training in trainings.items():
            size = max(settings["round_steps"], math.ceil(settings["round_seconds"] / latest[name]))
            latest[name] = training.window(size)["seconds"] / size
        rounds.append({**latest, "computing": compute()})
    for training in trainings.values():
        training.close()
    ready = found["full"].ready
    return {"rounds": rounds, "first_computing": first, "steps_per_epoch": ready.epochs.steps_per_epoch,
            "examples": len(ready.encoded["train"])}


def computing(ready: Ready) -> Callable[[], float]:
    """A function that computes the states of a run's training examples anew and returns the seconds that it took.

    Args:
      ready: of a run that computes its frozen layers once.
    """
    config, model, train = ready.config, ready.model, ready.encoded["train"]
    bottom = bottom_of(config, model, model.cached, ready.params)

    def compute() -> float:
        Path(config.cache_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=config.cache_dir) as folder, redirect_stderr(io.StringIO()):
            begun = time.perf_counter()
            activations.keep(dataclasses.replace(config, cache_dir=folder), bottom,
                             {"train": dataclasses.replace(train, hidden=None)}, {})
            return time.perf_counter() - begun
    return compute
