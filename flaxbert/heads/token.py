"""One label for each token. Letters: see `heads`."""

import jax

from flaxbert.bert import RowDropout
from flaxbert.heads.base import Batch, Model
from flaxbert.heads.crf import Chain, Crf


class TokenModel(Model):
    """One label for each token: logits_t = W dropout(h_t) + b (Devlin 2018, section 5.3), or a chain of them."""

    def setup(self):
        super().setup()
        self.crf = Crf(self.outputs)

    def __call__(self, batch: Batch, dropout: RowDropout | None = None) -> jax.Array | Chain:
        """Logits [R, T, C] float32 of every token; with a CRF a `Chain` of them."""
        logits = self.answer(self.states(batch, dropout), dropout)
        return self.crf(logits) if self.top.crf else logits
