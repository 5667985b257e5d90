"""Spans that tags mark, and how many of them were found: what the CoNLL shared tasks are judged by.

Tags are O, B-TYPE and I-TYPE. In IOB2 every span begins with B; in IOB1 only one that directly follows another
of its type (Ramshaw and Marcus 1995, Tjong Kim Sang and Veenstra 1999). Read as the official script conlleval
does, as seqeval does by default: an I that continues nothing begins a span. So both kinds are read alike.
"""

from collections.abc import Iterable, Sequence

Span = tuple[str, int, int]  # its type, its first word, the word after its last


def begins(tag: str, before: str) -> bool:
    """Whether a span begins with `tag`, which stands after the tag `before` (O at the beginning)."""
    return tag != "O" and (tag.startswith("B-") or tag[2:] != before[2:])


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of one sentence, in order."""
    found: list[Span] = []
    before = "O"
    for i, tag in enumerate(tags):
        if begins(tag, before):
            found.append((tag[2:], i, i + 1))
        elif tag != "O":
            found[-1] = (*found[-1][:2], i + 1)
        before = tag
    return found


def accuracy(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> float:
    """Share of the words whose tag is right; arguments as of `span_scores`."""
    right = [a == b for pair in zip(gold, predicted, strict=True) for a, b in zip(*pair, strict=True)]
    return sum(right) / max(len(right), 1)


def span_scores(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]],
                types: Iterable[str]) -> dict[str, float]:
    """`f1`, `precision` and `recall` of spans, which must agree in type and both ends; F1 of each type.

    F1 = 2 right / (spans predicted + spans there), 0 where there are neither.

    Args:
      gold, predicted: the tags of each sentence.
      types: those to report as `f1_TYPE`; spans of all types count in the sums.

    Source: conlleval (Tjong Kim Sang and De Meulder 2003), which seqeval follows.
    """
    from seqeval.metrics import classification_report
    gold, predicted = [list(map(list, side)) for side in (gold, predicted)]
    scores = {}
    if any(map(spans, gold + predicted)):  # seqeval has no report where there is nothing to count
        scores = classification_report(gold, predicted, output_dict=True, zero_division=0)
    names = {"f1": "f1-score", "precision": "precision", "recall": "recall"}
    total = scores.get("micro avg", dict.fromkeys(names.values(), 0.0))
    return {**{ours: float(total[theirs]) for ours, theirs in names.items()},
            **{f"f1_{kind}": float(scores[kind]["f1-score"]) if kind in scores else 0.0 for kind in types}}
