"""What fine-tuning changed inside of a model, layer by layer; `base.ANALYSES` is the table of analyses."""

from collections.abc import Iterator
from typing import Any

from flaxbert.analysis.base import ANALYSES, Row, Settings, by_analysis
from flaxbert.errors import note

__all__ = ["ANALYSES", "Row", "Settings", "analyze", "by_analysis", "describe", "measured"]


def analyze(**settings: Any) -> list[Row]:
    """Compares a pre-trained and a fine-tuned model, and writes the record where --output says.

    Args:
      **settings: fields of `Settings`.

    Returns:
      the rows of all analyses, see `base`.

    Raises:
      InputError: what cannot be compared, or measured; a line says why. What was measured before is in the record.
    """
    return [row for rows in measured(**settings) for row in rows]


def measured(**settings: Any) -> Iterator[list[Row]]:
    """`analyze`, but the rows of one analysis after the other, each as soon as it is in the record."""
    from flaxbert.analysis import models
    from flaxbert.analysis.record import Record, free
    from flaxbert.analysis.subject import Subject
    chosen = Settings.make(**settings)
    folder = free(chosen.output)
    pair = models.load(chosen.after, chosen.before, chosen.checkpoint)
    if pair.before.fingerprint == pair.after.fingerprint:
        note(f"{pair.before.source} and {pair.after.source}: the same encoder, to the last bit: nothing changed "
             "in it")
    subject = Subject(pair, chosen)
    for name in chosen.what:
        ANALYSES[name].check(subject)
    with Record(folder, subject) as record:
        for name in chosen.what:
            yield record.measure(name)


def describe(rows: list[Row]) -> str:
    """The rows as tables of text, one an analysis."""
    from flaxbert.analysis import record
    return "\n\n".join(f"{name}: {ANALYSES[name].about}\n{record.aligned(record.table(name, own))}"
                       for name, own in by_analysis(rows).items())
