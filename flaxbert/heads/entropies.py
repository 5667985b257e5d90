"""How undecided a model is: the entropy of what it predicts. Letters: see `heads`.

Each function takes what its kind's loss takes, and returns two arrays of the shape of the weights: the entropy
-sum_c p_c log p_c in nats, and the most that it can be, log C.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flaxbert.heads import crf, pooling
from flaxbert.heads.losses import NEVER, Batch

Entropy = tuple[jax.Array, jax.Array]


def of(scores: jax.Array, there: jax.Array | None = None) -> Entropy:
    """Of softmax(scores) over the last axis, C of it or those that are `there`; [..., C] -> [...] twice."""
    if there is None:
        there = jnp.ones(scores.shape, bool)
    log_p = jax.nn.log_softmax(jnp.where(there, scores, NEVER))
    return -(jnp.exp(log_p) * log_p).sum(-1), jnp.log(jnp.maximum(there.sum(-1), 1))


def of_classes(logits: jax.Array, batch: Batch) -> Entropy:
    """One of C; logits [..., C]."""
    return of(logits)


def of_labels(logits: jax.Array, batch: Batch) -> Entropy:
    """The mean of C answers, yes or no each; logits [..., C]."""
    each, most = of(jnp.stack([logits, jnp.zeros_like(logits)], -1))
    return each.mean(-1), most.mean(-1)


def of_choices(scores: jax.Array, batch: Batch) -> Entropy:
    """One of the choices that an example has; scores [R, E, P]."""
    return of(scores, batch["first"] >= 0)


def of_spans(logits: jax.Array, batch: Batch) -> Entropy:
    """The mean of where the answer begins and where it ends, each one of a slot's own tokens; logits [R, T, 2]."""
    own = pooling.own(batch["sequence"], batch["labels"].shape[1])[:, None]
    scores = jnp.moveaxis(logits, 2, 1)[:, :, None]
    each, most = of(*jnp.broadcast_arrays(scores, own))
    return each.mean(1), most.mean(1)


def of_chain(chain: crf.Chain, batch: Batch) -> Entropy:
    """Of each token's label, whatever the others are: p(label) of a CRF, not that of whole chains."""
    return of(jnp.log(jnp.maximum(crf.told(chain, batch)[..., :-2], 1e-30)))


def of_words(logits: dict[str, jax.Array], batch: Batch) -> Entropy:
    """One of V words where one is masked; logits["mlm"] [R, M, V]."""
    return of(logits["mlm"])


# Kind of a task -> the entropy of what its model predicts; a number that is no class has none.
ENTROPIES: dict[str, Callable[[Any, Batch], Entropy]] = {
    "classification": of_classes, "multi_label": of_labels, "choice": of_choices, "token": of_classes,
    "span": of_spans, "pretraining": of_words}
