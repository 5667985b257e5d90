"""What stands on the encoder: a head for each kind of task, its loss, and encoder and head as one model.

Letters: R rows, T tokens a row, E slots a row (examples that a row can hold), P choices an example, M masked
tokens a row, D width, C outputs, V vocabulary.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from flaxbert.bert import ACTIVATIONS, POOLED_SITE, Bert, BertConfig, Dense, RowDropout

Batch = Mapping[str, Any]
NEVER = -1e9  # the score of what cannot be chosen


class Model(nn.Module):
    """An encoder with something on it: what all the models below share.

    Attributes:
      config: the encoder's shape.
      outputs: C, what the head computes for each sequence or token.
      dtype, remat, frozen_layers: as in `Bert`.
    """

    config: BertConfig
    outputs: int
    dtype: Any = jnp.float32
    remat: bool = False
    frozen_layers: int = 0

    def setup(self):
        self.bert = Bert(self.config, self.dtype, self.remat, self.frozen_layers)

    def dense(self, features: int, dtype: Any = jnp.float32) -> Dense:
        """A dense layer, initialised as the encoder's own."""
        return Dense(features, dtype, self.config.initializer_range)


class SequenceModel(Model):
    """One label, several labels or one number for each sequence (Devlin 2018, section 4.1).

    logits = W dropout(tanh(P h_[CLS] + p)) + b, with h the last layer's states. C is 1 for regression.
    """

    def setup(self):
        super().setup()
        self.pooler = self.dense(self.config.hidden_size, self.dtype)
        self.head = self.dense(self.outputs)

    def pooled(self, batch: Batch, dropout: RowDropout | None = None, start: int = 0) -> jax.Array:
        """tanh(P h_[CLS] + p) of every slot, [R, E, D]; an empty slot holds that of column 0."""
        last = self.bert(batch, dropout, start)[-1]
        return jnp.tanh(self.pooler(jnp.take_along_axis(last, batch["first"][:, :, None], axis=1)))

    def logits(self, batch: Batch, dropout: RowDropout | None, start: int) -> jax.Array:
        """[R, E, C] float32."""
        pooled = self.pooled(batch, dropout, start)
        if dropout:
            pooled = dropout(pooled, POOLED_SITE, self.config.hidden_dropout_prob)
        return self.head(pooled)

    def __call__(self, batch: Batch, dropout: RowDropout | None = None, start: int = 0) -> jax.Array:
        """Logits [R, E, C] float32 of a packed batch (fields: `data.py`)."""
        return self.logits(batch, dropout, start)


class ChoiceModel(SequenceModel):
    """One score for each of P sequences of an example, of which one is right (Devlin 2018, section 4.4)."""

    def __call__(self, batch: Batch, dropout: RowDropout | None = None, start: int = 0) -> jax.Array:
        """Scores [R, E, P] float32; `first` is [R, E, P] here, below 0 where an example has no such choice."""
        first = batch["first"]
        flat = {**batch, "first": jnp.maximum(first, 0).reshape(first.shape[0], -1)}
        return jnp.where(first < 0, NEVER, self.logits(flat, dropout, start).reshape(first.shape))


class TokenModel(Model):
    """One label for each token: logits_t = W dropout(h_t) + b (Devlin 2018, section 5.3)."""

    def setup(self):
        super().setup()
        self.head = self.dense(self.outputs)

    def __call__(self, batch: Batch, dropout: RowDropout | None = None, start: int = 0) -> jax.Array:
        """Logits [R, T, C] float32 of every token."""
        last = self.bert(batch, dropout, start)[-1]
        if dropout:
            last = dropout(last, POOLED_SITE, self.config.hidden_dropout_prob)
        return self.head(last)


class SpanModel(Model):
    """A start score and an end score for each token, without dropout (Devlin 2018, section 4.2). C is 2."""

    def setup(self):
        super().setup()
        self.head = self.dense(self.outputs)

    def __call__(self, batch: Batch, dropout: RowDropout | None = None, start: int = 0) -> jax.Array:
        """Scores [R, T, 2] float32: of each token to begin the answer, and to end it."""
        return self.head(self.bert(batch, dropout, start)[-1])


class MaskedHead(nn.Module):
    """logits = E LayerNorm(gelu(W h + b)) + c, with E the word embeddings themselves (Devlin 2018, task 1)."""

    config: BertConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array, words: jax.Array) -> jax.Array:
        """h [R, M, D], words [V, D] -> [R, M, V] float32."""
        c = self.config
        x = Dense(c.hidden_size, self.dtype, c.initializer_range, name="transform")(h)
        x = nn.LayerNorm(epsilon=c.layer_norm_eps, dtype=self.dtype, use_fast_variance=False,
                         name="layer_norm")(ACTIVATIONS[c.hidden_act](x))
        bias = self.param("bias", jax.nn.initializers.zeros, (c.vocab_size,))
        logits = x.reshape(-1, c.hidden_size) @ words.T.astype(self.dtype)
        return logits.astype(jnp.float32).reshape(*h.shape[:-1], -1) + bias


class PretrainingModel(Model):
    """Masked words, and whether sentence B follows A (Devlin 2018, section 3.1). C is 2, or 0: masked words alone.

    The encoder's vocabulary scores are computed where `masked` says, not for every token.
    """

    def setup(self):
        super().setup()
        self.mlm = MaskedHead(self.config, self.dtype)
        if self.outputs:
            self.pooler = self.dense(self.config.hidden_size, self.dtype)
            self.nsp = self.dense(self.outputs)

    def __call__(self, batch: Batch, dropout: RowDropout | None = None, start: int = 0) -> dict[str, jax.Array]:
        """`mlm` [R, M, V], scores of each word at the columns masked [R, M], and `nsp` [R, E, 2]."""
        last = self.bert(batch, dropout, start)[-1]

        def at(columns):
            return jnp.take_along_axis(last, columns[:, :, None], axis=1)
        words = self.bert.embeddings.word.embedding
        logits = {"mlm": self.mlm(at(batch["masked"]), words)}
        if self.outputs:
            logits["nsp"] = self.nsp(jnp.tanh(self.pooler(at(batch["first"]))))
        return logits


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


# Kind of a task -> its model, and its loss: (logits, batch) -> losses of the same shapes as batch["weights"].
MODELS: dict[str, type[Model]] = {
    "classification": SequenceModel, "regression": SequenceModel, "multi_label": SequenceModel,
    "choice": ChoiceModel, "token": TokenModel, "span": SpanModel, "pretraining": PretrainingModel}
LOSSES: dict[str, Callable[[Any, Batch], Any]] = {
    "classification": cross_entropy, "regression": squared_error, "multi_label": binary_cross_entropy,
    "choice": cross_entropy, "token": cross_entropy, "span": span_cross_entropy, "pretraining": pretraining_losses}


def loss(kind: str, class_weights: tuple[float, ...] = ()) -> Callable[[Any, Batch], Any]:
    """The loss of a kind of task.

    Args:
      kind: a key of LOSSES.
      class_weights: C of them weigh the labels of multi-label tasks; those of single-label tasks are
        weights of examples, and come with the batch.
    """
    if kind == "multi_label" and class_weights:
        return partial(binary_cross_entropy, class_weights=jnp.asarray(class_weights, jnp.float32))
    return LOSSES[kind]


def init(model: Model, seed: int) -> dict:
    """Random parameters of `model`, a nested dict of float32 arrays, from `seed` alone.

    Lazily: nothing but the initialisers runs, one small program a shape, whatever the number of layers.
    """
    fields = dict.fromkeys(("tokens", "types", "positions", "sequence"), jax.ShapeDtypeStruct((1, 2), jnp.int32))
    one = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    fields["first"] = jax.ShapeDtypeStruct((1, 1, 1), jnp.int32) if isinstance(model, ChoiceModel) else one
    return model.lazy_init(jax.random.key(seed), {**fields, "masked": one})["params"]
