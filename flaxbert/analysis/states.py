"""The states of all layers of both models, of every token of a text, in one pass over it.

Letters: R rows, T tokens a row, n tokens at a time, N tokens of a sample, D width,
S = L + 1 states of a token, of which number 0 is the embeddings' output.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from flaxbert import parallel
from flaxbert.analysis.models import SIDES, Pair
from flaxbert.bert import Bert
from flaxbert.data import Encoded
from flaxbert.errors import InputError, note
from flaxbert.inference import Inference

TOKENS_AT_A_TIME = 2048


class Collector(Protocol):
    """What takes in states as they come."""

    def take(self, numbers: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """Some tokens more: their numbers [n] in the text, and their states [n, S, D] float32 in both models."""


class _Buffer:
    """Gathers the pieces that `Inference` hands out, for collectors that like many tokens at a time."""

    def __init__(self, pair: Pair, collectors: Sequence[Collector]):
        self._pair, self._collectors = pair, collectors
        self._pieces: list[tuple[int, np.ndarray]] = []
        self._count = 0

    def __setitem__(self, where: slice, values: np.ndarray) -> None:
        self._pieces.append((where.start, values))
        self._count += len(values)
        if self._count >= TOKENS_AT_A_TIME:
            self.flush()

    def flush(self) -> None:
        """Hands on what is there; raises `InputError` where a number is none."""
        if not self._pieces:
            return
        numbers = np.concatenate([begin + np.arange(len(values)) for begin, values in self._pieces])
        states = np.concatenate([values for _, values in self._pieces])
        self._pieces, self._count = [], 0
        sound = np.isfinite(states).all(axis=(0, 3))
        if not sound.all():
            number, layer = np.argwhere(~sound)[0]
            raise InputError(f"--{SIDES[number]}={getattr(self._pair, SIDES[number]).source}: its states are not "
                             f"finite from layer {layer} on; its weights are too large, as of a run that diverged")
        for each in self._collectors:
            each.take(numbers, states[:, 0], states[:, 1])


class Pass:
    """Both encoders as one program over encoded texts.

    Args:
      pair: the models.
    """

    def __init__(self, pair: Pair):
        self._pair = pair
        self._inference = Inference(self.states, pair.placement, per_token=True)

    def states(self, params: Mapping[str, Any], batch: Mapping[str, jax.Array], dropout: None = None) -> jax.Array:
        """[R, T, 2, S, D] the states of a batch before and after; `params` as of `Pair.placed`."""
        encoder = Bert(self._pair.shape)
        with jax.default_matmul_precision("highest"):
            found = [jnp.stack(encoder.apply({"params": params[side]}, batch), axis=2) for side in SIDES]
        return jnp.stack(found, axis=2)

    def run(self, encoded: Encoded, collectors: Sequence[Collector], what: str = "") -> None:
        """Hands the states of every token to the collectors; `what` names the progress bar.

        Raises:
          InputError: some are not finite; side and layer are told.
        """
        buffer = _Buffer(self._pair, collectors)
        with parallel.memory_told(f"sequences of {encoded.lengths.max()} tokens: try a smaller --max_length"):
            self._inference.outputs(self._pair.placed, encoded, what, into=buffer)
        buffer.flush()


class Sample:
    """A collector that keeps the states of chosen tokens.

    Args:
      numbers: [N] of the tokens, ascending, each once.
      shape: S and D.

    Attributes:
      numbers: the same.
      before, after: [S, N, D] float32.
    """

    def __init__(self, numbers: np.ndarray, shape: tuple[int, int]):
        self.numbers = numbers
        self.before, self.after = (np.zeros((shape[0], len(numbers), shape[1]), np.float32) for _ in SIDES)

    def take(self, numbers: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
        """See `Collector`."""
        at = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        wanted = self.numbers[at] == numbers
        for kept, states in ((self.before, before), (self.after, after)):
            kept[:, at[wanted]] = states[wanted].swapaxes(0, 1)


class Values:
    """What an analysis says of layers, one by one: of a collapsed one, say, nothing can be said."""

    def __init__(self) -> None:
        self._defined = False
        self._undefined: dict[tuple[str, str, str], list[int]] = {}  # name, text, reason -> layers

    def of(self, name: str, text: str, layer: int, measure: Callable, *given: Any) -> Any:
        """`measure(*given)`, or None where that raises an `InputError`; `name` says in messages what it is."""
        try:
            value = measure(*given)
        except InputError as error:
            self._undefined.setdefault((name, text, str(error)), []).append(layer)
            return None
        self._defined = True
        return value

    def tell(self) -> None:
        """Notes for each measure and text which layers have no value, and why; raises where none has one."""
        for (name, text, reason), layers in self._undefined.items():
            line = f"{name}, {text} text, layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}: {reason}"
            if not self._defined:
                raise InputError(line)
            note(f"{line}; left out")
