"""An encoder with something on it: what the models of all kinds of tasks share. Letters: see `heads`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxbert.bert import ACTIVATIONS, POOLED_SITE, Bert, BertConfig, Dense, RowDropout
from flaxbert.heads.bilstm import BiLstm
from flaxbert.heads.config import HeadConfig
from flaxbert.heads.layers import Mix, Mixing, parse

Batch = Mapping[str, Any]
# Where dropout acts above the encoder, as numbers that key it; `bert.py` has 0, 1 and those from 16 on. A BiLSTM
# has one site a layer, from BODY_SITE on.
HIDDEN_SITE, BODY_SITE = 2, 4


class Model(nn.Module):
    """Encoder, mix of its layers, BiLSTM where there is one, and a last product.

    Attributes:
      config: the encoder's shape.
      outputs: C, what the head computes for each sequence or token.
      dtype, remat, frozen_prefix: as in `Bert`.
      top: what stands on the encoder.
      cached: layers, ascending, whose states come with the batch; nothing up to the last of them is run.
    """

    config: BertConfig
    outputs: int
    dtype: Any = jnp.float32
    remat: bool = False
    frozen_prefix: int = -1
    top: HeadConfig = HeadConfig()
    cached: tuple[int, ...] = ()

    def setup(self):
        c, top = self.config, self.top
        self.bert = Bert(c, self.dtype, self.remat, self.frozen_prefix)
        self.mix = Mix(self.mixing, top.mix_layer_norm, self.dtype)
        if top.head == "bilstm":
            self.body = BiLstm(top.head_width or c.hidden_size // 2, top.head_layers, c.hidden_dropout_prob,
                               BODY_SITE, self.dtype)
        if top.head == "mlp":
            self.body = self.dense(top.head_width or c.hidden_size, self.dtype)
        self.head = self.dense(self.outputs)

    @property
    def mixing(self) -> Mixing:
        """Which layers the head reads, and how they become one."""
        return parse(self.top.layers, self.config.num_hidden_layers)

    @property
    def reads(self) -> tuple[int, ...]:
        """The numbers of the layers that the head reads, 0 the embeddings' output; ascending."""
        return tuple(sorted(self.mixing.layers))

    def dense(self, features: int, dtype: Any = jnp.float32) -> Dense:
        """A dense layer, initialised as the encoder's own."""
        return Dense(features, dtype, self.config.initializer_range)

    def states(self, batch: Batch, dropout: RowDropout | None) -> jax.Array:
        """The states that the head sees, [R, T, F]: a mix of layers, through the BiLSTM where there is one.

        No layer above the last one that is read is run, and none up to the last cached one.

        Args:
          batch: as of `Bert`; with `cached`, `hidden` [R, T, S, D] in place of tokens, types and positions.
          dropout: None switches dropout off.
        """
        known, start = {}, 0
        if self.cached:
            known = {layer: batch["hidden"][:, :, i].astype(self.dtype) for i, layer in enumerate(self.cached)}
            start = self.cached[-1]
            batch = {**batch, "hidden": known[start]}
        # The parameters of all layers are made, whichever are read.
        stop = None if self.is_initializing() else self.reads[-1]
        known |= enumerate(self.bert(batch, dropout, start, stop), start)
        x = self.mix([known[layer] for layer in self.mixing.layers], batch["sequence"])
        return self.body(x, batch["sequence"], dropout) if self.top.head == "bilstm" else x

    def answer(self, x: jax.Array, dropout: RowDropout | None) -> jax.Array:
        """W dropout(x) + b, or W dropout(gelu(V dropout(x) + c)) + b of an MLP; x [..., F] -> [..., C] float32."""
        if dropout:
            x = dropout(x, POOLED_SITE, self.config.hidden_dropout_prob)
        return self.head(self.widened(x, dropout))

    def widened(self, x: jax.Array, dropout: RowDropout | None) -> jax.Array:
        """The hidden layer of an MLP, dropout(gelu(V x + c)); x itself without one."""
        if self.top.head != "mlp":
            return x
        x = ACTIVATIONS["gelu"](self.body(x))
        return dropout(x, HIDDEN_SITE, self.config.hidden_dropout_prob) if dropout else x
