"""A run whose encoder is kept at chosen steps, and what each of them says of the layers.

Letters: S = L + 1 states of a token, of which number 0 is the embeddings' output.
"""

import dataclasses
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.records import PointFailed
from flaxbert import parallel, tasks, trees
from flaxbert.analysis.base import ANALYSES, Settings
from flaxbert.analysis.distance import ALL
from flaxbert.analysis.models import Pair
from flaxbert.analysis.subject import Subject
from flaxbert.checkpoint import Memory
from flaxbert.config import Config
from flaxbert.loop import Loop
from flaxbert.prepare import Ready, prepare
from flaxbert.pretrained import Pretrained
from flaxbert.seeds import Group
from flaxbert.statistics.baseline import majority_baseline
from flaxbert.steps import TrainState

TRAINED, RANDOM = "trained", "random"
OF_STATES = ("rsa", "cka", "shift")  # the analyses that look at texts


class Snapshots(Memory):
    """In place of a run's checkpoints: its encoder at chosen steps.

    Args:
      steps: the chosen ones.

    Attributes:
      encoders: step -> parameters on the host.
    """

    def __init__(self, steps: Collection[int]):
        super().__init__()
        self._steps = frozenset(steps)
        self.encoders: dict[int, dict[str, Any]] = {}

    def save(self, state: TrainState, about: dict[str, Any]) -> None:
        """Keeps the encoder of a state on the host, where its step is a chosen one."""
        if int(state.step) in self._steps:
            self.encoders[int(state.step)] = state.params["bert"]


def steps(total: int, count: int) -> tuple[int, list[int]]:
    """The last step and, before it, steps of which each is twice the one before.

    Args:
      total: steps of the run.
      count: how many at most.

    Returns:
      the first of them, of which all but the last are multiples; and all.
    """
    every = max(1, total // 2 ** (count - 1))
    return every, [*(step for k in range(count - 1) if (step := every * 2 ** k) < total), total]


def follow(config: Config, count: int) -> tuple[Ready, dict[str, Any], dict[int, dict[str, Any]]]:
    """Trains one run, whose folder is not kept.

    Args:
      config: its settings.
      count: of the steps at which its encoder is kept, see `steps`.

    Returns:
      what it was made from; its result.json; step -> parameters of the encoder.

    Raises:
      PointFailed: the loss was not finite.
    """
    config = tasks.settled(config.absolute())
    parallel.start(config)
    placement = parallel.make(config)
    ready = prepare(config, placement.shards)
    every, chosen = steps(ready.total_steps, count)
    ready = dataclasses.replace(ready, config=dataclasses.replace(config, save_every=every))
    with tempfile.TemporaryDirectory(prefix="flaxbert-study-") as scratch:
        loop = Loop(Group([ready], placement), [(Path(scratch), Path(scratch))], None,
                    majority_baseline(ready.task, ready.splits["dev"]))
        [run] = loop.runs
        run.checkpoints.close()
        run.checkpoints = kept = Snapshots(chosen)
        [result] = loop.go()
    if result["status"] == "failed":
        raise PointFailed(result["failure"])
    if result["status"] == "interrupted":
        raise KeyboardInterrupt
    return ready, result, kept.encoders


def random_directions(before: Mapping[str, Any], after: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """W0 + |W1 - W0| G / |G| of each matrix and vector, G of independent N(0, 1): as far, any other way.

    Args:
      before, after: trees W0 and W1.
      seed: draws G.
    """
    new = trees.flatten(after)

    def moved(name: str, w0: np.ndarray) -> np.ndarray:
        direction = trees.normal(seed, name, w0.shape, 1.0)
        length = np.linalg.norm(np.asarray(new[name], np.float64) - w0)
        return (w0 + direction * (length / np.linalg.norm(direction.astype(np.float64)))).astype(np.float32)
    return trees.map_named(moved, before)


def changes(source: Pretrained, encoders: Mapping[int, Mapping[str, Any]], config: Config, settings: Settings,
            seed: int) -> list[dict[str, Any]]:
    """What the analyses say of the encoder at each step, and of one as far in random directions as the last.

    Args:
      source: the pre-trained model.
      encoders: step -> parameters.
      config: of the run.
      settings: of the analyses.
      seed: draws the directions.

    Returns:
      {"step", "direction": TRAINED or RANDOM, "text": "" of parameters, "measure", "tokens", "values": [S]}.
    """
    last = max(encoders)
    compared = [(step, TRAINED, encoder) for step, encoder in sorted(encoders.items())]
    compared.append((last, RANDOM, random_directions(source.params["bert"], encoders[last], seed)))
    found, texts = [], None
    for step, direction, encoder in compared:
        after = dataclasses.replace(source, source=f"step {step}", params={"bert": encoder}, origin={})
        subject = Subject(Pair(source, after, config), settings)
        if texts is not None:
            subject.texts = texts  # read once
        texts = subject.texts
        rows = [row for name in OF_STATES for row in ANALYSES[name].measure(subject)]
        rows += [row for row in ANALYSES["distance"].measure(subject)
                 if (row["kind"], row["measure"]) == (ALL, "relative") and row["layer"] is not None]
        found += [{"step": step, "direction": direction, **each} for each in by_measure(rows)]
    return found


def by_measure(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of analyses with the values of all layers together, from the lowest; where each has one."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row.get("text", ""), row["measure"]), []).append(row)
    return [{"text": text, "measure": measure, "tokens": own[0].get("tokens"),
             "values": [round(row["value"], 7) for row in sorted(own, key=lambda row: row["layer"])]}
            for (text, measure), own in groups.items() if all(row["value"] is not None for row in own)]
