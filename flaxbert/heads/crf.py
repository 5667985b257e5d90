"""A linear chain over the labelled tokens of each sequence (Lafferty 2001). Letters: see `heads`.

The labelled tokens, those of weight above 0, are 1 ... n of their chain; tokens between them are passed over. With
emissions x, the labels y_1 ... y_n score

    start[y_1] + sum_t x_t[y_t] + sum_t>1 transitions[y_(t-1), y_t] + end[y_n],

and p(y) is the softmax of that over all y. Everything is told as increments, one a token, so that shapes are those
of the weights: the score of the first t labels less that of the first t - 1, and likewise log Z.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxbert.heads.losses import Batch


class Chain(NamedTuple):
    """What a CRF says of a batch: emissions [R, T, C], start, end [C], transitions [C, C] from row to column."""

    emissions: jax.Array
    start: jax.Array
    end: jax.Array
    transitions: jax.Array


class Crf(nn.Module):
    """The scores of a chain but for its emissions, all 0 at the start: labels are independent then."""

    outputs: int

    @nn.compact
    def __call__(self, emissions: jax.Array) -> Chain:
        """emissions [R, T, C] float32."""
        zeros, c = jax.nn.initializers.zeros, self.outputs
        return Chain(emissions, self.param("start", zeros, (c,)), self.param("end", zeros, (c,)),
                     self.param("transitions", zeros, (c, c)))


class Links(NamedTuple):
    """How a batch's tokens hang together.

    Attributes:
      labelled: [R, T] bool.
      before: [R, T] column of the labelled token before, of any sequence; 0 where there is none.
      first, last: [R, T] bool, the labelled token with which a chain begins, or ends.
    """

    labelled: jax.Array
    before: jax.Array
    first: jax.Array
    last: jax.Array


def links(batch: Batch) -> Links:
    """From `weights` and `sequence` [R, T]."""
    labelled, sequence = batch["weights"] > 0, batch["sequence"]
    length = sequence.shape[1]
    column = jnp.arange(length)[None]
    before = jax.lax.cummax(jnp.where(labelled, column, -1), axis=1)
    before = jnp.pad(before[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    after = jax.lax.cummin(jnp.where(labelled, column, length), axis=1, reverse=True)
    after = jnp.pad(after[:, 1:], ((0, 0), (0, 1)), constant_values=length)

    def strange(column):
        """Whether there is no token at that column, or one of another sequence."""
        inside = jnp.clip(column, 0, length - 1)
        return (column != inside) | (jnp.take_along_axis(sequence, inside, axis=1) != sequence)
    return Links(labelled, jnp.maximum(before, 0), labelled & strange(before), labelled & strange(after))


def scores(chain: Chain, labels: jax.Array, links: Links) -> jax.Array:
    """Increments [R, T] of the score of some labels [R, T]; 0 at other tokens."""
    emitted = jnp.take_along_axis(chain.emissions, labels[..., None], axis=-1)[..., 0]
    previous = jnp.take_along_axis(labels, links.before, axis=1)
    moved = jnp.where(links.first, chain.start[labels], chain.transitions[previous, labels])
    return jnp.where(links.labelled, emitted + moved + jnp.where(links.last, chain.end[labels], 0), 0)


def totals(chain: Chain, links: Links, over: Callable[[jax.Array, int], jax.Array]) -> jax.Array:
    """Increments [R, T] of all scores together; 0 at tokens without label.

    Args:
      over: (scores, axis) -> what they come to: `logsumexp` for log Z, `best` for the score of the best labels.
    """
    def step(state, token):
        """state [R, C]: of the first t labels, by the last of them, less what all come to."""
        emission, first, labelled = token
        moved = jnp.where(first, chain.start[None], over(state[:, :, None] + chain.transitions[None], 1))
        total = over(moved + emission, -1)[:, None]
        state = jnp.where(labelled, moved + emission - total, state)
        return state, (total, state)
    tokens = chain.emissions, links.first[..., None], links.labelled[..., None]
    _, (total, states) = jax.lax.scan(step, jnp.zeros_like(chain.emissions[:, 0]),
                                      jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), tokens))
    total, states = jnp.moveaxis(total[..., 0], 0, 1), jnp.moveaxis(states, 0, 1)
    ends = jnp.where(links.last, over(states + chain.end[None, None], -1), 0)
    return jnp.where(links.labelled, total + ends, 0)


def logsumexp(x: jax.Array, axis: int) -> jax.Array:
    """log sum exp."""
    return jax.nn.logsumexp(x, axis)


def best(x: jax.Array, axis: int) -> jax.Array:
    """The largest, whose gradient goes to one of several equal ones alone."""
    chosen = jax.nn.one_hot(jnp.argmax(x, axis), x.shape[axis], axis=axis)
    return (x * chosen).sum(axis)


def loss(chain: Chain, batch: Batch) -> jax.Array:
    """-log p(labels) of each chain in increments [R, T], which sum to it; 0 at tokens without label."""
    found = links(batch)
    return totals(chain, found, logsumexp) - scores(chain, batch["labels"], found)


def told(chain: Chain, batch: Batch) -> jax.Array:
    """[R, T, C + 2]: p(label) of each token, the number of its label in the best chain (Viterbi), and its loss.

    The gradient of log Z by the emissions is p(label), and that of the best score says which labels are the best.
    """
    found = links(batch)

    def by_emissions(over):
        return jax.grad(lambda x: totals(chain._replace(emissions=x), found, over).sum())(chain.emissions)
    best_labels = by_emissions(best).argmax(-1)
    return jnp.concatenate([by_emissions(logsumexp), best_labels[..., None],
                            loss(chain, batch)[..., None]], -1)
