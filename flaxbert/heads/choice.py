"""The right one of several sequences. Letters: see `heads`."""

import jax
import jax.numpy as jnp

from flaxbert.bert import RowDropout
from flaxbert.heads.base import Batch
from flaxbert.heads.losses import NEVER
from flaxbert.heads.sequence import SequenceModel


class ChoiceModel(SequenceModel):
    """One score for each of P sequences of an example, of which one is right (Devlin 2018, section 4.4)."""

    def __call__(self, batch: Batch, dropout: RowDropout | None = None) -> jax.Array:
        """Scores [R, E, P] float32; `first` is [R, E, P] here, below 0 where an example has no such choice."""
        first = batch["first"]
        scores = super().__call__({**batch, "first": jnp.maximum(first, 0)}, dropout)
        return jnp.where(first < 0, NEVER, scores.reshape(first.shape))
