"""Forward passes over whole splits: logits in the order of the examples.

Letters: N examples, R rows, T tokens a row, E slots a row, C outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from flaxbert import heads, metrics
from flaxbert.data import Encoded, collate, prefetch
from flaxbert.packing import Plan, rows_of_split
from flaxbert.parallel import Placement
from flaxbert.progress import bar
from flaxbert.steps import make_eval_step
from flaxbert.tasks.base import Task

TOKENS_A_BATCH = 4096  # on each device: enough to keep a CPU or GPU busy, little enough for any memory


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


class Inference:
    """Runs a model over encoded splits; keeps one compiled program for each shape that it meets.

    Args:
      apply: (params, batch, dropout) -> logits [R, E, C].
      placement: where it runs.
      packing: as in `packing.pack`.
    """

    def __init__(self, apply: Callable, placement: Placement, packing: bool = True):
        self._step = make_eval_step(apply, placement.axis)
        self._placement = placement
        self._packing = packing
        self._programs: dict[tuple[int, ...], Any] = {}

    def _shape(self, lengths: np.ndarray) -> tuple[Plan, int, int, int]:
        """A plan and R, T, E, rounded so that splits of similar size share a program."""
        row_length = _up(max(int(lengths.max()), min(128, int(lengths.sum())) if self._packing else 0), 32)
        plan = rows_of_split(lengths, row_length, self._packing)
        full = max(1, TOKENS_A_BATCH // row_length)
        rows = min(full, 1 << (-(-plan.rows // self._placement.shards) - 1).bit_length())
        return plan, rows * self._placement.shards, row_length, _up(plan.slots, 8) if self._packing else 1

    def logits(self, params: Any, encoded: Encoded, what: str = "", hidden: bool = False) -> np.ndarray:
        """Logits [N, C] float32.

        Args:
          params: placed by `placement.put`.
          encoded: N examples.
          what: names the progress bar.
          hidden: show none.
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
                # Labels differ in type, or are not there; a program is for all of them.
                yield local, self._placement.put_batch(
                    {name: x for name, x in arrays.items() if name not in ("labels", "weights")}, rows)
        out: np.ndarray | None = None
        pending: tuple[Plan, Any] | None = None

        def settle() -> None:
            nonlocal out
            if pending is None:
                return
            part, logits = pending[0], self._placement.get(pending[1])
            if out is None:
                out = np.zeros((len(encoded), logits.shape[-1]), np.float32)
            out[part.examples] = logits[part.row, part.slot]
            progress.update()
        with bar(len(starts), what, unit="batches", hidden=hidden or len(starts) < 8) as progress:
            for part, batch in prefetch(batches()):
                program = self._programs.get((rows, row_length, slots))
                if program is None:
                    program = self._placement.compile_eval(self._step, params, batch)
                    self._programs[rows, row_length, slots] = program
                ahead = program(params, batch)
                settle()  # the one before, only now, so that the device never idles
                pending = part, ahead
            settle()
        return out


def score_logits(task: Task, logits: np.ndarray, encoded: Encoded,
                 class_weights: tuple[float, ...] = ()) -> dict[str, float]:
    """Loss and metrics of a whole split.

    loss = sum(w l) / sum(w) over all examples, as in training.

    Args:
      task: gives loss and metrics.
      logits: [N, C] float32.
      encoded: N examples with labels and weights w.
      class_weights: as in `heads.loss`.
    """
    losses = np.asarray(heads.loss(task.kind, class_weights)(logits, encoded.labels))
    return {"loss": float((losses * encoded.weights).sum() / max(encoded.weights.sum(), 1e-30)),
            **metrics.evaluate(task.kind, task.metrics, logits, encoded.labels)}
