"""Forward passes over whole splits: outputs in the order of the examples.

Letters: N examples, R rows, T tokens a row, E slots a row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from flaxbert.data import Encoded, collate, prefetch
from flaxbert.packing import Plan, rows_of_split
from flaxbert.parallel import Placement
from flaxbert.progress import bar
from flaxbert.steps import make_eval_step

TOKENS_A_BATCH = 4096  # on each device: enough to keep a CPU or GPU busy, little enough for any memory


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _room(encoded: Encoded, per_token: bool, found: np.ndarray) -> np.ndarray:
    """Zeros for the outputs of a whole split, of which `found` are those of one batch."""
    return np.zeros((len(encoded.tokens) if per_token else len(encoded), *found.shape[2:]), np.float32)


def _fill(encoded: Encoded, part: Plan, per_token: bool, found: np.ndarray, out: Any) -> None:
    """Puts the outputs of a batch, which stand where its plan says, where they belong in those of the split."""
    if not per_token:
        out[part.examples] = found[part.row, part.slot]
        return
    begins, lengths = encoded.starts[part.examples], encoded.lengths[part.examples]
    for row, start, begin, size in zip(part.row, part.start, begins, lengths, strict=True):
        out[begin:begin + size] = found[row, start:start + size]


class Inference:
    """Runs a model over encoded splits; keeps one compiled program for each shape that it meets.

    Args:
      apply: (params, batch, dropout) -> outputs [R, E, ...], or [R, T, ...] where `per_token`; or a tree of them.
      placement: where it runs.
      packing: as in `packing.pack`.
      per_token: the outputs are of tokens; or a tree of bool like that of the outputs.
      needs_labels: they are computed with labels and weights in the batch.
      batch: makes the model's batch of the collated one.
    """

    def __init__(self, apply: Callable, placement: Placement, packing: bool = True, per_token: Any = False,
                 needs_labels: bool = False, batch: Callable[[dict], dict] = dict):
        self._step = make_eval_step(apply, placement.axis)
        self._per_token = per_token
        # Labels differ in type, or are not there; a program is for all of them.
        self._left_out = () if needs_labels else ("labels", "weights")
        self._batch = batch
        self._placement = placement
        self._packing = packing
        self._programs: dict[tuple, Any] = {}

    def _shape(self, lengths: np.ndarray) -> tuple[Plan, int, int, int]:
        """A plan and R, T, E, rounded so that splits of similar size share a program."""
        row_length = _up(max(int(lengths.max()), min(128, int(lengths.sum())) if self._packing else 0), 32)
        plan = rows_of_split(lengths, row_length, self._packing)
        full = max(1, TOKENS_A_BATCH // row_length)
        rows = min(full, 1 << (-(-plan.rows // self._placement.shards) - 1).bit_length())
        return plan, rows * self._placement.shards, row_length, _up(plan.slots, 8) if self._packing else 1

    def outputs(self, params: Any, encoded: Encoded, what: str = "", hidden: bool = False,
                into: Any = None) -> Any:
        """Outputs [N, ...]; per token [tokens, ...], in the order of `encoded.tokens`; or a tree of them.

        Args:
          params: placed by `placement.put`.
          encoded: N examples.
          what: names the progress bar.
          hidden: show none.
          into: where they go as each batch is done, by `into[begin:end] = values`, or `into[numbers] = values` of
            examples; default: new float32 arrays.

        Returns:
          the arrays, or `into`.
        """
        plan, rows, row_length, slots = self._shape(encoded.lengths)
        starts = range(0, plan.rows, rows)
        by_row = np.argsort(plan.row, kind="stable")
        edges = np.searchsorted(plan.row[by_row], [*starts, plan.rows])

        def batches():
            for begin, first, last in zip(starts, edges[:-1], edges[1:], strict=True):
                part = by_row[first:last]
                local = Plan(plan.examples[part], plan.row[part] - begin, plan.slot[part], plan.start[part],
                             rows, slots)
                arrays = collate(encoded, local, rows, row_length, slots, self._placement.local_rows(rows))
                yield local, self._placement.put_batch(
                    {name: x for name, x in self._batch(arrays).items() if name not in self._left_out}, rows)
        out = into
        pending: tuple[Plan, Any] | None = None

        def settle() -> None:
            nonlocal out
            if pending is None:
                return
            part, found = pending[0], self._placement.get(pending[1])
            if out is None:
                out = jax.tree.map(partial(_room, encoded), self._per_token, found)
            jax.tree.map(partial(_fill, encoded, part), self._per_token, found, out)
            progress.update()
        with bar(len(starts), what, unit="batches", hidden=hidden or len(starts) < 8) as progress:
            for part, batch in prefetch(batches()):
                shapes = tuple(x.shape for x in jax.tree.leaves(batch))
                program = self._programs.get(shapes)
                if program is None:
                    program = self._programs[shapes] = self._placement.compile_eval(self._step, params, batch)
                ahead = program(params, batch)
                settle()  # the one before, only now, so that the device never idles
                pending = part, ahead
            settle()
        return out
