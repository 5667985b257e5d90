"""Many heads on one encoder, which runs once for all of them that read the same token sequences.

Letters: R rows, T tokens a row, S layers, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxbert import heads
from flaxbert.bert import Bert
from flaxbert.data import Encoded
from flaxbert.families import Family
from flaxbert.inference import Inference
from flaxbert.parallel import Placement


class Head(NamedTuple):
    """A head, and what it stands on.

    Attributes:
      model: encoder and head as one.
      family: what its kind of task does.
      params: of the model, on the devices. Heads on one encoder share its arrays, `bert`.
    """

    model: heads.Model
    family: Family
    params: Mapping[str, Any]


class Backbone:
    """An encoder with heads on it, as a function of token sequences.

    Args:
      heads: on the same encoder.
      placement: where their parameters are.
      like: one with heads of the same models and tasks, whose programs do for this one too.
    """

    def __init__(self, heads: Sequence[Head], placement: Placement, like: "Backbone | None" = None):
        self._heads, self._placement = heads, placement
        self._passes: dict[tuple[int, ...], Inference] = like._passes if like else {}

    @property
    def size(self) -> int:
        """The number of heads."""
        return len(self._heads)

    def outputs(self, encoded: Sequence[Encoded], what: str) -> list[np.ndarray]:
        """What each head says of its own token sequences, see `families.Family`.

        Args:
          encoded: the same examples as each head reads them; those that are the same share a pass.
          what: names the progress bar.
        """
        found: dict[int, np.ndarray] = {}
        for numbers in self._groups(encoded):
            together = [self._heads[number] for number in numbers]
            if numbers not in self._passes:
                first = together[0].family
                self._passes[numbers] = Inference(
                    one_pass(together), self._placement, per_token=[head.family.per_token for head in together],
                    needs_labels=first.needs_labels, batch=first.eval_batch)
            params = [head.params for head in together]
            # As in training: float32 is not to go through TF32 or bfloat16 on accelerators.
            with jax.default_matmul_precision("highest" if together[0].model.dtype == jnp.float32 else None):
                outputs = self._passes[numbers].outputs(params, encoded[numbers[0]], what)
            found |= zip(numbers, outputs, strict=True)
        return [found[number] for number in range(len(encoded))]

    def _groups(self, encoded: Sequence[Encoded]) -> list[tuple[int, ...]]:
        """The numbers of the heads that share a pass; the first of them needs labels if any does."""
        groups: list[list[int]] = []
        for number in sorted(range(len(encoded)), key=lambda number: not self._heads[number].family.needs_labels):
            for group in groups:
                if self._alike(encoded, group[0], number):
                    group.append(number)
                    break
            else:
                groups.append([number])
        return [tuple(group) for group in groups]

    def _alike(self, encoded: Sequence[Encoded], first: int, other: int) -> bool:
        """Whether a pass over what the first head reads does for the other."""
        a, b = self._heads[first], self._heads[other]
        if any(isinstance(head.model, heads.PretrainingModel) for head in (a, b)):
            return False  # its masked words are a batch of its own, and it reads the word embeddings themselves
        same = ["sequences", "tokens", "offsets", "second"]
        if b.family.needs_labels:
            same += ["labelled", "weights"]
        return a.model.dtype == b.model.dtype and all(
            np.array_equal(getattr(encoded[first], name), getattr(encoded[other], name)) for name in same)


def one_pass(heads: Sequence[Head]) -> Callable:
    """(params of each head, batch, dropout) -> outputs of each head, lists.

    The encoder is run up to the highest layer that any of them reads, and each takes the states that it reads.

    Args:
      heads: on one encoder, in one arithmetic.
    """
    if len(heads) == 1:
        model, family, _ = heads[0]
        return lambda params, batch, dropout: [
            family.readout(model.apply({"params": params[0]}, batch, dropout), batch)]
    first, highest = heads[0].model, max(head.model.reads[-1] for head in heads)

    def apply(params: Sequence[Any], batch: Mapping[str, jax.Array], dropout: None) -> list[Any]:
        states = Bert(first.config, first.dtype).apply({"params": params[0]["bert"]}, batch, stop=highest)

        def outputs(head: Head, own: Any) -> Any:
            top = head.model.clone(cached=head.model.reads)
            hidden = jnp.stack([states[layer] for layer in top.cached], axis=2)  # [R, T, S, D]
            return head.family.readout(top.apply({"params": own}, {**batch, "hidden": hidden}, dropout), batch)
        return [outputs(head, own) for head, own in zip(heads, params, strict=True)]
    return apply
