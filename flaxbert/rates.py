"""How fast each part of a model learns, and from which step on.

The parts, from the top: what stands on the encoder, layer L, ..., layer 1, the embeddings. The depth of a part is
its place in this list, from 0: that of what stands on the encoder (pooler, head ...) is 0, that of layer l is
L + 1 - l, that of the embeddings L + 1.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import optax

from flaxbert import trees
from flaxbert.config import Config
from flaxbert.errors import note

DISCRIMINATIVE = 1 / 2.6


class Rate(NamedTuple):
    """The learning rate of a part.

    Attributes:
      share: of the scheduled rate.
      start: the step, from 0, at which it begins to train.
    """

    share: float = 1.0
    start: int = 0

    def schedule(self, learning_rate: optax.Schedule) -> optax.Schedule:
        """The part's own learning rate, from the number of updates since its start."""
        return lambda count: self.share * learning_rate(count + self.start)


def part(name: str) -> str:
    """The part that a leaf belongs to: embeddings, layer_0 ..., or head for all that stands on the encoder."""
    inside = re.match("bert/([^/]+)/", name)
    return inside[1] if inside else "head"


def make(config: Config, layers: int, steps_per_epoch: int) -> dict[str, Rate]:
    """The rates of all parts; empty where they learn alike and at once.

    With depth k and the scheduled rate lr(s) of step s:

      layerwise_decay d:  lr(s) d^k                    pooler and head lr, layer L lr d, embeddings lr d^(L + 1)
      discriminative:     lr(s) / 2.6^k                the same, with the paper's d
      gradual:            lr(s) from step k N on, where N steps are an epoch: epoch e, from 0, trains the head and
                          the top e layers, the embeddings last; the others run as ever, with dropout

    Args:
      config: `layerwise_decay` and `unfreeze`.
      layers: L, up to the last one that the head reads.
      steps_per_epoch: N.

    Source: Howard and Ruder 2018 (1801.06146), sections 3.2 and 3.3; Clark et al. 2020 (2003.10555), whose code
    starts at d^2 for layer L; we at d.
    """
    decay = DISCRIMINATIVE if config.unfreeze == "discriminative" else config.layerwise_decay
    epoch = steps_per_epoch if config.unfreeze == "gradual" else 0
    if decay == 1 and not epoch:
        return {}
    parts = ["head", *(f"layer_{i}" for i in reversed(range(layers))), "embeddings"]
    return {name: Rate(decay**depth, depth * epoch) for depth, name in enumerate(parts)}


def in_time(trains: Mapping, begins: Mapping | None, total_steps: int) -> Mapping:
    """Which leaves train at all in a run of so many steps; says so where some of them come too late.

    Args:
      trains: tree of bool, as far as the strategy goes.
      begins: see `begins`.
      total_steps: of the run.
    """
    if begins is None:
        return trains
    late = {name for name, start in trees.flatten(begins).items() if start >= total_steps}
    late_parts = {part(name) for name, yes in trees.flatten(trains).items() if yes and name in late}
    if late_parts:
        note(f"--unfreeze=gradual: the run ends before the turn of {', '.join(sorted(late_parts))}; more --epochs "
             "train them too")
    return trees.map_named(lambda name, yes: yes and name not in late, trains)


def begins(rates: Mapping[str, Rate], params: Mapping) -> dict | None:
    """Tree of int, the step at which each leaf begins to train; None where all begin at once."""
    if not any(rate.start for rate in rates.values()):
        return None
    return trees.map_named(lambda name, _: rates.get(part(name), Rate()).start, params)
