"""The optimizers record as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.claims import Verdict, rules
from experiments.optimizers.claims import CLAIMS
from experiments.optimizers.steps import ARMS, Arm, Measured
from experiments.optimizers.theory import factor
from experiments.tables import absent, limited, mean, scored, titled, where, written

FACTOR = (1, 2, 3, 5, 10, 20, 50, 100, 300, 1000, 3000)
RATIOS = (1, 2, 3, 5, 10, 20, 50, 100)
RECIPES = ("recipe", "corrects", "warm-up", "largest step with correction (when)", "without", "mean step with",
           "without", "share that correction leaves")
STEPS = ("task", "warm-up", "bias correction", "first step with a rate", "its size", "largest size (when)",
         "training loss, last tenth", "failed", "dev")


def markdown(about: dict[str, Any], recipes: Mapping[str, Any], measured: Sequence[Measured],
             verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, the formulas, the sizes of steps, their ratios, and the claims.

    Args:
      about: of the record.
      recipes: recipe -> its row of the record.
      measured: from `steps.of`.
      verdicts: from `judge`.
    """
    parts = (("Without correction a step is so many times as large, by the formula",
              ("step", *map(str, FACTOR)), [("times", *(f"{factor(max(FACTOR))[t - 1]:.2f}" for t in FACTOR))]),
             (f"The recipes over {about['settings']['theory_steps']} steps; sizes are of the peak rate, where the "
              "gradient is always the same", RECIPES, [_recipe(row) for row in of_recipes(recipes)]),
             ("The runs; sizes are root mean squares over the weights above the embeddings, of the peak rate, the "
              "median of the seeds", STEPS, [_arm(row) for row in of_arms(measured)]),
             ("Measured: so many times as large without correction, median of the seeds", ("task", "warm-up", *(
                 f"step {t}" for t in RATIOS)), _ratios(measured)))
    text = [_how(about, measured)]
    text += titled(parts)
    text += ["", *rules(CLAIMS, verdicts)]
    text += absent(about["settings"], (each.task for each in measured))
    return "\n".join(text) + "\n"


def of_recipes(recipes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each recipe its largest and its mean step with and without correction, of the peak rate."""
    found = []
    for recipe, row in recipes.items():
        size = {name: np.array(row[name]) for name in ("with", "without")}
        found.append({"recipe": recipe, "bias_correction": row["bias_correction"],
                      "warmup_steps": row["warmup_steps"],
                      **{f"{what}_{name}": float(function(values)) for name, values in size.items()
                         for what, function in (("largest", np.max), ("mean", np.mean))},
                      **{f"largest_{name}_at": int(values.argmax()) + 1 for name, values in size.items()},
                      "left": float(_left(size["without"], size["with"]))})
    return found


def _left(without: np.ndarray, corrected: np.ndarray) -> float:
    """What correction leaves of the rates of a whole run: the mean of its factor, weighted by the rates."""
    rates = corrected  # with a constant gradient a corrected step is the rate itself
    ratio = np.divide(corrected, without, out=np.zeros_like(rates), where=without > 0)
    return (ratio * rates).sum() / rates.sum()


def of_arms(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Of each arm the sizes of its first and of its largest step, its last losses and its scores."""
    return [{"task": each.task, "arm": ARMS[arm.key], **arm.row["point"], "metric": arm.row["metric"],
             **_numbers(arm)} for each in measured for arm in each.arms.values()]


def _numbers(arm: Arm) -> dict[str, Any]:
    size, runs = np.nanmedian(arm.updates, axis=0), arm.runs()
    last = arm.losses[:, -max(1, arm.losses.shape[1] // 10):]
    return {"first": arm.first, "first_size": float(size[arm.first - 1]), "largest": float(np.nanmax(size)),
            "largest_at": int(np.nanargmax(size)) + 1,
            "training_loss": float(np.nanmean(last)) if np.isfinite(last).any() else None,
            "n": len(runs.scores), "failed": int(runs.failed.sum()), "scores": runs.values().tolist()}


def _how(about: dict[str, Any], measured: Sequence[Measured]) -> str:
    settings = about["settings"]
    constant = "; ".join(f"{each.task} {runs.metric} {runs.baseline:.3f}" for each in measured
                         for runs in [next(iter(each.arms.values())).runs()])
    return (f"{where(about)}: {settings['model']}, recipe zhang (no weight decay), {settings['epochs']:g} epochs "
            f"at {written(settings['rate'])} in batches of {settings['batch_size']}, warm-up none or "
            f"{settings['warmup']:g} of the steps{limited(settings)}. Scores: {scored(settings)} after the last "
            "step, mean ± sample standard deviation (number of seeds). A run has failed that is no better than "
            f"the best constant answer{': ' * bool(constant)}{constant}.")


def _recipe(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (row["recipe"], "yes" if row["bias_correction"] else "no", f"{row['warmup_steps']} steps",
            *(f"{row[f'largest_{name}']:.2f} ({row[f'largest_{name}_at']})" for name in ("with", "without")),
            *(f"{row[f'mean_{name}']:.2f}" for name in ("with", "without")), f"{row['left']:.2f}")


def _arm(row: Mapping[str, Any]) -> tuple[str, ...]:
    loss, warm = row["training_loss"], row["warmup"]
    return (row["task"], f"{warm:g}" if warm else "none", "yes" if row["bias_correction"] else "no",
            str(row["first"]), f"{row['first_size']:.2f}", f"{row['largest']:.2f} ({row['largest_at']})",
            "" if loss is None else f"{loss:.3f}", f"{row['failed']} of {row['n']}",
            f"{row['metric']} {mean(row['scores'])}")


def _ratios(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """The formula's first."""
    rows = []
    for each in measured:
        for warm in (False, True):
            ratios = each.ratios(warm)
            if ratios is not None:
                median = [float(np.median(column)) for column in ratios.T]
                rows.append((each.task, "yes" if warm else "no", *(
                    _times(median[t - 1]) if t <= len(median) else "" for t in RATIOS)))
    formula = ("formula", "", *(f"{factor(max(RATIOS))[t - 1]:.2f}" for t in RATIOS))
    return [formula, *rows] if rows else []


def _times(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"
