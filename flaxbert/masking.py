"""Which tokens of a row are masked for pre-training, and by what: a pure function of random numbers given to it.

Letters: R rows, T tokens a row, M masked tokens a row, V vocabulary.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flaxbert.errors import InputError

STEP, HELD_OUT, PAIRS = 1, 2, 3  # what random numbers are for: each has its own
MASKED, RANDOM = 0.8, 0.9  # below the first: [MASK]; below the second: any ordinary token; else left as it is


@dataclass(frozen=True)
class Vocabulary:
    """What masking has to know of a tokenizer.

    Attributes:
      mask: id of [MASK].
      ordinary: ids of the tokens that may be masked, and stand in for others: not the special ones.
      maskable: [V] bool, the same as a table.
      continues: [V] bool, whether a piece belongs to the word before it.
    """

    mask: int
    ordinary: np.ndarray
    maskable: np.ndarray
    continues: np.ndarray

    @classmethod
    def of(cls, tokenizer: Any, where: str) -> "Vocabulary":
        """From a transformers tokenizer; raises `InputError`, with `where` it is from, if it lacks [MASK]."""
        if tokenizer.mask_token_id is None:
            raise InputError(f"{where}: its tokenizer has no [MASK]; pre-training needs one")
        pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        special = np.array([bool(re.fullmatch(r"\[unused\d+\]", piece)) for piece in pieces])
        special[tokenizer.all_special_ids] = True
        return cls(tokenizer.mask_token_id, np.flatnonzero(~special).astype(np.int32), ~special,
                   np.array([piece.startswith("##") for piece in pieces]))


def generator(seed: int, use: int, step: int = 0, row: int = 0) -> np.random.Generator:
    """Random numbers of its own for each (seed, use, step, row)."""
    return np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, use, row]))


def uniform(seed: int, step: int, rows: Iterable[int], length: int) -> np.ndarray:
    """[R, 3, T] numbers from 0 to 1, each row's a function of (seed, step, number of the row) alone."""
    return np.stack([generator(seed, STEP, step, row).random((3, length)) for row in rows])


def quota(count: Any, rate: float) -> np.ndarray:
    """How many of `count` tokens are masked: their share `rate`, rounded."""
    return np.rint(rate * np.asarray(count)).astype(np.int64)


def choose(maskable: np.ndarray, begins: np.ndarray, priority: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[R, T] bool: the tokens to mask, whole words in the order of their priority, as far as they fit.

    A word with more pieces than are still wanted is passed over, so that fewer than `wanted` are chosen only
    where no word left is short enough.

    Args:
      maskable: [R, T] bool.
      begins: [R, T] bool, the first piece of each word; the token after one that is not maskable is one.
      priority: [R, T] from 0 to 1; the lowest first. A word has that of its first piece.
      wanted: [R].
    """
    columns = np.arange(maskable.shape[1])
    first = np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
    ends = np.append(begins[:, 1:] | ~maskable[:, 1:], np.ones((len(begins), 1), bool), axis=1)
    last = np.minimum.accumulate(np.where(ends, columns, columns[-1])[:, ::-1], axis=1)[:, ::-1]
    order = np.argsort(np.where(maskable, np.take_along_axis(priority, first, 1), 2.0), axis=1, kind="stable")
    kept, before, after = (np.take_along_axis(x, order, 1) for x in (maskable, columns - first, last - columns))
    while True:  # each round passes over one word a row
        place = kept.cumsum(axis=1) - 1
        across = kept & (place - before < wanted[:, None]) & (place + after >= wanted[:, None])
        if not across.any():
            break
        kept &= ~across
    chosen = np.zeros_like(maskable)
    np.put_along_axis(chosen, order, kept & (place < wanted[:, None]), axis=1)
    return chosen


def mask(tokens: np.ndarray, vocabulary: Vocabulary, rate: float, whole_words: bool,
         random: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks a share of the ordinary tokens of each row: 80 % become [MASK], 10 % any token, 10 % stay.

    Args:
      tokens: [R, T] ids.
      vocabulary: of them.
      rate: the share.
      whole_words: all pieces of a word, or none.
      random: [R, 3, T] from `uniform`.

    Returns:
      [R, T] what the model sees, and [R, T] bool, the tokens that it is to tell.

    Source: Devlin 2018, section 3.1; whole words: its authors' reference code.
    """
    maskable = vocabulary.maskable[tokens]
    begins = maskable.copy()
    if whole_words:
        begins[:, 1:] &= ~(vocabulary.continues[tokens][:, 1:] & maskable[:, :-1])
    chosen = choose(maskable, begins, random[:, 0], quota(maskable.sum(axis=1), rate))
    any_token = vocabulary.ordinary[(random[:, 2] * len(vocabulary.ordinary)).astype(np.int64)]
    instead = np.select([random[:, 1] < MASKED, random[:, 1] < RANDOM], [np.int32(vocabulary.mask), any_token],
                        tokens)
    return np.where(chosen, instead, tokens).astype(np.int32), chosen


def columns(chosen: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """[R, M] columns of the chosen tokens, in order, and [R, M] bool, whether there is one; M is `most`."""
    found = np.argsort(~chosen, axis=1, kind="stable")[:, :most]
    return found.astype(np.int32), np.take_along_axis(chosen, found, 1)
