"""Masked words and the next sentence (Devlin 2018, section 3.1). Letters: see `heads`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxbert.bert import ACTIVATIONS, BertConfig, Dense, RowDropout
from flaxbert.heads.base import Batch, Model


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
        logits = (x.reshape(-1, c.hidden_size) @ words.T.astype(self.dtype)).astype(jnp.float32) + bias[None]
        return logits.reshape(*h.shape[:-1], -1)


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

    def __call__(self, batch: Batch, dropout: RowDropout | None = None) -> dict[str, jax.Array]:
        """`mlm` [R, M, V], scores of each word at the columns masked [R, M], and `nsp` [R, E, 2]."""
        last = self.states(batch, dropout)

        def at(columns):
            return jnp.take_along_axis(last, columns[:, :, None], axis=1)
        words = self.bert.embeddings.word.embedding
        logits = {"mlm": self.mlm(at(batch["masked"]), words)}
        if self.outputs:
            pooled = jnp.tanh(self.pooler(at(batch["first"])))
            self.sow("intermediates", "tanh", pooled)
            logits["nsp"] = self.nsp(pooled)
        return logits
