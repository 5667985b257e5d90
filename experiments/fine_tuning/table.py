"""The fine_tuning record as Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.claims import Verdict, rules
from experiments.fine_tuning.claims import CLAIMS
from experiments.fine_tuning.published import DEVLIN, HUGGING_FACE
from experiments.fine_tuning.runs import Measured
from experiments.tables import absent, limited, mean, scored, titled, where, written

COLUMNS = ("task", "metric", "training examples", "constant answer", "fine-tuned", "random weights",
           "ahead of constant", "ahead of random")
BESIDE = ("task", "metric", "here", "Devlin 2018, BERT-base [S]", "on",
          "Flax BERT-base-cased of Hugging Face, dev [S]")
RATES = ("task", "metric", "rate", "fine-tuned", "lowest seed", "constant answer")


def markdown(about: dict[str, Any], measured: Sequence[Measured], verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, the scores, the published numbers, the rates, and the claims.

    Args:
      about: of the record.
      measured: from `runs.by_task`.
      verdicts: from `claims.verdicts`.
    """
    settings = about["settings"]
    rate = written(settings["rate"])
    text = [f"{where(about)}: {settings['model']}, {settings['epochs']:g} epochs at {rate}, batch "
            f"{settings['batch_size']}{limited(settings)}. {scored(settings).capitalize()} after the last step, "
            "mean ± sample standard deviation (number of seeds)."]
    limits = dict(each.split("=") for each in settings["limits"])
    parts = (("Scores", COLUMNS, [_cells(each, limits) for each in measured if each.scores]),
             ("Beside the published numbers, of a larger model on all training examples", BESIDE,
              [_beside(each) for each in measured if each.task in DEVLIN and each.scores]),
             ("Learning rates", RATES,
              [cells for each in measured if len(each.rates) > 1 for cells in _rates(each)]))
    text += titled(parts)
    text += ["", *rules(CLAIMS, verdicts)]
    if any(each.task in DEVLIN for each in measured):
        text += ["", "SWAG is not at hand: ARC-Easy, whose questions have a right choice too, is in its place."]
    text += absent(settings, (each.task for each in measured))
    return "\n".join(text) + "\n"


def _number(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else f"{value:{form}}"


def _cells(each: Measured, limits: dict[str, str]) -> tuple[str, ...]:
    ours = statistics.fmean(each.scores)
    return (each.task, each.metric, limits.get(each.task, "all"), _number(each.baseline), mean(each.scores),
            mean(each.random) if each.random else "", _number(ours - (each.baseline or 0.0), "+.3f"),
            f"{ours - statistics.fmean(each.random):+.3f}" if each.random else "")


def _beside(each: Measured) -> tuple[str, ...]:
    """In Devlin's metric."""
    devlin = DEVLIN[each.task]
    return (each.task, devlin.metric, mean(each.others[devlin.metric]), _number(devlin.value), devlin.split,
            _number(HUGGING_FACE.get(each.task, {}).get(devlin.metric)))


def _rates(each: Measured) -> list[tuple[str, ...]]:
    return [(each.task, each.metric, written(rate), mean(scores), _number(min(scores)), _number(each.baseline))
            for rate, scores in each.rates.items()]
