"""What keeps fine-tuning close to where it starts, or lets it start afresh.

Mixout and decay toward the initial weights (`optimizers.decay_weights`) hold the encoder's matrices to their
initial values, the anchor, and those of BERT's pooler; re-initialisation forgets what pre-training left at the
top. Biases, LayerNorm parameters and heads are never held. Each goes with any strategy that trains what it acts
on.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from flaxbert import trees
from flaxbert.bert import BertConfig, drop
from flaxbert.config import Config
from flaxbert.errors import InputError

ANCHORED = "(bert/.*|pooler)/(kernel|embedding)"  # what --pretrained_decay decays toward its initial values
MIXED = "(bert/.*|pooler)/kernel"  # what --mixout mixes
MIXOUT_SITE = 2**31 - 1  # keys its masks: no site of dropout in bert.py has this number

# Setting -> what of the encoder has to train for it to do anything: in words, and as a pattern of names.
_NEEDS = {"layerwise_decay": ("nothing", "bert/.*"), "unfreeze": ("nothing", "bert/.*"),
          "mixout": ("no dense matrix", "bert/.*/kernel"),
          "pretrained_decay": ("no matrix", "bert/.*/(kernel|embedding)")}


def check(config: Config, trains: Mapping) -> None:
    """Refuses remedies that would do nothing.

    Args:
      config: the settings.
      trains: tree of bool over the parameters.

    Raises:
      InputError: one line.
    """
    names = [name for name, yes in trees.flatten(trains).items() if yes]
    for setting, (what, pattern) in _NEEDS.items():
        value = getattr(config, setting)
        if (value != getattr(Config, setting)
                and not any(re.fullmatch(pattern, name) for name in names)):
            raise InputError(f"--{setting}={value}: --strategy={config.strategy} trains {what} of the encoder")


# --- a new start

def reinitialise(params: Mapping[str, Any], config: Config, shape: BertConfig, layers: int,
                 trains: Mapping) -> dict[str, Any]:
    """The top layers, the pooler, or both drawn anew, from seed and names alone.

    W ~ N(0, initializer_range^2), a plain normal; biases 0, LayerNorm 1 and 0.

    Args:
      params: of an encoder with heads.
      config: `reinit_layers`, `reinit_pooler` and the seed of init.
      shape: of the encoder; BERT's initializer_range is 0.02.
      layers: of the encoder, up to the last one that the head reads.
      trains: tree of bool: what is drawn anew has to train.

    Raises:
      InputError: more layers than there are, no pooler, or one of them does not train.

    Source: Zhang et al. 2021 (2006.05987), section 5.
    """
    count = config.reinit_layers
    if count > layers:
        raise InputError(f"--reinit_layers={count}: the head stands on {layers} layers; valid: 0 to {layers}")
    if config.reinit_pooler and "pooler" not in params:
        raise InputError("--reinit_pooler: this model has no pooler")
    new = {"kernel": lambda name, x: trees.normal(config.seed_of("init"), name, x.shape, shape.initializer_range),
           "bias": lambda _, x: np.zeros_like(x), "scale": lambda _, x: np.ones_like(x)}
    asked = {f"--reinit_layers={count}": [f"bert/layer_{i}/" for i in range(layers - count, layers)],
             "--reinit_pooler": ["pooler/"] if config.reinit_pooler else []}
    flat, trained = trees.flatten(params), trees.flatten(trains)
    for flag, modules in asked.items():
        for name in [name for name in flat if name.startswith(tuple(modules))]:
            if not trained[name]:
                raise InputError(f"{flag}: what is drawn anew has to train; --strategy={config.strategy} leaves "
                                 f"{name} as it is")
            flat[name] = new[name.rpartition("/")[2]](name, flat[name])
    return trees.unflatten(flat)


# --- held to the start

def held(config: Config) -> str:
    """Pattern of the names of what the settings hold to its initial value; "": nothing."""
    return ANCHORED if config.pretrained_decay else MIXED if config.mixout else ""


def anchor(config: Config, params: Mapping[str, Any], trains: Mapping) -> dict[str, Any] | None:
    """The initial weights that the settings hold the training to; None: none.

    Args:
      config: `mixout` and `pretrained_decay`.
      params: before the first step, on the host.
      trains: tree of bool.
    """
    pattern = held(config)
    if not pattern:
        return None
    trained = trees.flatten(trains)
    return trees.unflatten({name: leaf for name, leaf in trees.flatten(params).items()
                            if trained[name] and re.fullmatch(pattern, name)})


def perturbation(config: Config) -> Callable | None:
    """How training's forward pass sees the trained leaves, for `make_train_step`; None: as they are."""
    return partial(mixout, rate=config.mixout) if config.mixout else None


def mixout(trained: Mapping[str, Any], anchor: Mapping[str, Any], key: jax.Array, rate: float) -> dict[str, Any]:
    """Each element of the dense matrices of encoder and pooler, with probability `rate`, as it was at the start.

    With M ~ Bernoulli(p) for each element, drawn from the step's key and the leaf's name, the forward pass sees

      ((1 - M) W + M W0 - p W0) / (1 - p)  =  W0 + (1 - M) (W - W0) / (1 - p),

    whose mean over M is W: dropout of W - W0.

    Args:
      trained: the leaves that train.
      anchor: W0 of those that are mixed.
      key: of the step: all rows, devices and micro-batches share the mask.
      rate: p; rounded to a multiple of 2^-16.

    Source: Lee et al. 2020 (1909.11299), section 4; their code too mixes dense layers and no others. They use it
    in place of dropout (--dropout=0).
    """
    key, initial = jax.random.fold_in(key, MIXOUT_SITE), trees.flatten(anchor)

    def mixed(name: str, w: jax.Array) -> jax.Array:
        if not re.fullmatch(MIXED, name):
            return w
        of_leaf = jax.random.fold_in(key, trees.number(name))
        return initial[name] + drop((w - initial[name])[None], of_leaf[None], rate)[0]
    return trees.map_named(mixed, trained)
