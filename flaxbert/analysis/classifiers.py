"""Probes: small classifiers that read labels off frozen states, and the labels that keep them honest.

linear:  softmax(A x + b)
mlp:     softmax(A relu(B x + c) + b)

x are the states, each unit centred and scaled by the words that train; that changes no family of classifiers, and
one learning rate does for all layers. Cross entropy, Adam, a rate that falls linearly to 0.

Letters: W words, D width, U hidden units, C labels, B words a batch.

Source: Hewitt and Liang 2019 (1909.03368).
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax

from flaxbert.errors import InputError

PROBES = {"linear": 0, "mlp": 128}  # name -> U; 0: no hidden layer
BATCH, RATE = 128, 3e-3


class Words(NamedTuple):
    """Words of whole sentences.

    Attributes:
      states: [W, D] of one layer.
      labels: [W] int32.
    """

    states: np.ndarray
    labels: np.ndarray


def standardised(train: np.ndarray, dev: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [W, D] with each unit's mean 0 and variance 1 over the first; units that never change become 0."""
    mean, spread = train.mean(0), train.std(0)
    scale = np.where(spread > 1e-6 * np.maximum(abs(mean), 1e-30), 1 / np.maximum(spread, 1e-30), 0)
    return (train - mean) * scale, (dev - mean) * scale


def answers(train: Words, dev: np.ndarray, outputs: int, hidden: int = 0, seed: int = 0,
            epochs: int = 20) -> np.ndarray:
    """[W'] the labels that a probe gives the words of `dev`.

    Args:
      train: what it learns from.
      dev: [W', D] states of words of other sentences.
      outputs: C.
      hidden: U; 0: a linear probe.
      seed: draws its first weights and the order of words.
      epochs: passes over the words that train.

    Raises:
      InputError: fewer than two words.
    """
    count = len(train.labels)
    if count < 2:
        raise InputError(f"a probe learns from {count} words; give two or more")
    states, others = (x.astype(np.float32) for x in standardised(train.states, dev))
    batch = min(BATCH, count)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(count) for _ in range(epochs)])
    order = order[:len(order) // batch * batch].reshape(-1, batch).astype(np.int32)
    params = first_weights(states.shape[1], outputs, hidden, seed)
    with jax.default_matmul_precision("highest"):  # the same answers on accelerators
        params = _fitted(params, states, np.asarray(train.labels, np.int32), order)
        return np.asarray(_best(params, others))


def first_weights(width: int, outputs: int, hidden: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) of each layer of a probe: zeros of the last one, He's normal of a hidden one."""
    last = (np.zeros((hidden or width, outputs), np.float32), np.zeros(outputs, np.float32))
    if not hidden:
        return [last]
    # Zeros behind a hidden layer leave it without a gradient in the first step alone.
    rng = np.random.default_rng([seed, 1])
    kernel = rng.normal(0, (2 / width)**0.5, (width, hidden)).astype(np.float32)
    return [(kernel, np.zeros(hidden, np.float32)), last]


def logits(params: Sequence[tuple[jax.Array, jax.Array]], states: jax.Array) -> jax.Array:
    """[B, D] -> [B, C]."""
    for kernel, bias in params[:-1]:
        states = jax.nn.relu(states @ kernel + bias[None])
    kernel, bias = params[-1]
    return states @ kernel + bias[None]


@jax.jit
def _fitted(params: list, states: jax.Array, labels: jax.Array, order: jax.Array) -> list:
    """The weights after a step for each row of `order` [steps, B]: the numbers of its words."""
    optimizer = optax.adam(optax.linear_schedule(RATE, 0, len(order)))

    def loss(params, words):
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, states[words]), labels[words]).mean()

    def step(carry, words):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, words), state)
        return (optax.apply_updates(params, updates), state), None
    return jax.lax.scan(step, (params, optimizer.init(params)), order)[0][0]


@jax.jit
def _best(params: list, states: jax.Array) -> jax.Array:
    return logits(params, states).argmax(-1)


def control_labels(words: Sequence[Hashable], labels: np.ndarray, others: Sequence[Hashable],
                   seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that say nothing but which word it is: every word type has one, drawn from the labels of all words.

    Args:
      words: W words that train, as the encoder sees them: what is one input to it has one label.
      labels: [W] their labels, whose distribution is drawn from.
      others: W' words that are asked about.

    Returns:
      [W] and [W'] labels.

    Source: Hewitt and Liang 2019, section 2.
    """
    types = sorted({*words, *others})
    drawn = np.random.default_rng([seed, 2]).choice(labels, len(types))
    label_of = dict(zip(types, drawn.tolist(), strict=True))
    return tuple(np.array([label_of[word] for word in each], np.int32) for each in (words, others))
