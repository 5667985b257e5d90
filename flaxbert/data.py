"""From texts to packed batches: tokenise, truncate, collate, prefetch.

Letters: N examples, P sequences an example, B examples a batch, R rows, T tokens a row, E slots a row, C labels.

A batch is a dict of arrays whose first axis is the row:
  tokens, types, positions  [R, T] int32  ids; sentence A or B; position within its own sequence
  sequence                  [R, T] int32  which sequence of the row a token belongs to, 0 = padding
  first                     [R, E] int32  column of each example's [CLS]; of several: [R, E, P], -1 = not there
  labels                    [R, E] int32 or float32, [R, E, C] float32 for multi-label, [R, E, 2] for spans,
                            [R, T] int32 where every token has its own
  weights                   [R, E] or [R, T] float32, 0 = empty slot, or a token that does not count
  row                       [R] int32     global row number, which keys the dropout
  hidden                    [R, T, S, D]  states of S frozen layers, in place of tokens, types and positions, where
                            they are computed once (`activations.py`)
"""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from flaxbert.packing import Plan
from flaxbert.progress import bar
from flaxbert.tasks.base import Examples

Batch = dict[str, np.ndarray]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Encoded:
    """One split as token ids, ragged. Sequence p of example n is number n P + p.

    Attributes:
      tokens: all ids of all sequences, one after the other, int32, special tokens included.
      offsets: [N P + 1] where each sequence begins; one without tokens is not there at all.
      second: [N P] column of its sequence where sentence B begins; the length where there is none.
      labels: one entry an example, [N] or [N, C]; or, as `labelled` says, [N, 2] first and last column of a
        span, or [tokens]; None where unknown.
      weights: float32, how much each counts in the loss: [N], or [tokens] where each token has its label.
      sequences: P, how many sequences stand together as one example (4 choices of a question).
      labelled: what `labels` speak of, one of LABELLED.
      hidden: states of S frozen layers of every token, [tokens, S, D] of any float; None: they are to be computed.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    second: np.ndarray
    labels: np.ndarray | None
    weights: np.ndarray
    sequences: int = 1
    labelled: str = "example"
    hidden: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.second) // self.sequences

    @property
    def starts(self) -> np.ndarray:
        """[N + 1] where each example begins."""
        return self.offsets[::self.sequences]

    @property
    def lengths(self) -> np.ndarray:
        """[N] tokens of each example, all its sequences together."""
        return np.diff(self.starts)


LABELLED = ("example", "span", "token")


def truncated(first: np.ndarray, second: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after removing one token at a time from the longer text, from the second where equal.

    Args:
      first, second: [N] lengths in tokens.
      budget: what both may hold together.

    Source: Devlin 2018's reference code; closed form of its loop.
    """
    half = (budget + 1) // 2
    fits = first + second <= budget
    first_cut = np.where(first < half, first, np.where(second < budget - half, budget - second, half))
    return np.where(fits, first, first_cut), np.where(fits, second, budget - first_cut)


def encode(tokenizer: Any, examples: Examples, max_length: int, what: str = "tokenising",
           class_weights: tuple[float, ...] = ()) -> Encoded:
    """[CLS] A [SEP] or [CLS] A [SEP] B [SEP] for every example, at most `max_length` tokens each.

    Args:
      tokenizer: a fast transformers tokenizer.
      examples: N examples.
      max_length: in tokens, special tokens included.
      class_weights: C weights of the classes in the loss; used where an example has one class.
    """
    pair = examples.second is not None
    first = token_ids(tokenizer, examples.first, what)
    second = token_ids(tokenizer, examples.second, what) if pair else [[]] * len(examples)
    lengths = [np.array([len(ids) for ids in side], np.int64) for side in (first, second)]
    kept_first, kept_second = truncated(*lengths, max_length - (3 if pair else 2))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = [np.array([cls, *a[:m], sep, *b[:n], *([sep] if pair else [])], np.int32)
            for a, b, m, n in zip(first, second, kept_first, kept_second, strict=True)]
    return Encoded(np.concatenate(rows), np.cumsum([0] + [len(r) for r in rows]),
                   (kept_first + 2).astype(np.int64), examples.labels, weights_of(examples, class_weights))


def weights_of(examples: Examples, class_weights: tuple[float, ...]) -> np.ndarray:
    """[N] float32, how much each example counts: 1, or the weight of its class where it has one of the C."""
    if class_weights and examples.labels is not None and examples.labels.dtype == np.int32:
        return np.asarray(class_weights, np.float32)[examples.labels]
    return np.ones(len(examples), np.float32)


def token_ids(tokenizer: Any, texts: list[str], what: str, chunk: int = 4096) -> list[np.ndarray]:
    """Word-piece ids of each text, without special tokens and without truncation."""
    ids: list[np.ndarray] = []  # lists of Python integers would take ten times the memory
    with bar(len(texts), what, unit="texts", hidden=len(texts) <= 4 * chunk) as progress:
        for begin in range(0, len(texts), chunk):
            part = texts[begin:begin + chunk]
            found = tokenizer(part, add_special_tokens=False, truncation=False, padding=False, verbose=False,
                              return_attention_mask=False, return_token_type_ids=False)["input_ids"]
            ids += [np.array(each, np.int32) for each in found]
            progress.update(len(part))
    return ids


def collate(encoded: Encoded, plan: Plan, rows: int, row_length: int, slots: int,
            local: np.ndarray | None = None) -> Batch:
    """The arrays of one batch.

    Args:
      encoded: the split.
      plan: where each example stands.
      rows: R, at least plan.rows; the rest stay empty.
      row_length: T.
      slots: E, at least plan.slots.
      local: global numbers of the rows that this process holds, ascending; default: all R.
    """
    local = np.arange(rows) if local is None else local
    place = np.full(rows, -1)
    place[local] = np.arange(len(local))
    shape, each = (len(local), row_length), encoded.sequences
    sequence = np.zeros(shape, np.int32)
    hidden = encoded.hidden
    seen = {name: np.zeros(shape, np.int32) for name in ("tokens", "types", "positions")} if hidden is None \
        else {"hidden": np.zeros((*shape, *hidden.shape[1:]), hidden.dtype)}
    first = np.full((len(local), slots, each), 0 if each == 1 else -1, np.int32)
    a_token = encoded.labelled == "token"
    spoken = shape if a_token else (len(local), slots)
    weights = np.zeros(spoken, np.float32)
    labels = np.zeros(spoken, np.int32) if encoded.labels is None else np.zeros(
        (*spoken, *encoded.labels.shape[1:]), encoded.labels.dtype)
    for example, row, slot, start in zip(plan.examples.tolist(), place[plan.row].tolist(), plan.slot.tolist(),
                                         plan.start.tolist(), strict=True):
        if row < 0:
            continue
        column = start
        for p in range(each):
            number = example * each + p
            begin, end = encoded.offsets[number], encoded.offsets[number + 1]
            if begin == end:
                continue
            columns = slice(column, column + end - begin)
            if hidden is None:
                seen["tokens"][row, columns] = encoded.tokens[begin:end]
                seen["types"][row, column + encoded.second[number]:columns.stop] = 1
                seen["positions"][row, columns] = np.arange(end - begin)
            else:
                seen["hidden"][row, columns] = hidden[begin:end]
            sequence[row, columns] = slot * each + p + 1
            first[row, slot, p] = column
            column = columns.stop
        where, what = (row, slot), example
        if a_token:
            where, what = (row, slice(start, column)), slice(*encoded.starts[example:example + 2])
        weights[where] = encoded.weights[what]
        if encoded.labels is not None:
            labels[where] = encoded.labels[what] + (start if encoded.labelled == "span" else 0)
    return {**seen, "sequence": sequence, "first": first[:, :, 0] if each == 1 else first, "labels": labels,
            "weights": weights, "row": local.astype(np.int32)}


def prefetch(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """The same items, made by a thread that runs up to `depth` ahead; its errors surface here."""
    ready: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()
    end = object()

    def put(entry: Any) -> None:
        while not stopped.is_set():
            try:
                return ready.put(entry, timeout=0.1)
            except queue.Full:
                pass

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((end, None))
        except BaseException as error:
            put((end, error))
    threading.Thread(target=work, daemon=True, name="flaxbert-prefetch").start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
