"""What trains: a strategy is ordered patterns over the names of the parameters.

| strategy | trains |
|---|---|
| full | everything (Devlin 2018) |
| freeze | all but the embeddings and the bottom k layers (Merchant 2020, section 5) |
| last_n | the top n layers, and what stands on the encoder: freeze, counted from the top |
| head | what stands on the encoder |
| features | the same, with heads that are made for it (Peters 2019) |
| bitfit | the biases of encoder and pooler, those of LayerNorm too, and the head (Zaken 2022, section 3) |
| lora | low-rank updates beside the encoder's matrices, and what stands on it (Hu 2021; `lora.py`) |

What stands on the encoder (pooler, head ...) always trains, but for bitfit's pooler: a new model has it from
nowhere else. The encoder's layers are counted up to the last one that the head reads; those above are not run.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import optax

from flaxbert import trees
from flaxbert.config import Config
from flaxbert.errors import InputError, note, one_of


@dataclass(frozen=True)
class Strategy:
    """A strategy made concrete for one encoder.

    Attributes:
      patterns: ordered (regular expression over names, trains?); first match wins.
      frozen_prefix: what never changes, at the bottom, and therefore runs without dropout: -1 nothing, 0 the
        embeddings, k the embeddings and k layers.
    """

    patterns: tuple[tuple[str, bool], ...]
    frozen_prefix: int = -1

    def trains(self, params: Mapping) -> dict:
        """Tree of bool, True where a leaf trains. Raises as `trees.match`."""
        return trees.match(params, self.patterns)


def reached(trains: Mapping, last: int) -> dict:
    """`trains` without the layers above `last`, the last one that the head reads: no gradient comes to them."""
    def read(name: str) -> bool:
        layer = re.match(r"bert/layer_(\d+)/", name)
        return layer is None or int(layer[1]) < last
    return trees.map_named(lambda name, yes: yes and read(name), trains)


def check_new(config: Config, trains: Mapping, new: Collection[str]) -> None:
    """Refuses a strategy that would leave what is drawn at random as it is.

    Args:
      config: the settings.
      trains: tree of bool.
      new: parts of the model, such as `pooler`, that no weights were found for.

    Raises:
      InputError: one line.
    """
    for name, yes in trees.flatten(trains).items():
        part = name.split("/")[0]
        if part in new and not yes:
            raise InputError(f"--strategy={config.strategy}: --model={config.model} has no {part}, and a random "
                             "one would stay as it is; --pooling=mean does without")


def wrap(optimizer: optax.GradientTransformation, trains: Mapping) -> optax.GradientTransformation:
    """`optimizer` over the trained leaves alone: a frozen one holds no moments and no share of a norm."""
    return optax.selective_transform(optimizer, freeze_mask=trees.map_named(lambda _, yes: not yes, trains))


def _frozen(k: int) -> Strategy:
    """All but the embeddings and the bottom k layers."""
    bottom = "|".join(["embeddings", *(f"layer_{i}" for i in range(k))])
    return Strategy(((rf"bert/({bottom})/.*", False), (".*", True)), k)


def _full(config: Config, layers: int) -> Strategy:
    return Strategy(((".*", True),))


def _freeze(config: Config, layers: int) -> Strategy:
    k = config.frozen_layers
    if k > layers:
        raise InputError(f"--frozen_layers={k}: the head stands on {layers} layers; valid: 0 to {layers}")
    if not k:
        note("--strategy=freeze: everything trains; say with --frozen_layers how many layers do not")
        return _full(config, layers)
    return _frozen(k)


def _last_n(config: Config, layers: int) -> Strategy:
    n = config.trained_layers
    if not 1 <= n <= layers:
        raise InputError(f"--trained_layers={n}: the head stands on {layers} layers; last_n trains 1 or more")
    return _frozen(layers - n)


def _head(config: Config, layers: int) -> Strategy:
    return _frozen(layers)


def _bitfit(config: Config, layers: int) -> Strategy:
    return Strategy((("(bert/.*|pooler)/bias", True), ("(bert|pooler)/.*", False), (".*", True)))


def _lora(config: Config, layers: int) -> Strategy:
    if not layers:
        raise InputError("--strategy=lora: the head stands on the embeddings alone, and only layers have "
                         "updates; --strategy=head says what is meant")
    return Strategy((("bert/.*/lora_[ab]", True), ("bert/.*", False), (".*", True)))


class Row(NamedTuple):
    """A row of `STRATEGIES`: (settings, layers as of `make`) -> Strategy, and the settings it alone reads."""

    make: Callable[[Config, int], Strategy]
    reads: tuple[str, ...] = ()


STRATEGIES: dict[str, Row] = {
    "full": Row(_full),
    "freeze": Row(_freeze, ("frozen_layers",)),
    "head": Row(_head),
    "features": Row(_head),
    "last_n": Row(_last_n, ("trained_layers",)),
    "bitfit": Row(_bitfit),
    "lora": Row(_lora, ("lora_rank", "lora_alpha", "lora_targets")),
}


def make(config: Config, layers: int) -> Strategy:
    """The strategy that the settings name.

    Args:
      config: the settings.
      layers: of the encoder, up to the last one that the head reads.

    Raises:
      InputError: unknown --strategy, a setting that belongs to another one or to frozen layers where there are
        none, or a number of layers that does not fit the encoder.
    """
    chosen = one_of(config.strategy, tuple(STRATEGIES), "--strategy")
    for strategy, row in STRATEGIES.items():
        for name in row.reads if strategy != chosen else ():
            value = getattr(config, name)
            if value != getattr(Config, name):
                shown = ",".join(value) if isinstance(value, tuple) else value
                raise InputError(f"--{name}={shown}: needs --strategy={strategy}, not {chosen}")
    made = STRATEGIES[chosen].make(config, layers)
    if config.frozen_dropout and made.frozen_prefix < 0:
        raise InputError(f"--frozen_dropout: nothing is frozen from the embeddings up with --strategy={chosen}; "
                         "leave it out")
    return made
