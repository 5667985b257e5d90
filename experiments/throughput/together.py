"""Many seeds as one program beside the same seeds one after the other: S runs, window by window in turn.

Both sides have the program of their own kind, compiled once for all runs, and the batches that the runs really
have; together each run has as many rows as the fullest of them.
"""

import math
import statistics
from typing import Any

from experiments.throughput import measure, sources
from flaxbert import parallel, seeds
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.prepare import prepare

# Grid -> what is trained, by all its parameters.
SETUPS: dict[str, tuple[dict[str, Any], ...]] = {
    "tiny": ({"model": "tiny", "data": "full_length", "batch": 4, "length": 32, "dtype": "float32"},),
    "small": ({"model": "bundled", "data": "toy_pair", "batch": 16, "length": 128, "dtype": "float32"},),
    "paper": ({"model": "bundled", "data": "toy_pair", "batch": 16, "length": 128, "dtype": "bfloat16"},
              {"model": "minilm", "data": "mrpc", "batch": 16, "length": 128, "dtype": "bfloat16"},
              {"model": "bert_base", "data": "mrpc", "batch": 16, "length": 128, "dtype": "bfloat16"}),
}
SIDES = ("together", "in_turn")
# What was wanted of accelerators: model, seeds, so many times faster than one after the other.
TARGETS = (("bert_base", 25, 1.5), ("bundled", 25, 10.0))
# Likewise: model, seeds, in no more time than so many runs of the fastest PyTorch peer of the same batches.
PEER_TARGET = ("bert_base", 25, 3.0)
STEPS = 50  # of a run, from whose batches the windows are made


def check(settings: dict[str, Any]) -> None:
    """Raises `InputError` where --counts are no numbers of seeds."""
    if not all(count.isdigit() and int(count) for count in settings["counts"]):
        raise InputError(f"--counts={','.join(settings['counts'])}: should be numbers of seeds, from 1 on")


def points(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Each setup with each number of seeds."""
    return [{"kind": "seeds", **setup, "seeds": int(count)}
            for setup in sources.at_hand(SETUPS[settings["grid"]], settings["models"], "seeds")
            for count in settings["counts"]]


def measure_seeds(point: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """So many seeds, as one program and one after the other.

    Returns:
      rounds: dicts side -> seconds of one step of all seeds; of each side too: examples_per_second and
      tokens_per_second (real ones) of all seeds, padding_share, compile_seconds, program_bytes.

    Raises:
      PointFailed: they do not fit the device's memory.
    """
    config = Config.make(
        model=sources.model_folder(point["model"]), random_init=point["model"] == "bundled", dtype=point["dtype"],
        batch_size=point["batch"], max_steps=STEPS,
        **sources.data_settings(point["data"], point["length"], 2 * point["batch"]))
    with measure.fitting():
        parallel.start(config)
        ready = prepare(config, parallel.make(config).shards)
        configs = [config.of_seed(seed) for seed in range(point["seeds"])]
        programs = {side: measure.compile_programs(seeds.groups(ready, configs, size))
                    for side, size in zip(SIDES, (str(len(configs)), "1"), strict=True)}
        return _rounds(programs, settings, {"together": 1, "in_turn": len(configs)})


def _rounds(programs: dict[str, measure.Programs], settings: dict[str, Any],
            steps: dict[str, int]) -> dict[str, Any]:
    """The part of `measure_seeds` that runs; `steps`: of each side, for one of all seeds."""
    trainings = {side: measure.Training(each, each.placed()) for side, each in programs.items()}
    latest = {side: training.window(settings["warmup"] * steps[side])["seconds"] / settings["warmup"]
              for side, training in trainings.items()}
    windows = []
    for _ in range(settings["rounds"]):
        windows.append({})
        for side, training in trainings.items():
            size = max(settings["round_steps"], math.ceil(settings["round_seconds"] / latest[side]))
            windows[-1][side] = training.window(size * steps[side])
            latest[side] = windows[-1][side]["seconds"] / size
    for training in trainings.values():
        training.close()

    def rate(side: str, what: str) -> float:
        return statistics.median(each[side][what] / each[side]["seconds"] for each in windows)
    return {"rounds": [{side: each[side]["seconds"] * steps[side] / each[side]["steps"] for side in SIDES}
                       for each in windows],
            **{side: {"examples_per_second": rate(side, "examples"), "tokens_per_second": rate(side, "tokens"),
                      "padding_share": 1 - sum(each[side]["tokens"] for each in windows)
                      / sum(each[side]["processed"] for each in windows),
                      "compile_seconds": programs[side].seconds, "program_bytes": programs[side].bytes()}
               for side in SIDES}}


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a row: the row, and `faster`: of in turn / together over the rounds, see `measure.summary`."""
    return [{**row, "faster": measure.summary([each["in_turn"] / each["together"] for each in row["rounds"]])}
            for row in rows]


def targets(entries: list[dict[str, Any]], platform: str) -> list[dict[str, Any]]:
    """What was wanted of seeds together and what was found: model, seeds, wanted, found, met.

    Args:
      entries: from `compare`.
      platform: of the JAX device; nothing was wanted of a CPU, so that the last two are None there.
    """
    found = {(entry["point"]["model"], entry["point"]["seeds"]): entry["faster"]["median"]
             for entry in entries if platform != "cpu"}
    return [{"model": model, "seeds": count, "wanted": wanted, "found": found.get((model, count)),
             "met": found[model, count] >= wanted if (model, count) in found else None}
            for model, count, wanted in TARGETS]


_ALIKE = ("model", "data", "batch", "length")


def peer_target(entries: list[dict[str, Any]], peers: list[dict[str, Any]], platform: str) -> dict[str, Any]:
    """Likewise of the PyTorch peer's runs: found is how many of them take the time of our seeds together.

    Args:
      entries: from `compare`.
      peers: from `peer.compare`.
      platform: as of `targets`.
    """
    model, count, wanted = PEER_TARGET
    found = None
    for entry in entries if platform != "cpu" else ():
        point = entry["point"]
        rates = [peer["train_examples_per_second"] for peer in peers if peer["side"] != "flaxbert"
                 and all(peer[name] == point[name] for name in _ALIKE)]
        if (point["model"], point["seeds"]) == (model, count) and rates:
            found = count * max(rates) / entry["together"]["examples_per_second"]
    return {"model": model, "seeds": count, "wanted": wanted, "found": found,
            "met": None if found is None else found <= wanted}
