"""Losses of the same shapes as batch["weights"]. Letters: see `heads`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

Batch = Mapping[str, Any]
NEVER = -1e9  # the score of what cannot be chosen


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """-log softmax(logits)[label]; logits [..., C], labels [...] int32 -> [...]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])


def squared_error(logits: jax.Array, batch: Batch) -> jax.Array:
    """(logits[0] - label)^2 on the raw score; logits [..., 1], labels [...] float32 -> [...]."""
    return jnp.square(logits[..., 0] - batch["labels"])


def binary_cross_entropy(logits: jax.Array, batch: Batch, class_weights: jax.Array | None = None) -> jax.Array:
    """Mean over C of the logistic loss, weighted by class_weights [C]; logits, labels [..., C] -> [...]."""
    each = optax.sigmoid_binary_cross_entropy(logits, batch["labels"])
    return each.mean(-1) if class_weights is None else each @ (class_weights / class_weights.sum())


def span_cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Mean of -log softmax over the slot's own tokens, at its first and its last answer token.

    Args:
      logits: [R, T, 2].
      batch: `sequence` [R, T] and `labels` [R, E, 2], the columns of first and last token.

    Returns:
      [R, E]; of an empty slot any finite number.
    """
    labels = batch["labels"]
    own = batch["sequence"][:, None, :] == jnp.arange(1, labels.shape[1] + 1)[None, :, None]
    total = jax.nn.logsumexp(jnp.where(own[..., None], logits[:, None], NEVER), axis=2)
    return (total - jnp.take_along_axis(logits, labels, axis=1)).mean(-1)


def pretraining_losses(logits: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
    """Cross entropies of the masked words [R, M] and of the next sentence [R, E]; without NSP the first alone."""
    return {name: optax.softmax_cross_entropy_with_integer_labels(logits[name], labels)
            for name, labels in batch["labels"].items()}
