"""flaxbert and the PyTorch Trainer on the same files, each in a program of its own, one after the other."""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.records import ROOT, PointFailed
from experiments.throughput import sources
from flaxbert.model_files import BUNDLED

# Settings of the peer -> flags of experiments/peers/hf_trainer.py.
VARIANTS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "bf16": ("--bf16",),
    "bf16_grouped": ("--bf16", "--group_by_length"),
    "bf16_grouped_compiled": ("--bf16", "--group_by_length", "--compile"),
}
RATES = ("train_examples_per_second", "train_tokens_per_second")


def unusable(platform: str) -> str:
    """Why the peer cannot be timed here; empty where it can.

    Args:
      platform: of the JAX device: cpu, gpu or tpu.
    """
    missing = [name for name in ("torch", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (pip install -e .[torch])"
    return "PyTorch has no TPU here, and a CPU would be no comparison" if platform == "tpu" else ""


def measure(point: dict[str, Any]) -> dict[str, Any]:
    """One training run of one side, as a program of its own.

    Args:
      point: side (flaxbert or one of VARIANTS), model, data, batch, length, examples (0: all).

    Returns:
      train_examples_per_second and train_tokens_per_second (real tokens), dev: metric -> value, and more of
      what that side prints.

    Raises:
      PointFailed: the program did not end well; with its last line.
    """
    folder = sources.model_folder(point["model"])
    data = sources.data_settings(point["data"], point["length"], 0)
    model = str(BUNDLED) if folder == "bundled" else folder
    flags = [f"--task={data['task']}", f"--data_dir={data['data_dir']}", f"--batch_size={point['batch']}",
             f"--max_length={point['length']}", f"--max_train_examples={point['examples']}", "--epochs=1",
             "--learning_rate=5e-5", "--seed=0"]
    if not (Path(model) / "model.safetensors").is_file():
        flags.append("--random_init")
    if point["side"] == "flaxbert":
        return _ours([f"--model={folder}", *flags])
    return _peer([f"--model={model}", *flags, *VARIANTS[point["side"]]])


def _ours(flags: list[str]) -> dict[str, Any]:
    """`flaxbert finetune`, and what it wrote to result.json."""
    with tempfile.TemporaryDirectory() as folder:
        _call(["flaxbert", "finetune", *flags, f"--output_dir={folder}/run", "--tensorboard=false",
               "--evals_per_epoch=0", "--log_every=1000"])
        result = json.loads((Path(folder) / "run" / "result.json").read_text())
    return {"train_examples_per_second": result["examples_per_second"],
            "train_tokens_per_second": result["tokens_per_second"], "padding_share": result["padding_share"],
            "dev": {name: value for name, value in result["metrics"]["dev"].items() if name != "loss"}}


def _peer(flags: list[str]) -> dict[str, Any]:
    """The peer, and the JSON line that it prints last; paths of this machine are no part of a record."""
    said = _call(["experiments.peers.hf_trainer", *flags]).strip().splitlines()[-1]
    return json.loads(said.replace(os.environ.get("FLAXBERT_DATA") or "\0", "$FLAXBERT_DATA"))


def _call(arguments: list[str]) -> str:
    """Runs a module; its standard output. Raises `PointFailed`."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise PointFailed(f"{arguments[0]} ended with {done.returncode}: {last[:300]}")
    return done.stdout


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a side and task: medians over the repeats, and what flaxbert's are of the peer's.

    Args:
      rows: of kind peer.

    Returns:
      flaxbert first, then the variants; `ratio` is flaxbert's median of real tokens a second over the
      side's, `lowest` and `highest` are of single runs.
    """
    found = []
    for task in _distinct([_task(row) for row in rows]):
        here = [row for row in rows if _task(row) == task]
        ours = _rates([row for row in here if row["point"]["side"] == "flaxbert"])
        for side in _distinct([row["point"]["side"] for row in here]):
            runs = [row for row in here if row["point"]["side"] == side]
            tokens = _rates(runs)
            found.append({
                **task, "side": side, "runs": len(runs),
                **{name: statistics.median(row[name] for row in runs) for name in RATES},
                "lowest": min(tokens), "highest": max(tokens), "padding_share": runs[-1]["padding_share"],
                "ratio": statistics.median(ours) / statistics.median(tokens) if ours else None,
                "dev": runs[-1]["dev"]})
    return found


def _task(row: dict[str, Any]) -> dict[str, Any]:
    """What both sides of a comparison have in common."""
    return {name: value for name, value in row["point"].items() if name not in ("kind", "side", "repeat")}


def _rates(rows: list[dict[str, Any]]) -> list[float]:
    return [row["train_tokens_per_second"] for row in rows]


def _distinct(values: list[Any]) -> list[Any]:
    """Each value once, in the order of its first appearance."""
    return [value for i, value in enumerate(values) if value not in values[:i]]
