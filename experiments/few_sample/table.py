"""The few_sample record as Markdown."""

from collections.abc import Sequence
from typing import Any

from experiments import paired
from experiments.claims import Verdict, rules
from experiments.few_sample.arms import ARMS, REMEDIES, Arm, Measured
from experiments.few_sample.claims import CLAIMS
from experiments.few_sample.published import reinitialised
from experiments.tables import limited, scored, titled, where, written

HEADER = ("task", "epochs", "re-initialised layers", "bias correction", "metric", "failed", "mean", "std",
          "lowest", "highest")
EFFECTS = ("task", *REMEDIES)


def markdown(about: dict[str, Any], measured: Sequence[Measured], verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, the arms, what each remedy changes, and the claims.

    Args:
      about: of the record.
      measured: from `arms.of`.
      verdicts: from `judge`.
    """
    parts = (("The arms", HEADER, [_arm(each.task, arm) for each in measured for arm in each.arms.values()]),
             ("What each remedy changes, over all settings of the other two: mean (95 %), and failed runs with it "
              "and without", EFFECTS, [(each.task, *(_effect(each, n) for n in range(len(REMEDIES))))
                                   for each in measured]))
    text = [_how(about, measured)]
    text += titled(parts)
    text += ["", *rules(CLAIMS, verdicts)]
    lacking = [f"{each.task} ({len(each.arms)} of {len(ARMS)} arms)" for each in measured
               if len(each.arms) < len(ARMS)]
    absent = [task for task in about["settings"]["tasks"] if task not in {each.task for each in measured}]
    if lacking or absent:
        text += ["", f"Not measured, or not whole: {', '.join(lacking + absent)}."]
    return "\n".join(text) + "\n"


def _how(about: dict[str, Any], measured: Sequence[Measured]) -> str:
    settings = about["settings"]
    some = [(each.task, next(iter(each.arms.values())).runs) for each in measured]
    constant = "; ".join(f"{task} {runs.metric} {runs.baseline:.3f}" for task, runs in some)
    published = "".join(f" Published of {task}, without layers drawn anew and with: {reinitialised(task)}."
                        for task, _ in some if reinitialised(task))
    return (f"{where(about)}: {settings['model']}, recipe zhang, {written(settings['rate'])} in batches of "
            f"{settings['batch_size']}{limited(settings)}; drawn anew: pooler and top "
            f"{settings['reinit_layers']} layers. Scores: {scored(settings)} after the last step. A run "
            f"has failed that is no better than the best constant answer{': ' * bool(constant)}{constant}."
            f"{published}")


def _arm(task: str, arm: Arm) -> tuple[str, ...]:
    point, numbers = arm.row["point"], arm.numbers
    return (task, f"{point['epochs']:g}", str(point["reinit_layers"]), "yes" if point["bias_correction"] else "no",
            arm.row["metric"], f"{numbers['failed']} of {numbers['n']}",
            *("" if numbers[name] is None else f"{numbers[name]:.3f}" for name in ("mean", "std", "min", "max")))


def _effect(measured: Measured, remedy: int) -> str:
    found = measured.effect(remedy)
    if found is None:
        return ""
    (a, n), (b, m) = (measured.failed(remedy, yes) for yes in (True, False))
    return f"{paired.written(found)}; {a} of {n} and {b} of {m}"
