"""What stands on the encoder: the pooler, the heads, their losses, and encoder and head as one model.

Letters: R rows, T tokens a row, E slots a row (sequences that a row can hold), D width, C outputs.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from flaxbert.bert import POOLED_SITE, Bert, BertConfig, Dense, RowDropout


class SequenceModel(nn.Module):
    """One label, several labels or one number for each sequence (Devlin 2018, section 4.1).

    logits = W dropout(tanh(P h_[CLS] + p)) + b, with h the last layer's states.

    Attributes:
      config: the encoder's shape.
      outputs: C; 1 for regression.
      dtype, remat, frozen_layers: as in `Bert`.
    """

    config: BertConfig
    outputs: int
    dtype: Any = jnp.float32
    remat: bool = False
    frozen_layers: int = 0

    def setup(self):
        c = self.config
        self.bert = Bert(c, self.dtype, self.remat, self.frozen_layers)
        self.pooler = Dense(c.hidden_size, self.dtype, c.initializer_range)
        self.head = Dense(self.outputs, jnp.float32, c.initializer_range)

    def pooled(self, batch: Mapping[str, jax.Array], dropout: RowDropout | None = None,
               start: int = 0) -> jax.Array:
        """tanh(P h_[CLS] + p) of every slot, [R, E, D]; an empty slot holds that of column 0."""
        last = self.bert(batch, dropout, start)[-1]
        return jnp.tanh(self.pooler(jnp.take_along_axis(last, batch["first"][:, :, None], axis=1)))

    def __call__(self, batch: Mapping[str, jax.Array], dropout: RowDropout | None = None,
                 start: int = 0) -> jax.Array:
        """Logits [R, E, C] float32 of a packed batch (fields: `data.py`)."""
        pooled = self.pooled(batch, dropout, start)
        if dropout:
            pooled = dropout(pooled, POOLED_SITE, self.config.hidden_dropout_prob)
        return self.head(pooled)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits)[label]; logits [..., C], labels [...] int32 -> [...]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """(logits[0] - label)^2 on the raw score; logits [..., 1], labels [...] float32 -> [...]."""
    return jnp.square(logits[..., 0] - labels)


def binary_cross_entropy(logits: jax.Array, labels: jax.Array, class_weights: jax.Array | None = None
                         ) -> jax.Array:
    """Mean over C of the logistic loss, weighted by class_weights [C]; logits, labels [..., C] -> [...]."""
    each = optax.sigmoid_binary_cross_entropy(logits, labels)
    return each.mean(-1) if class_weights is None else each @ (class_weights / class_weights.sum())


LOSSES = {"classification": cross_entropy, "regression": squared_error, "multi_label": binary_cross_entropy}


def loss(kind: str, class_weights: tuple[float, ...] = ()) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The loss of a kind of task.

    Args:
      kind: a key of LOSSES.
      class_weights: C of them weigh the labels of multi-label tasks; those of single-label tasks are
        weights of examples, and come with the batch.
    """
    if kind == "multi_label" and class_weights:
        return partial(binary_cross_entropy, class_weights=jnp.asarray(class_weights, jnp.float32))
    return LOSSES[kind]


def init(model: nn.Module, seed: int) -> dict:
    """Random parameters of `model`, a nested dict of float32 arrays, from `seed` alone.

    Lazily: nothing but the initialisers runs, one small program a shape, whatever the number of layers.
    """
    fields = dict.fromkeys(("tokens", "types", "positions", "sequence"), jax.ShapeDtypeStruct((1, 2), jnp.int32))
    fields["first"] = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return model.lazy_init(jax.random.key(seed), fields)["params"]
