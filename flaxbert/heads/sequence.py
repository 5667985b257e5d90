"""One label, several labels or one number for each sequence, or pair of sequences. Letters: see `heads`."""

import jax
import jax.numpy as jnp

from flaxbert.bert import RowDropout
from flaxbert.heads import pooling
from flaxbert.heads.base import Batch, Model


class SequenceModel(Model):
    """One label, several labels or one number for each sequence (Devlin 2018, section 4.1).

    logits = W dropout(x) + b, with x the pooled states of the sequence; BERT's own pooler is tanh(P h_[CLS] + p).
    Of a pair's texts as two sequences, u and v when pooled, x is (u, v, |u - v|, u * v). C is 1 for regression.
    """

    def setup(self):
        super().setup()
        if self.top.pooling == "pooler":
            self.pooler = self.dense(self.config.hidden_size, self.dtype)
        if self.top.pooling == "attention":
            self.attention = pooling.Attention(self.config.initializer_range)

    def pooled(self, batch: Batch, dropout: RowDropout | None = None) -> jax.Array:
        """One vector for each of a row's N sequences, [R, N, F]; `first` is [R, N] here, or [R, E, P]."""
        states, first, how = self.states(batch, dropout), batch["first"], self.top.pooling
        first = first.reshape(first.shape[0], -1)
        if how in ("pooler", "cls"):
            x = pooling.at(states, first)
            if how == "pooler":
                x = jnp.tanh(self.pooler(x))
                self.sow("intermediates", "tanh", x)
            return x
        pool = self.attention if how == "attention" else pooling.PLAIN[how]
        return pool(states, batch["sequence"], first.shape[1])

    def __call__(self, batch: Batch, dropout: RowDropout | None = None) -> jax.Array:
        """Logits [R, E, C] float32 of a packed batch (fields: `data.py`)."""
        x = self.pooled(batch, dropout)
        if self.top.pair == "separate":
            u, v = jnp.moveaxis(x.reshape(*batch["first"].shape, -1), 2, 0)
            x = jnp.concatenate([u, v, abs(u - v), u * v], -1)
        return self.answer(x, dropout)
