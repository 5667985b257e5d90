"""Sequences of running text for pre-training: as long as fits, and with a next sentence to be told.

A document is an array of token ids. A segment is (A, B, whether B follows): two pieces of ids and NEXT or RANDOM.
"""

from collections.abc import Iterator, Sequence

import numpy as np

NEXT, RANDOM = 0, 1
Segment = tuple[np.ndarray, np.ndarray, int]


def _end(document: np.ndarray, begin: int, room: int, continues: np.ndarray) -> int:
    """Where a piece ends that begins at `begin`: at a word's beginning, but for a word that fills it."""
    full = end = min(begin + room, len(document))
    while begin < end < len(document) and continues[document[end]]:
        end -= 1
    return end if end > begin else full


def whole(documents: Sequence[np.ndarray], room: int, continues: np.ndarray) -> Iterator[Segment]:
    """Each document cut into pieces of up to `room` tokens, between words; B is empty.

    Args:
      documents: none of them empty.
      room: in tokens.
      continues: [V] bool, pieces that belong to the word before them.
    """
    for document in documents:
        begin = 0
        while begin < len(document):
            end = _end(document, begin, room, continues)
            yield document[begin:end], document[:0], NEXT
            begin = end


def pairs(documents: Sequence[np.ndarray], starts: Sequence[np.ndarray], room: int, continues: np.ndarray,
          random: np.random.Generator) -> Iterator[Segment]:
    """Each document cut into pieces likewise, and these into A and B where a sentence ends.

    For half of them B is replaced by as many tokens from another document, and the document goes on after A: so
    no token is lost, and the lengths do not tell.

    Args:
      documents: two at least.
      starts: of each document, where its sentences begin, ascending from 0.
      room: of A and B together, in tokens.
      continues: as above.
      random: gives four numbers a segment.

    Source: Devlin 2018, section 3.1, and its authors' reference code.
    """
    for number, document in enumerate(documents):
        begin = 0
        while begin < len(document):
            which, coin, other, where = random.random(4)
            end = _end(document, begin, room, continues)
            first, last = np.searchsorted(starts[number], [begin + 1, end])
            cut = begin + max(1, (end - begin) // 2) if first == last else int(
                starts[number][first + int(which * (last - first))])
            if coin < 0.5 and cut < end:
                yield document[begin:cut], document[cut:end], NEXT
                begin = end
                continue
            size = max(1, end - cut)
            donor = (number + 1 + int(other * (len(documents) - 1))) % len(documents)
            at = int(where * max(1, len(documents[donor]) - size + 1))
            at = int(starts[donor][np.searchsorted(starts[donor], at, side="right") - 1])
            yield document[begin:cut], documents[donor][at:at + size], RANDOM
            begin = cut
