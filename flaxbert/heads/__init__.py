"""What stands on the encoder: a head for each kind of task, its loss, and encoder and head as one model.

    encoder -> layers.py -> bilstm.py -> pooling.py -> outputs (sequence, choice, token, span, pretraining; crf.py)

Letters: R rows, T tokens a row, E slots a row (examples that a row can hold), P sequences of an example, N = E P
sequences of a row, M masked tokens a row, S layers, D width of the encoder, F width of what a head sees, H units
of a direction, C outputs, V vocabulary.
"""

from collections.abc import Callable, Collection
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from flaxbert.heads import crf
from flaxbert.heads.base import Batch, Model
from flaxbert.heads.choice import ChoiceModel
from flaxbert.heads.config import HeadConfig
from flaxbert.heads.losses import (
    NEVER,
    binary_cross_entropy,
    cross_entropy,
    pretraining_losses,
    span_cross_entropy,
    squared_error,
)
from flaxbert.heads.pretraining import PretrainingModel
from flaxbert.heads.sequence import SequenceModel
from flaxbert.heads.span import SpanModel
from flaxbert.heads.token import TokenModel

__all__ = [
    "LOSSES", "MODELS", "NEVER", "OWN", "Batch", "ChoiceModel", "HeadConfig", "Model", "PretrainingModel",
    "SequenceModel", "SpanModel", "TokenModel", "binary_cross_entropy", "cross_entropy", "init", "loss",
    "pretraining_losses", "shapes", "span_cross_entropy", "squared_error"]

# Kind of a task -> its model, and its loss: (logits, batch) -> losses of the same shapes as batch["weights"].
MODELS: dict[str, type[Model]] = {
    "classification": SequenceModel, "regression": SequenceModel, "multi_label": SequenceModel,
    "choice": ChoiceModel, "token": TokenModel, "span": SpanModel, "pretraining": PretrainingModel}
LOSSES: dict[str, Callable[[Any, Batch], Any]] = {
    "classification": cross_entropy, "regression": squared_error, "multi_label": binary_cross_entropy,
    "choice": cross_entropy, "token": cross_entropy, "span": span_cross_entropy, "pretraining": pretraining_losses}
# The parts of a model that are a task's own: a new task never takes them over.
OWN = ("mix", "body", "attention", "head", "crf")


def loss(kind: str, class_weights: tuple[float, ...] = (), chain: bool = False) -> Callable[[Any, Batch], Any]:
    """The loss of a kind of task.

    Args:
      kind: a key of LOSSES.
      class_weights: C of them weigh the labels of multi-label tasks; those of single-label tasks are
        weights of examples, and come with the batch.
      chain: of a CRF.
    """
    if chain:
        return crf.loss
    if kind == "multi_label" and class_weights:
        return partial(binary_cross_entropy, class_weights=jnp.asarray(class_weights, jnp.float32))
    return LOSSES[kind]


@cache
def shapes(model: Model) -> dict:
    """The parameters of `model` as shapes, nothing drawn; not to be changed by who asks."""
    return jax.eval_shape(partial(_draw, model), jax.random.key(0))


def init(model: Model, seed: int, parts: Collection[str] | None = None) -> dict:
    """Random parameters of `model`, a nested dict of float32 arrays, from `seed` alone.

    All layers of the encoder are there, whichever the head reads. A part is the same whichever others are drawn
    with it, but for the last binary digit.

    Args:
      model: gives names and shapes.
      seed: the same parameters for the same number.
      parts: the names at the top of the tree, as "head"; default all. A few of them are one program, made once
        for a model; all are drawn lazily: nothing but the initialisers runs, one small program a shape, whatever
        the number of layers.
    """
    key = jax.random.key(seed)
    if parts is None:
        return _draw(model, key)
    return _drawer(model, tuple(sorted(parts)))(key) if parts else {}


@cache
def _drawer(model: Model, parts: tuple[str, ...]) -> Callable[[jax.Array], dict]:
    """The program of some parts: what belongs to the others is traced once, and never run."""
    def draw(key: jax.Array) -> dict:
        every = _draw(model, key)
        return {part: every[part] for part in parts}
    return jax.jit(draw)


def _draw(model: Model, key: jax.Array) -> dict:
    fields = dict.fromkeys(("tokens", "types", "positions", "sequence"), jax.ShapeDtypeStruct((1, 2), jnp.int32))
    one, two = (jax.ShapeDtypeStruct((1, 1, *more), jnp.int32) for more in ((), (2,)))
    several = isinstance(model, ChoiceModel) or model.top.pair == "separate"
    batch = {**fields, "first": two if several else one, "masked": one}
    return model.clone(cached=()).lazy_init(key, batch)["params"]
