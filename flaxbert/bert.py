"""BERT's encoder as a pure function of a tree of parameters (Devlin 2018, section 3; Vaswani 2017).

Letters: R rows, T tokens a row (S on the side of the keys), D width, H heads, K = D / H,
F inner width, V vocabulary, L layers.

Several sequences share a row: `sequence` [R, T] numbers them from 1, 0 is padding, and a token
attends to the tokens of its own number alone.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from flaxbert.errors import InputError

ACTIVATIONS = {
    # By erf: jax.nn.gelu goes by erfc, which costs a third more in the MLP on CPU.
    "gelu": lambda x: x * (0.5 * (1 + lax.erf(x * 0.5**0.5))),
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


@dataclass(frozen=True)
class BertConfig:
    """The shape of an encoder; names and defaults are those of Hugging Face's config.json."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    def __post_init__(self):
        if self.hidden_size % self.num_attention_heads:
            raise InputError(f"hidden_size {self.hidden_size} is no multiple of num_attention_heads "
                             f"{self.num_attention_heads}")
        if self.hidden_act not in ACTIVATIONS:
            raise InputError(f"hidden_act {self.hidden_act}: unknown; valid: {', '.join(ACTIVATIONS)}")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "BertConfig":
        """From the keys of a config.json; keys that do not shape the encoder are passed over."""
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in settings.items() if k in names and v is not None})


class RowDropout(NamedTuple):
    """Dropout whose mask is a function of (step key, site, global row number), row by row.

    So a row's mask is the same whatever rows, devices or seeds stand beside it. Sixteen random bits
    decide each element: a 32-bit word gives two, which halves the time of the generator.

    Attributes:
      key: scalar typed PRNG key of this step.
      rows: [R] int32 global row numbers.
    """

    key: jax.Array
    rows: jax.Array

    def keys(self, sites: Any) -> jax.Array:
        """Keys [..., R] of the numbered sites [...], made at once: every generator call takes long to compile."""
        sites = jnp.asarray(sites)
        numbers, rows = jnp.broadcast_arrays(sites[..., None], self.rows)
        of_site = jax.vmap(jax.random.fold_in, (None, 0))(self.key, numbers.reshape(-1))
        return jax.vmap(jax.random.fold_in)(of_site, rows.reshape(-1)).reshape(numbers.shape)

    def __call__(self, x: jax.Array, site: int, rate: float) -> jax.Array:
        """`drop` with the keys of one site."""
        return drop(x, self.keys([site])[0], rate)


def drop(x: jax.Array, keys: jax.Array, rate: float) -> jax.Array:
    """x [R, ...] with each element zero with probability `rate`, else scaled by 1 / (1 - rate).

    Args:
      x: what is dropped from.
      keys: [R] typed PRNG keys, one a row.
      rate: rounded to a multiple of 2^-16.
    """
    threshold = round(rate * 65536)
    if not threshold:
        return x
    size = x[0].size
    words = jax.vmap(lambda k: jax.random.bits(k, ((size + 1) // 2,), jnp.uint32))(keys)
    halves = lax.bitcast_convert_type(words, jnp.uint16).reshape(x.shape[0], -1)[:, :size]
    keep = (halves >= threshold).reshape(x.shape)
    return jnp.where(keep, x * (1 / (1 - threshold / 65536)), 0).astype(x.dtype)


# Where dropout acts, as numbers that key it. A layer has three sites.
EMBEDDING_SITE, POOLED_SITE = 0, 1
ATTENTION, ATTENTION_OUTPUT, MLP_OUTPUT = range(3)


def layer_sites(layer: int) -> list[int]:
    """The numbers of a layer's sites: attention, its output, the MLP's output."""
    return [16 + 4 * layer + which for which in (ATTENTION, ATTENTION_OUTPUT, MLP_OUTPUT)]


class Dense(nn.Module):
    """x W + b over the last axis, as one product of two matrices; + s (x A) B where the tree has them (`lora.py`).

    The leading axes are folded into one: for a product with three axes XLA's CPU backend transposes
    the activations in the backward pass, which made a whole layer 1.3 times slower.

    Attributes:
      features: width of the output.
      dtype: of the arithmetic.
      stddev: of the truncated normal that initialises W.
    """

    features: int
    dtype: Any
    stddev: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., D] -> [..., features]."""
        kernel = self.param("kernel", jax.nn.initializers.truncated_normal(self.stddev),
                            (x.shape[-1], self.features))
        bias = self.param("bias", jax.nn.initializers.zeros, (self.features,))
        rows = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        y = rows @ kernel.astype(self.dtype) + bias.astype(self.dtype)[None]
        if self.has_variable("params", "lora_a"):
            a, b, scale = (self.get_variable("params", f"lora_{leaf}").astype(self.dtype)
                           for leaf in ("a", "b", "scale"))
            y = y + scale * (rows @ a @ b)
        return y.reshape(*x.shape[:-1], self.features)


def _dense(config: BertConfig, features: int, dtype: Any) -> Dense:
    return Dense(features, dtype, config.initializer_range)


def _initializer(config: BertConfig):
    return jax.nn.initializers.truncated_normal(config.initializer_range)


def _layer_norm(config: BertConfig, dtype: Any) -> nn.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, loses digits that parity with PyTorch needs.
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False)


class Embeddings(nn.Module):
    """LayerNorm(word[tokens] + position[positions] + type[types]), then dropout."""

    config: BertConfig
    dtype: Any

    def setup(self):
        c = self.config

        def table(rows):
            return nn.Embed(rows, c.hidden_size, embedding_init=_initializer(c), dtype=self.dtype)
        self.word = table(c.vocab_size)
        self.position = table(c.max_position_embeddings)
        self.type = table(c.type_vocab_size)
        self.layer_norm = _layer_norm(c, self.dtype)

    def __call__(self, tokens, types, positions, dropout: RowDropout | None):
        """tokens, types, positions [R, T] -> [R, T, D]."""
        x = self.layer_norm(self.word(tokens) + self.position(positions) + self.type(types))
        return dropout(x, EMBEDDING_SITE, self.config.hidden_dropout_prob) if dropout else x


class Attention(nn.Module):
    """LayerNorm(x + softmax(q k^T / sqrt(K)) v W + b): self-attention with its residual."""

    config: BertConfig
    dtype: Any

    def setup(self):
        c = self.config
        self.query, self.key, self.value, self.output = (
            _dense(c, c.hidden_size, self.dtype) for _ in range(4))
        self.layer_norm = _layer_norm(c, self.dtype)

    def __call__(self, x, allowed, keys: jax.Array | None):
        """x [R, T, D], allowed [R, 1, T, S] bool, keys [3, R] of the layer's dropout -> [R, T, D]."""
        c = self.config

        def heads(y):
            return y.reshape(*y.shape[:-1], c.num_attention_heads, -1)
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = jnp.einsum("RTHK,RSHK->RHTS", q, k, preferred_element_type=jnp.float32)
        scores = jnp.where(allowed, scores * q.shape[-1] ** -0.5, jnp.finfo(jnp.float32).min)
        probabilities = jax.nn.softmax(scores).astype(self.dtype)
        if not self.is_initializing():  # kept where `mutable` names it, and nothing is done elsewhere
            self.sow("attention", "probabilities", probabilities)
        if keys is not None:
            probabilities = drop(probabilities, keys[ATTENTION], c.attention_probs_dropout_prob)
        context = jnp.einsum("RHTS,RSHK->RTHK", probabilities, v)
        y = self.output(context.reshape(x.shape))
        if keys is not None:
            y = drop(y, keys[ATTENTION_OUTPUT], c.hidden_dropout_prob)
        return self.layer_norm(x + y)


class Mlp(nn.Module):
    """LayerNorm(x + W2 gelu(W1 x)): the position-wise layer with its residual; no dropout after GELU."""

    config: BertConfig
    dtype: Any

    def setup(self):
        c = self.config
        self.intermediate = _dense(c, c.intermediate_size, self.dtype)
        self.output = _dense(c, c.hidden_size, self.dtype)
        self.layer_norm = _layer_norm(c, self.dtype)

    def __call__(self, x, keys: jax.Array | None):
        """x [R, T, D], keys [3, R] of the layer's dropout -> [R, T, D]."""
        y = self.output(ACTIVATIONS[self.config.hidden_act](self.intermediate(x)))
        if keys is not None:
            y = drop(y, keys[MLP_OUTPUT], self.config.hidden_dropout_prob)
        return self.layer_norm(x + y)


class Layer(nn.Module):
    """One Transformer layer: attention, then the MLP."""

    config: BertConfig
    dtype: Any

    def setup(self):
        self.attention = Attention(self.config, self.dtype)
        self.mlp = Mlp(self.config, self.dtype)

    def __call__(self, x, allowed, keys: jax.Array | None):
        """x [R, T, D], allowed [R, 1, T, S], keys [3, R] of the layer's dropout or None -> [R, T, D]."""
        return self.mlp(self.attention(x, allowed, keys), keys)


class Bert(nn.Module):
    """The encoder: embeddings and L layers, unstacked so that any of them can be frozen or skipped.

    Attributes:
      config: the shape.
      dtype: of the arithmetic; parameters, softmax and LayerNorm statistics are float32.
      remat: recompute each layer in the backward pass.
      frozen_prefix: embeddings and so many layers run without dropout; -1: neither does.
    """

    config: BertConfig
    dtype: Any = jnp.float32
    remat: bool = False
    frozen_prefix: int = -1

    def setup(self):
        layer = nn.remat(Layer) if self.remat else Layer
        self.embeddings = Embeddings(self.config, self.dtype)
        self.layer = [layer(self.config, self.dtype) for _ in range(self.config.num_hidden_layers)]

    def __call__(self, batch: Mapping[str, jax.Array], dropout: RowDropout | None = None,
                 start: int = 0, stop: int | None = None) -> tuple[jax.Array, ...]:
        """Hidden states from layer `start` to layer `stop`, the first and the last included.

        Args:
          batch: tokens, types, positions, sequence [R, T] int32; `hidden` [R, T, D] in place of the
            first three where start > 0: the output of layer `start`.
          dropout: None switches dropout off.
          start: 0 runs the embeddings too; k >= 1 takes batch["hidden"] as the output of layer k.
          stop: the last layer to run, counted from 1; default L.

        Returns:
          stop - start + 1 arrays [R, T, D]; with start = 0 the first is the embeddings' output.
        """
        sequence = batch["sequence"]
        allowed = ((sequence[:, :, None] == sequence[:, None, :]) & (sequence > 0)[:, None, :])[:, None]
        if start or "hidden" in batch:
            x = batch["hidden"].astype(self.dtype)
        else:
            x = self.embeddings(batch["tokens"], batch["types"], batch["positions"],
                                dropout if self.frozen_prefix < 0 else None)
        numbers = list(range(self.config.num_hidden_layers))[start:stop]
        dropped = [i for i in numbers if dropout and i >= self.frozen_prefix]
        keys = dict(zip(dropped, dropout.keys([layer_sites(i) for i in dropped]), strict=True)) if dropped else {}
        states = [x]
        for i in numbers:
            states.append(self.layer[i](states[-1], allowed, keys.get(i)))
        return tuple(states)
