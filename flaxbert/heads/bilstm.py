"""Bidirectional LSTMs over packed rows. Letters: see `heads`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxbert.bert import RowDropout


class BiLstm(nn.Module):
    """Layers of LSTMs in both directions; each reads both of the one below (Devlin 2018, section 5.3).

    Every sequence is read alone: forwards from its first token, backwards from its last.

    Attributes:
      width: H, units of each direction.
      layers: how many.
      rate: of the dropout before each layer.
      site: number of the first layer's dropout.
      dtype: of the products; states are float32.
    """

    width: int
    layers: int
    rate: float
    site: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, sequence: jax.Array, dropout: RowDropout | None) -> jax.Array:
        """x [R, T, F], sequence [R, T] -> [R, T, 2 H]."""
        for layer in range(self.layers):
            if dropout:
                x = dropout(x, self.site + layer, self.rate)
            x = BiLstmLayer(self.width, self.dtype, name=f"layer_{layer}")(x, sequence)
        return x


class BiLstmLayer(nn.Module):
    """One LSTM in each direction, side by side.

    (i, f, g, o) = W x_t + U h_(t-1) + b
    c_t = sigmoid(f) c_(t-1) + sigmoid(i) tanh(g)
    h_t = sigmoid(o) tanh(c_t)

    W and U start uniform within 1 / sqrt(H), b at 0, but at 1 for f: cells begin by keeping (Jozefowicz 2015).
    """

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, sequence: jax.Array) -> jax.Array:
        """x [R, T, F], sequence [R, T] -> [R, T, 2 H], forwards and backwards."""
        h, (rows, length, features) = self.width, x.shape

        def uniform(key, shape):
            return jax.random.uniform(key, shape, jnp.float32, -(h**-0.5), h**-0.5)

        def keeping(_, shape):
            return jnp.zeros(shape).at[:, h:2 * h].set(1)
        kernel = self.param("kernel", uniform, (features, 2, 4 * h))
        recurrent = self.param("recurrent", uniform, (2, h, 4 * h))
        bias = self.param("bias", keeping, (2, 4 * h))
        # The products with all inputs at once; gates [T, 2, R, 4 H], the time of the second direction reversed.
        gates = x.reshape(-1, features).astype(self.dtype) @ kernel.reshape(features, -1).astype(self.dtype)
        gates = gates.reshape(rows, length, 2, 4 * h).transpose(1, 2, 0, 3)
        gates = gates + bias.astype(self.dtype)[None, :, None]
        states = recur(turned(gates), goes_on(sequence), recurrent.astype(self.dtype))
        return turned(states).transpose(2, 0, 1, 3).reshape(rows, length, 2 * h).astype(self.dtype)


def turned(x: jax.Array) -> jax.Array:
    """x [T, 2, ...] with the time of the second direction reversed."""
    return jnp.stack([x[:, 0], x[::-1, 1]], axis=1)


def goes_on(sequence: jax.Array) -> jax.Array:
    """[T, 2, R, 1] bool: whether the token read before, in either direction, is of the same sequence."""
    both = turned(jnp.stack([sequence.T, sequence.T], axis=1))
    before = jnp.pad(both[:-1], ((1, 0), (0, 0), (0, 0)))
    return ((both == before) & (both > 0))[..., None]


def scanned(gates: jax.Array, goes_on: jax.Array, recurrent: jax.Array) -> jax.Array:
    """h [T, 2, R, H] float32 from W x + b, gates [T, 2, R, 4 H], and U, recurrent [2, H, 4 H]."""
    def step(state, now):
        inputs, on = now
        hidden, cell = (jnp.where(on, x, 0) for x in state)
        i, f, g, o = jnp.split(inputs + jnp.einsum("dRH,dHG->dRG", hidden.astype(recurrent.dtype), recurrent,
                                                   preferred_element_type=jnp.float32), 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden
    nothing = jnp.zeros((*gates.shape[1:3], recurrent.shape[1]), jnp.float32)
    return jax.lax.scan(step, (nothing, nothing), (gates, goes_on))[1]


# The same with the gradient by U as one product over all tokens, sum_t h_(t-1) dgates_t: a scan's own adds up T.
recur = jax.custom_vjp(scanned)


def _forward(gates: jax.Array, goes_on: jax.Array, recurrent: jax.Array) -> tuple[jax.Array, tuple]:
    states, back = jax.vjp(lambda gates: scanned(gates, goes_on, recurrent), gates)
    return states, (back, states, goes_on, recurrent)


def _backward(saved: tuple, wanted: jax.Array) -> tuple[jax.Array, None, jax.Array]:
    back, states, goes_on, recurrent = saved
    by_gates, = back(wanted)
    before = jnp.where(goes_on, jnp.pad(states[:-1], ((1, 0), (0, 0), (0, 0), (0, 0))), 0)
    by_recurrent = jnp.einsum("TdRH,TdRG->dHG", before.astype(by_gates.dtype), by_gates,
                              preferred_element_type=jnp.float32)
    return by_gates, None, by_recurrent.astype(recurrent.dtype)


recur.defvjp(_forward, _backward)
