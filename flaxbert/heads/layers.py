"""Which of the encoder's layers a head reads, and how they become one. Letters: see `heads`; L layers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxbert.errors import InputError


class Mixing(NamedTuple):
    """Layers, by their numbers (0: the embeddings' output), and how they are mixed, see `Mix`."""

    layers: tuple[int, ...]
    how: str


# --layers -> which of the layers 0 ... L, and how they are mixed.
NAMED = {
    "embeddings": (slice(0, 1), "concat"),
    "last": (slice(-1, None), "concat"),
    "second_to_last": (slice(-2, -1), "concat"),
    "sum_last4": (slice(-4, None), "sum"),
    "concat_last4": (slice(-4, None), "concat"),
    "sum_all": (slice(1, None), "sum"),
    "scalar_mix": (slice(None), "scalar_mix"),
}


def parse(text: str, layers: int) -> Mixing:
    """What `--layers=TEXT` means for an encoder of L layers.

    Args:
      text: a key of NAMED, or numbers with commas between, whose layers stand one behind the other.
      layers: L.

    Raises:
      InputError: neither; or layers that the encoder does not have, or twice the same.
    """
    flag = f"--layers={text}"
    if text in NAMED:
        which, how = NAMED[text]
        if -(which.start or 0) > layers:
            raise InputError(f"{flag}: the model has {layers} layers; valid with {-which.start} or more")
        return Mixing(tuple(range(layers + 1)[which]), how)
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError:
        raise InputError(f"{flag}: unknown; valid: {', '.join(NAMED)}, or numbers from 0 to {layers} with commas "
                         "between") from None
    for n, number in enumerate(numbers):
        if not 0 <= number <= layers:
            raise InputError(f"{flag}: the model has no layer {number}; valid: 0 (the embeddings) to {layers}")
        if number in numbers[:n]:
            raise InputError(f"{flag}: layer {number} twice; give each number once, from 0 to {layers}")
    return Mixing(numbers, "concat")


class Mix(nn.Module):
    """States of several layers as one state a token.

    concat:      [h_1; ...; h_S], one layer as it is
    sum:         sum_k softmax(w)_k h_k, w = 0 at the start (Devlin 2018, table 7)
    scalar_mix:  g times this, g = 1 at the start (Peters 2019, section 3)

    Attributes:
      mixing: S layers.
      norm: normalise each layer before, see `normalised`.
      dtype: of the output; sums are float32 on the way.
    """

    mixing: Mixing
    norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, states: Sequence[jax.Array], sequence: jax.Array) -> jax.Array:
        """S states [R, T, D], sequence [R, T] -> [R, T, F]."""
        if self.norm:
            states = [normalised(state, sequence) for state in states]
        if self.mixing.how == "concat":
            mixed = states[0] if len(states) == 1 else jnp.concatenate(states, -1)
        else:
            shares = jax.nn.softmax(self.param("weights", jax.nn.initializers.zeros, (len(states),)))
            if self.mixing.how == "scalar_mix":
                shares = shares * self.param("gamma", jax.nn.initializers.ones, ())
            mixed = sum(share * state.astype(jnp.float32) for share, state in zip(shares, states, strict=True))
        return mixed.astype(self.dtype)


def normalised(state: jax.Array, sequence: jax.Array) -> jax.Array:
    """(h - mean) / sqrt(variance + 1e-12), both over the tokens x D of a sequence; at padding 0.

    AllenNLP's scalar mix takes them over the batch; here a sequence's neighbours never change it.

    Args:
      state: [R, T, D].
      sequence: [R, T].
    """
    real = sequence > 0
    same = (sequence[:, :, None] == sequence[:, None, :]) & real[:, None, :]
    share = same / jnp.maximum(same.sum(-1, keepdims=True), 1)

    def mean(x):
        """[R, T, D] -> [R, T, 1], the mean over each token's own sequence."""
        return jnp.einsum("RTS,RS->RT", share, x.mean(-1), precision="highest")[..., None]
    centred = state.astype(jnp.float32)
    centred = jnp.where(real[..., None], centred - mean(centred), 0)
    return centred * jax.lax.rsqrt(mean(jnp.square(centred)) + 1e-12)
