"""Where an answer begins and ends. Letters: see `heads`."""

import jax

from flaxbert.bert import RowDropout
from flaxbert.heads.base import Batch, Model


class SpanModel(Model):
    """A start score and an end score for each token, without dropout (Devlin 2018, section 4.2). C is 2."""

    def __call__(self, batch: Batch, dropout: RowDropout | None = None) -> jax.Array:
        """Scores [R, T, 2] float32: of each token to begin the answer, and to end it."""
        return self.head(self.widened(self.states(batch, dropout), dropout))
