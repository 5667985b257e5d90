"""The throughput study: what is measured, in which preset. Question, commands and results: README.md."""

import itertools
from typing import Any

from experiments.records import Records, device
from experiments.throughput import (
    figure,
    gains,
    measure,
    peer,
    savings,
    savings_figure,
    sources,
    table,
    together,
    together_figure,
)
from flaxbert.config import Config
from flaxbert.errors import InputError, note, one_of

QUESTION = ("How fast does training run on this device, what share of its matmul rate is that, how fast is "
            "PyTorch, what does freezing save, and what do seeds that train together?")
PARTS = ("speed", "savings", "seeds")

FLAGS = {
    "parts": f"Only these parts ({', '.join(PARTS)}); the same --output adds others to a record.",
    "models": f"Only these of the preset's models ({', '.join(sources.MODELS)}).",
    "warmup": "Steps that are not counted, at least 1.",
    "steps": "Steps of one timed window, at least.",
    "seconds": "Seconds of one timed window, at least.",
    "repeats": "Timed windows of a point; its figures are their medians.",
    "peer": "Time the Hugging Face Trainer on PyTorch too, and flaxbert beside it, in turn.",
    "peer_variants": f"Settings of the peer ({', '.join(peer.VARIANTS)}).",
    "peer_examples": "Training examples of each of those runs, one epoch.",
    "peer_repeats": "How often each side runs.",
    "frozen": "Savings: only these numbers of frozen layers; empty: all of them.",
    "base_batch": "Savings: examples a step of bert_base; 32 of the others.",
    "counts": "Seeds: so many of them, together and one after the other.",
    "rounds": "Savings, seeds: how often the sides are timed in turn; figures are medians of them.",
    "round_steps": "Savings, seeds: steps of a window of a round, at least.",
    "round_seconds": "Savings, seeds: seconds of one, at least.",
}
CHOICES = ("parts", "models", "frozen", "counts", "peer", "peer_variants", "base_batch")

# What trains -> settings, for an encoder of so many layers: two thirds are 8 of BERT-base's 12.
STRATEGIES = {
    "full": lambda layers: {},
    "half": lambda layers: {"frozen_layers": layers // 2},
    "two_thirds": lambda layers: {"frozen_layers": layers * 2 // 3},
    "head": lambda layers: {"strategy": "head"},
}
CACHED = "+cached"  # behind the name of a strategy: its frozen layers are computed once

AXES = ("model", "data", "batch", "length", "strategy", "dtype", "packing")


def _grid(model: str, batch: int, length: int, **other: tuple) -> dict[str, tuple]:
    """All combinations of these values; every axis but model, batch and length has a usual one."""
    usual = {"data": ("full_length",), "strategy": ("full",), "dtype": ("float32",), "packing": (True,)}
    return {"model": (model,), "batch": (batch,), "length": (length,), **usual, **other}


_ALL = ("full", *(name + how for name in STRATEGIES if name != "full" for how in ("", CACHED)))
_BF16 = {"dtype": ("bfloat16",)}
_REAL = {"data": ("mrpc", "toy_pair"), "packing": (True, False)}

GRIDS: dict[str, tuple[dict[str, tuple], ...]] = {
    "tiny": (
        _grid("bundled", 4, 32, strategy=("head",), data=("full_length", "toy_pair")),),
    "small": (
        _grid("bundled", 32, 128, strategy=_ALL),
        _grid("minilm", 32, 128, strategy=_ALL),
        _grid("bert_base", 8, 128, strategy=_ALL),
        _grid("minilm", 32, 32),
        _grid("minilm", 8, 512),
        _grid("minilm", 32, 128, data=("mrpc",), packing=(True, False)),
        _grid("bundled", 32, 64, data=("toy_pair",), packing=(True, False)),
        _grid("bundled", 32, 128, data=("toy_pair",))),
    "paper": (
        _grid("bert_base", 128, 128, strategy=_ALL, **_BF16),
        _grid("bert_base", 32, 512, strategy=_ALL, **_BF16),
        _grid("bert_base", 32, 128, dtype=("bfloat16", "float32")),
        _grid("bert_base", 256, 128, **_BF16),
        _grid("bert_base", 128, 512, **_BF16),
        _grid("bert_large", 64, 128, strategy=_ALL, **_BF16),
        _grid("bert_large", 256, 128, **_BF16),
        _grid("bert_large", 32, 512, **_BF16),
        _grid("bert_base", 32, 128, **_REAL, **_BF16),
        _grid("bert_base", 256, 128, **_REAL, **_BF16),
        _grid("minilm", 256, 128, data=("mrpc", "full_length"), **_BF16),
        _grid("bundled", 256, 128, data=("toy_pair", "full_length"), **_BF16)),
}

_ALWAYS = {"parts": PARTS, "models": sources.MODELS, "frozen": (), "counts": ("1", "5", "25")}
PRESETS: dict[str, dict[str, Any]] = {
    # Seconds: does everything work.
    "tiny": {**_ALWAYS, "grid": "tiny", "warmup": 1, "steps": 2, "seconds": 0.0, "repeats": 2, "peer": False,
             "peer_variants": ("fp32",), "peer_model": "bundled", "peer_batch": 8, "peer_length": 64,
             "peer_examples": 96, "peer_repeats": 1, "base_batch": 4, "rounds": 2, "round_steps": 2,
             "round_seconds": 0.0, "counts": ("1", "2")},
    # On two CPU cores, without the peer: ten minutes the speed, twenty the savings, five the seeds.
    "small": {**_ALWAYS, "grid": "small", "warmup": 1, "steps": 4, "seconds": 1.0, "repeats": 3, "peer": False,
              "peer_variants": ("fp32", "bf16_grouped"), "peer_model": "minilm", "peer_batch": 32,
              "peer_length": 128, "peer_examples": 1280, "peer_repeats": 3, "base_batch": 8, "rounds": 4,
              "round_steps": 1, "round_seconds": 1.5},
    # An accelerator.
    "paper": {**_ALWAYS, "grid": "paper", "warmup": 10, "steps": 20, "seconds": 3.0, "repeats": 5, "peer": False,
              "peer_variants": ("bf16", "bf16_grouped", "bf16_grouped_compiled"), "peer_model": "bert_base",
              "peer_batch": 32, "peer_length": 128, "peer_examples": 0, "peer_repeats": 3, "base_batch": 32,
              "rounds": 5, "round_steps": 20, "round_seconds": 1.0},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Every point once: the peers, while this process holds no memory of the device; savings; seeds; the steps."""
    if min(settings["warmup"], settings["steps"], settings["repeats"], settings["peer_repeats"]) < 1:
        raise InputError("--warmup, --steps, --repeats and --peer_repeats: at least 1 each")
    for flag, valid in (("parts", PARTS), ("models", sources.MODELS), ("peer_variants", tuple(peer.VARIANTS))):
        for name in settings[flag]:
            one_of(name, valid, f"--{flag}")
    savings.check(settings)  # before anything is said of what is left out
    together.check(settings)
    speed = "speed" in settings["parts"]
    return [*(_peer_points(settings) if speed and settings["peer"] else []),
            *(savings.points(settings) if "savings" in settings["parts"] else []),
            *(together.points(settings) if "seeds" in settings["parts"] else []),
            *(_step_points(settings) if speed else [])]


def _step_points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """All of the grid that can be had here; what cannot is said."""
    found, missing = [], set()
    for grid in GRIDS[settings["grid"]]:
        for values in itertools.product(*(grid[axis] for axis in AXES)):
            point = {"kind": "step", **dict(zip(AXES, values, strict=True))}
            absent = {name for name in (point["model"], point["data"]) if not sources.available(name)}
            missing |= absent
            if point["model"] in settings["models"] and not absent and point not in found:
                found.append(point)
    if missing:
        note(f"throughput: left out for want of FLAXBERT_DATA: {', '.join(sorted(missing))}")
    return found


def _peer_points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The two sides in turn, A B A B; none, said aloud, where PyTorch cannot run."""
    why_not = peer.unusable(device()["platform"])
    if why_not:
        note(f"throughput: NO PEER is timed: {why_not}")
        return []
    model = settings["peer_model"] if sources.available(settings["peer_model"]) else "bundled"
    data = "mrpc" if sources.available("mrpc") and model != "bundled" else "toy_pair"
    common = {"model": model, "data": data, "batch": settings["peer_batch"], "length": settings["peer_length"],
              "examples": settings["peer_examples"]}
    return [{"kind": "peer", "side": side, **common, "repeat": repeat}
            for repeat in range(settings["peer_repeats"])
            for side in ("flaxbert", *settings["peer_variants"])]


def measure_step(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """One configuration of the training step; see `measure.measure`."""
    name, _, cached = point["strategy"].partition("+")
    steps = settings["warmup"] + settings["steps"] * settings["repeats"]
    config = Config.make(
        model=sources.model_folder(point["model"]), random_init=point["model"] == "bundled", dtype=point["dtype"],
        packing=point["packing"], batch_size=point["batch"], max_steps=steps, cache_frozen=bool(cached),
        cache_dir=sources.cache_dir(),
        **sources.data_settings(point["data"], point["length"], 2 * point["batch"]),
        **STRATEGIES[name](sources.layers(point["model"])))
    return measure.measure(config, *(settings[name] for name in ("warmup", "steps", "repeats", "seconds")))


KINDS = {"step": measure_step, "peer": lambda point, settings: peer.measure(point),
         "program": savings.measure_program, "epoch": savings.measure_epoch, "seeds": together.measure_seeds}


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The row of one point; raises `PointFailed`."""
    return KINDS[point["kind"]](point, settings)


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and the figures; returns the highest matmul share, the peers, what was wanted and found."""
    steps, peers, seeds = (gains.of_kind(record.measured, kind) for kind in ("step", "peer", "seeds"))
    peers, entries, seeds = peer.compare(peers), gains.compare(record.measured), together.compare(seeds)
    saved = {"targets": gains.targets(entries), "optimizer": gains.optimizer(record.measured)}
    platform = record.about["platform"]
    wanted, of_peer = together.targets(seeds, platform), together.peer_target(seeds, peers, platform)
    lines = [*table.head(record.about), *table.steps(steps), *table.peers(peers), *table.savings(entries, **saved),
             *table.seeds(seeds, wanted, of_peer)]
    (record.folder / "table.md").write_text("\n".join(lines) + "\n")
    figure.draw(record.about, steps, peers, record.folder / "figure.png")
    savings_figure.draw(record.about, entries, record.folder / "savings.png")
    together_figure.draw(record.about, seeds, record.folder / "seeds.png")
    best = max(steps, key=lambda row: row["matmul_share"], default=None)
    return {"highest_matmul_share": best and {"share": best["matmul_share"], "point": best["point"]},
            "peers": peers, "savings": saved if entries else None, "seeds": wanted if seeds else None,
            "seeds_of_peer": of_peer if seeds else None}
