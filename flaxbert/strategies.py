"""What trains: a strategy is ordered patterns over the names of the parameters.

`full` trains everything (Devlin 2018). `freeze` keeps the embeddings and the bottom k layers as they
are (Merchant 2020, section 5: partial freezing). `head` trains the pooler and the head alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optax

from flaxbert import trees
from flaxbert.config import Config
from flaxbert.errors import InputError, one_of


@dataclass(frozen=True)
class Strategy:
    """A strategy made concrete for one encoder.

    Attributes:
      patterns: ordered (regular expression over names, trains?); first match wins.
      frozen_layers: so many bottom layers, and the embeddings, are frozen; 0: neither.
    """

    patterns: tuple[tuple[str, bool], ...]
    frozen_layers: int

    def trains(self, params: Mapping) -> dict:
        """Tree of bool, True where a leaf trains. Raises as `trees.match`."""
        return trees.match(params, self.patterns)

    def wrap(self, optimizer: optax.GradientTransformation, params: Mapping) -> optax.GradientTransformation:
        """`optimizer` over the trained leaves alone: a frozen one holds no moments and no share of a norm."""
        frozen = trees.map_named(lambda _, trains: not trains, self.trains(params))
        return optax.selective_transform(optimizer, freeze_mask=frozen)


def _full(config: Config, layers: int) -> Strategy:
    if config.frozen_layers:
        raise InputError(f"--frozen_layers={config.frozen_layers}: needs --strategy=freeze, not full")
    return Strategy(((".*", True),), 0)


def _freeze(config: Config, layers: int) -> Strategy:
    k = config.frozen_layers
    if k > layers:
        raise InputError(f"--frozen_layers={k}: the model has {layers} layers; valid: 0 to {layers}")
    if not k:
        return Strategy(((".*", True),), 0)
    bottom = "|".join(str(i) for i in range(k))
    return Strategy(((r"bert/embeddings/.*", False), (rf"bert/layer_({bottom})/.*", False), (".*", True)), k)


def _head(config: Config, layers: int) -> Strategy:
    if config.frozen_layers:
        raise InputError(f"--frozen_layers={config.frozen_layers}: needs --strategy=freeze, not head")
    return Strategy(((r"bert/.*", False), (".*", True)), layers)


STRATEGIES: dict[str, Callable[[Config, int], Strategy]] = {"full": _full, "freeze": _freeze, "head": _head}


def make(config: Config, layers: int) -> Strategy:
    """The strategy that the settings name, for an encoder of so many layers.

    Raises:
      InputError: unknown --strategy, or --frozen_layers that does not fit it or the encoder.
    """
    return STRATEGIES[one_of(config.strategy, tuple(STRATEGIES), "--strategy")](config, layers)
