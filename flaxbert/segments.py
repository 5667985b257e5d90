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


def _cut(document: np.ndarray, begin: int, end: int, starts: np.ndarray, which: float, room: int,
         continues: np.ndarray) -> int:
    """Where A ends in a piece: where a sentence begins, else the middle word; a lone word is A if it fits."""
    sentences = starts[slice(*np.searchsorted(starts, [begin + 1, end]))]
    if len(sentences):
        return int(sentences[int(which * len(sentences))])
    words = begin + 1 + np.flatnonzero(~continues[document[begin + 1:end]])
    if len(words):
        return int(words[len(words) // 2])
    return end if end - begin < room else begin + room // 2


def _other(document: np.ndarray, starts: np.ndarray, where: float, size: int, room: int,
           continues: np.ndarray) -> np.ndarray:
    """`size` tokens from where a sentence begins, or all of a shorter document; the last word whole if it fits."""
    begin = int(where * max(1, len(document) - size + 1))
    begin = int(starts[np.searchsorted(starts, begin, side="right") - 1])
    end = begin + size
    while end < len(document) and continues[document[end]]:
        end += 1
    return document[begin:_end(document, begin, min(end - begin, room), continues)]


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

    For half of them B is replaced by as much as fits from another document, or, where a document ends, by as many
    tokens; and the document goes on after A. So no token is lost, and the lengths do not tell, but for documents
    shorter than what they replace. Neither A nor B ends within a word that has room.

    Args:
      documents: two at least, none of them empty.
      starts: of each document, where its sentences begin, ascending from 0.
      room: of A and B together, in tokens; two at least.
      continues: as above.
      random: gives four numbers a segment.

    Source: Devlin 2018, section 3.1, and its authors' reference code.
    """
    for number, document in enumerate(documents):
        begin = 0
        while begin < len(document):
            which, coin, other, where = random.random(4)
            end = _end(document, begin, room, continues)
            cut = _cut(document, begin, end, starts[number], which, room, continues)
            if coin < 0.5 and cut < end:
                yield document[begin:cut], document[cut:end], NEXT
                begin = end
                continue
            left = room - (cut - begin)
            size = end - cut if cut < end == len(document) else left
            donor = (number + 1 + int(other * (len(documents) - 1))) % len(documents)
            second = _other(documents[donor], starts[donor], where, size, left, continues)
            yield document[begin:cut], second, RANDOM
            begin = cut
