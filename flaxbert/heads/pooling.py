"""From the states of a row's tokens to one vector for each of its sequences. Letters: see `heads`.

All of a sequence's tokens count, [CLS] and [SEP] too. Products with weights [R, N, T] do it: no [R, N, T, F] is
ever made.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxbert.heads.losses import NEVER


def at(states: jax.Array, columns: jax.Array) -> jax.Array:
    """The states at some columns of each row; states [R, T, F], columns [R, N] -> [R, N, F]."""
    return jnp.take_along_axis(states, columns[:, :, None], axis=1)


def own(sequence: jax.Array, count: int) -> jax.Array:
    """[R, N, T] bool: which tokens are those of each sequence; sequence [R, T], count N."""
    return sequence[:, None, :] == jnp.arange(1, count + 1)[None, :, None]


def weighted(shares: jax.Array, states: jax.Array) -> jax.Array:
    """sum_t shares_nt h_t; shares [R, N, T], states [R, T, F] -> [R, N, F] float32."""
    return jnp.einsum("RNT,RTF->RNF", shares.astype(states.dtype), states, preferred_element_type=jnp.float32)


def mean(states: jax.Array, sequence: jax.Array, count: int) -> jax.Array:
    """The mean of a sequence's states; states [R, T, F], sequence [R, T], count N -> [R, N, F]; 0 of no tokens."""
    mine = own(sequence, count)
    return weighted(mine, states) / jnp.maximum(mine.sum(-1, keepdims=True), 1)


def highest(states: jax.Array, sequence: jax.Array, count: int) -> jax.Array:
    """The highest of a sequence's states, feature by feature; arguments and shapes as of `mean`."""
    # Padding is segment 0.
    found = jax.vmap(lambda row, numbers: jax.ops.segment_max(row, numbers, count + 1))(states, sequence)[:, 1:]
    return jnp.where(own(sequence, count).any(-1, keepdims=True), found, 0)


PLAIN = {"mean": mean, "max": highest}  # those without parameters


class Attention(nn.Module):
    """sum_t softmax_t(q h_t) h_t over a sequence's tokens, with q learnt.

    Attributes:
      stddev: of the truncated normal that initialises q.
    """

    stddev: float

    @nn.compact
    def __call__(self, states: jax.Array, sequence: jax.Array, count: int) -> jax.Array:
        """Arguments and shapes as of `mean`."""
        query = self.param("kernel", jax.nn.initializers.truncated_normal(self.stddev), (states.shape[-1], 1))
        scores, mine = (states.astype(jnp.float32) @ query)[:, None, :, 0], own(sequence, count)
        return weighted(jax.nn.softmax(jnp.where(mine, scores, NEVER)) * mine, states)
