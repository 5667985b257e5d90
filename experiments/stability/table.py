"""The stability record as Markdown."""

from collections.abc import Sequence
from typing import Any

from experiments.claims import Verdict, rules
from experiments.stability.arms import BOTH, PLAIN, Arm, Measured
from experiments.stability.claims import CLAIMS
from experiments.stability.published import METRIC, MOSBACH, Scores
from experiments.tables import absent, limited, scored, titled, where, written

ARMS = ("task", "epochs", "bias correction", "metric", "failed", "mean (95 %)", "std", "median", "lowest",
        "highest", "training loss")
BESIDE = ("task", "metric", "epochs", "bias correction", "mean", "std", "highest", "Mosbach 2021 [R]: mean", "std",
          "highest")
RATES = ("task", "rate", "failed without correction", "mean", "failed with correction", "mean")


def markdown(about: dict[str, Any], measured: Sequence[Measured], verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, the arms, the published numbers, the grid, and the claims.

    Args:
      about: of the record.
      measured: from `arms.of`.
      verdicts: from `claims.judge`.
    """
    parts = (("The arms", ARMS, _arms(measured)),
             ("Beside the published numbers", BESIDE, _beside(measured)),
             (f"Learning rates at {about['settings']['epochs'][0]} epochs", RATES, _rates(measured)))
    text = [_how(about, measured)]
    text += titled(parts)
    text += ["", *rules(CLAIMS, verdicts)]
    text += absent(about["settings"], (each.task for each in measured))
    return "\n".join(text) + "\n"


def _how(about: dict[str, Any], measured: Sequence[Measured]) -> str:
    settings = about["settings"]
    constant = "; ".join(f"{each.task} {arm.row['metric']} {arm.runs().baseline:.3f}, training loss "
                         f"{arm.row['constant_loss']:.3f}" for each in measured for arm in each.every[:1])
    return (f"{where(about)}: {settings['model']}, recipe mosbach, {written(settings['rate'])} in batches of "
            f"{settings['batch_size']}{limited(settings)}. Scores: {scored(settings)} after the last step; "
            "training loss: over the last epoch, median of the seeds. A run has failed that is no better than the "
            f"best constant answer: {constant}.")


def _recipe(arm: Arm) -> tuple[str, str]:
    return f"{arm.epochs:g}", "yes" if arm.corrected else "no"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mean(arm: Arm) -> str:
    """With its interval."""
    bounds = arm.numbers["mean_interval"]
    return _number(arm.numbers["mean"]) + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")


def _failed(arm: Arm) -> str:
    return f"{arm.numbers['failed']} of {arm.numbers['n']}"


def _arms(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    return [(arm.task, *_recipe(arm), arm.row["metric"], _failed(arm), _mean(arm),
             *(_number(arm.numbers[name]) for name in ("std", "median", "min", "max", "training_loss")))
            for each in measured for arm in each.arms.values()]


def _beside(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """The arms that have been published, in the published metric."""
    rows = []
    for each in measured:
        for key, published in zip((PLAIN, BOTH), MOSBACH.get(each.task, ()), strict=False):
            if arm := each.arms.get(key):
                here = arm.runs(METRIC[each.task]).values()
                ours = Scores(here.std(ddof=1) if len(here) > 1 else None, here.mean(), here.max())
                rows.append((each.task, METRIC[each.task], *_recipe(arm),
                             *(_number(value) for scores in (ours, published)
                               for value in (scores.mean, scores.std, scores.highest))))
    return rows


def _rates(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    rows = []
    for each in measured:
        for rate in each.rates if len(each.rates) > 1 else ():
            pair = [each.grid.get((rate, corrected)) for corrected in (False, True)]
            rows.append((each.task, written(rate), *(cell for arm in pair for cell in (
                (_failed(arm), _mean(arm)) if arm else ("", "")))))
    return rows
