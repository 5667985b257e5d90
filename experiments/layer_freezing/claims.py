"""Merchant's claim about frozen layers, and by which rules it is confirmed here."""

import statistics
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from experiments import paired
from experiments.claims import NOT_MEASURED, Claim, Finding
from experiments.tables import over_seeds

WRITTEN = "written when the record of 2026-11-22 had MRPC and SQuAD"
LITTLE = 0.02  # of the metric
HALF = 0.5  # of the seconds
THIRD, TWO_THIRDS = Fraction(1, 3), Fraction(2, 3)  # 4 and 8 of 12


class Measured(NamedTuple):
    """What there is of one task.

    Attributes:
      task: its name.
      layers: of the encoder; 0: not known.
      scores: frozen layers k -> seed -> score.
      training: k -> seconds of training, of the seeds that were timed; no k without.
      states: k -> seconds of computing the states, likewise.
    """

    task: str
    layers: int
    scores: dict[int, dict[int, float]]
    training: dict[int, list[float]]
    states: dict[int, list[float]]

    def share(self, part: Fraction) -> int | None:
        """k that is this part of the layers; None where it was not measured."""
        k = round(part * self.layers)
        return k if k in self.scores and 0 in self.scores and k else None


def of(rows: Iterable[dict[str, Any]]) -> list[Measured]:
    """The rows of a record, by task."""
    rows, found = list(rows), []
    for task in dict.fromkeys(row["point"]["task"] for row in rows):
        mine = {k: over_seeds(rows, task=task, frozen=k)
                for k in sorted({row["point"]["frozen"] for row in rows if row["point"]["task"] == task})}

        def seconds(name: str, mine: dict[int, list] = mine) -> dict[int, list[float]]:
            timed = {k: [row[name] for row in each if row[name] is not None] for k, each in mine.items()}
            return {k: found for k, found in timed.items() if found}
        found.append(Measured(task, _layers({k: each[0]["parameters_trained"] for k, each in mine.items()}),
                              {k: paired.by_seed(each) for k, each in mine.items()},
                              seconds("training_seconds"), seconds("cache_seconds")))
    return found


def _layers(trained: dict[int, int]) -> int:
    """The encoder's layers, from what trains with k frozen: the others, all of one size, and a smaller head.

    0 where no two neighbours have been measured; k = 0 trains the embeddings too.
    """
    return next((k + trained[k] // (trained[k] - trained[k + 1]) for k in trained
                 if k and trained.get(k + 1, trained[k]) < trained[k]), 0)


def costs_little(part: Fraction) -> Callable[[Measured], Finding]:
    """A judge of this part of the layers against none, by the difference over the seeds that both have."""
    def judge(measured: Measured) -> Finding:
        k = measured.share(part)
        if k is None:
            return NOT_MEASURED
        found = paired.difference(measured.scores[k], measured.scores[0])
        return Finding(f"{k} of {measured.layers}: {paired.written(found)}", paired.ahead(found, -LITTLE))
    return judge


def saves(measured: Measured) -> Finding:
    """Seconds without frozen layers, with a third and with two thirds of them."""
    third, most = map(measured.share, (THIRD, TWO_THIRDS))
    if third is None or most is None or third == most or not {0, third, most} <= measured.training.keys():
        return NOT_MEASURED
    none, some, few = (statistics.median(measured.training[k]) for k in (0, third, most))
    seeds = min(len(measured.training[k]) for k in (0, third, most))
    whole = (few + statistics.median(measured.states[most])) / none
    told = (f"{third} and {most} of {measured.layers} layers frozen: {some / none:.2f} and {few / none:.2f} of "
            f"the seconds, the latter {whole:.2f} with computing the states ({seeds} seed{'s' * (seeds != 1)} "
            "timed)")
    return Finding(told, few < some < none and whole <= HALF)


_COST = f"the 95 % interval of the difference from training everything, over the seeds, is above -{LITTLE:g}"
CLAIMS = (
    Claim("B a third", "Freezing the bottom third of the layers costs little.", _COST, costs_little(THIRD)),
    Claim("B two thirds", "Freezing the bottom two thirds, 8 of BERT-base's 12, costs little.", _COST,
          costs_little(TWO_THIRDS)),
    Claim("B saves", "Freezing saves compute.",
          "training takes fewer seconds with a third of the layers frozen and fewer again with two thirds, and "
          "these, with computing their states, at most half of what training everything takes (medians over the "
          "seeds)", saves),
)
