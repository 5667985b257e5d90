"""The two ways to write spans as tags, IOB1 and IOB2 (see `token_metrics`): which one it is, and making them one.

Most tags are the same in both. One that begins a span, but does not directly follow a span of its type, tells:
IOB2 writes B there, IOB1 writes I.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from flaxbert.token_metrics import begins

TAG = re.compile(r"O|[BI]-.+")
_LETTER = {"IOB1": "I", "IOB2": "B"}  # what each writes where they differ


def _telling(tags: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(number, scheme) of those tags of a sentence that only one of the schemes would write."""
    for i, (before, tag) in enumerate(zip(("O", *tags), tags, strict=False)):
        if tag != "O" and tag[2:] != before[2:]:
            yield i, "IOB1" if tag.startswith("I") else "IOB2"


def scheme(sentences: Iterable[Sequence[str]]) -> str:
    """IOB1 or IOB2, whichever more tags tell of; IOB2 where as many."""
    found = Counter(told for tags in sentences for _, told in _telling(tags))
    return "IOB1" if found["IOB1"] > found["IOB2"] else "IOB2"


def fault(tags: Sequence[str], scheme: str = "") -> tuple[int, str] | None:
    """The first tag that cannot be, by its number in the sentence, and what would be right; None: all can.

    Args:
      tags: of a sentence.
      scheme: what they should be in; "": either, for a tag alone.
    """
    if not scheme:
        return next(((i, f"tag {tag!r} is neither IOB1 nor IOB2; O, B-TYPE or I-TYPE would be right")
                     for i, tag in enumerate(tags) if not TAG.fullmatch(tag)), None)
    return next(((i, f"{tags[i]} cannot begin a span in {scheme}, which the other tags of the file are in; "
                     f"{_LETTER[scheme]}{tags[i][1:]} would be right")
                 for i, told in _telling(tags) if told != scheme), None)


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The same spans in IOB2."""
    return ["B" + tag[1:] if begins(tag, before) else tag for before, tag in zip(("O", *tags), tags, strict=False)]


def complete(tags: Iterable[str]) -> list[str]:
    """O, and B and I of every type that occurs: a later file may have an I where this one has only B."""
    types = sorted({tag[2:] for tag in tags if tag != "O"})
    return ["O", *(f"{letter}-{kind}" for kind in types for letter in "BI")]
