"""The throughput study: what is measured, in which preset. Question, commands and results: README.md."""

import itertools
from typing import Any

from experiments.records import Records, device
from experiments.throughput import figure, measure, peer, sources, table
from flaxbert.config import Config
from flaxbert.errors import InputError, note, one_of
from flaxbert.pretrained import load

QUESTION = ("How fast does training run on this device, what share of its matmul rate is that, and how fast is "
            "PyTorch?")

FLAGS = {
    "models": f"Only these of the preset's models ({', '.join(sources.MODELS)}).",
    "warmup": "Steps that are not counted, at least 1.",
    "steps": "Steps of one timed window, at least.",
    "seconds": "Seconds of one timed window, at least.",
    "repeats": "Timed windows of a point; its figures are their medians.",
    "peer": "Time the Hugging Face Trainer on PyTorch too, and flaxbert beside it, in turn.",
    "peer_variants": f"Settings of the peer ({', '.join(peer.VARIANTS)}).",
    "peer_examples": "Training examples of each of those runs, one epoch.",
    "peer_repeats": "How often each side runs.",
}

# What trains -> settings, for an encoder of so many layers: two thirds are 8 of BERT-base's 12.
STRATEGIES = {
    "full": lambda layers: {},
    "half": lambda layers: {"frozen_layers": layers // 2},
    "two_thirds": lambda layers: {"frozen_layers": layers * 2 // 3},
    "head": lambda layers: {"strategy": "head"},
}

AXES = ("model", "data", "batch", "length", "strategy", "dtype", "packing")


def _grid(model: str, batch: int, length: int, **other: tuple) -> dict[str, tuple]:
    """All combinations of these values; every axis but model, batch and length has a usual one."""
    usual = {"data": ("full_length",), "strategy": ("full",), "dtype": ("float32",), "packing": (True,)}
    return {"model": (model,), "batch": (batch,), "length": (length,), **usual, **other}


_ALL = tuple(STRATEGIES)
_BF16 = {"dtype": ("bfloat16",)}
_REAL = {"data": tuple(sources.FOLDERS), "packing": (True, False)}

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

_MODELS = {"models": sources.MODELS}
PRESETS: dict[str, dict[str, Any]] = {
    # Seconds: does everything work.
    "tiny": {**_MODELS, "grid": "tiny", "warmup": 1, "steps": 2, "seconds": 0.0, "repeats": 2, "peer": False,
             "peer_variants": ("fp32",), "peer_model": "bundled", "peer_batch": 8, "peer_length": 64,
             "peer_examples": 96, "peer_repeats": 1},
    # Under ten minutes on two CPU cores, without the peer.
    "small": {**_MODELS, "grid": "small", "warmup": 1, "steps": 4, "seconds": 1.0, "repeats": 3, "peer": False,
              "peer_variants": ("fp32", "bf16_grouped"), "peer_model": "minilm", "peer_batch": 32,
              "peer_length": 128, "peer_examples": 1280, "peer_repeats": 3},
    # An accelerator.
    "paper": {**_MODELS, "grid": "paper", "warmup": 10, "steps": 20, "seconds": 3.0, "repeats": 5, "peer": False,
              "peer_variants": ("bf16", "bf16_grouped", "bf16_grouped_compiled"), "peer_model": "bert_base",
              "peer_batch": 32, "peer_length": 128, "peer_examples": 0, "peer_repeats": 3},
}


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Every point once: first the peers, while this process holds no memory of the device, then the steps."""
    if min(settings["warmup"], settings["steps"], settings["repeats"], settings["peer_repeats"]) < 1:
        raise InputError("--warmup, --steps, --repeats and --peer_repeats: at least 1 each")
    for name in settings["models"]:
        one_of(name, sources.MODELS, "--models")
    for name in settings["peer_variants"]:
        one_of(name, tuple(peer.VARIANTS), "--peer_variants")
    found, missing = _peer_points(settings) if settings["peer"] else [], set()
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
    folder = sources.model_folder(point["model"])
    layers = load(folder).config.num_hidden_layers
    steps = settings["warmup"] + settings["steps"] * settings["repeats"]
    config = Config.make(
        model=folder, random_init=point["model"] == "bundled", dtype=point["dtype"],
        packing=point["packing"], batch_size=point["batch"], max_steps=steps,
        **sources.data_settings(point["data"], point["length"], 2 * point["batch"]),
        **STRATEGIES[point["strategy"]](layers))
    return measure.measure(config, *(settings[name] for name in ("warmup", "steps", "repeats", "seconds")))


KINDS = {"step": measure_step, "peer": lambda point, settings: peer.measure(point)}


def measure_point(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The row of one point; raises `PointFailed`."""
    return KINDS[point["kind"]](point, settings)


def report(record: Records) -> dict[str, Any]:
    """Writes table.md and figure.png; returns the highest matmul share and the ratios to the peer."""
    steps = [row for row in record.measured if row["point"]["kind"] == "step"]
    peers = peer.compare([row for row in record.measured if row["point"]["kind"] == "peer"])
    (record.folder / "table.md").write_text(table.markdown(record.about, steps, peers))
    figure.draw(record.about, steps, peers, record.folder / "figure.png")
    best = max(steps, key=lambda row: row["matmul_share"], default=None)
    return {"highest_matmul_share": best and {"share": best["matmul_share"], "point": best["point"]},
            "peers": peers}
