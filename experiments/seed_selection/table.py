"""The seed_selection record as Markdown."""

from collections.abc import Sequence
from typing import Any

from experiments.claims import BEFORE, Verdict, rules
from experiments.seed_selection.claims import CLAIMS
from experiments.seed_selection.curves import SOME, Arm, Measured
from experiments.tables import absent, titled, where, written

HALVES = ("task", "epochs", "bias correction", "metric", "seeds", "the mean seed", f"best of {SOME}: promised",
          "given", "best of all: promised", "given", "share left", f"expected best of {SOME}", "the best of all")
DEV = ("task", "epochs", "bias correction", "metric", "seeds", "on dev: the mean seed", "the best",
       "on test: the mean seed", "the one that dev chose", "promised", "given")
WRITTEN = ('of which those of "F few epochs" and "F many epochs, corrected" stood before the record of stability '
           "that was read here, and the others were written when it was known")


def markdown(about: dict[str, Any], measured: Sequence[Measured], verdicts: Sequence[Verdict],
             sources: Sequence[dict[str, Any]]) -> str:
    """Where it was measured, the leads by halves of the examples and from dev to test, and the claims.

    Args:
      about: of the record.
      measured: from `curves.of`.
      verdicts: from `judge`.
      sources: of its rows, each once, as `source.cited`.
    """
    arms = [(each.task, arm) for each in measured for arm in each.arms.values()]
    parts = (("Chosen on one half of dev (of a toy task's test), scored on the other: leads over the mean seed",
              HALVES, [_halves(task, arm) for task, arm in arms]),
             ("Chosen on dev, and scored on the test split of a toy task", DEV,
              [_dev(task, arm) for task, arm in arms if arm.row["dev"]]))
    text = [_how(about, sources)]
    text += titled(parts)
    text += ["", *rules(CLAIMS, verdicts, WRITTEN if sources else BEFORE)]
    text += absent(about["settings"], (each.task for each in measured))
    return "\n".join(text) + "\n"


def _how(about: dict[str, Any], sources: Sequence[dict[str, Any]]) -> str:
    settings, read = about["settings"], "; ".join(
        f"the runs of `{each['record']}`, commit `{(each['commit'] or 'unknown')[:10]}`" for each in sources)
    trained = (f": {settings['model']}, recipe mosbach, {written(settings['rate'])} in batches of "
               f"{settings['batch_size']}; training examples: {', '.join(settings['limits']) or 'all'}")
    return (f"{where(about)}{f', from {read}' if read else trained}. Scores after the last step; the expectation "
            "over all sets of k seeds, over 100 halvings. The best of all is that on all examples.")


def _recipe(task: str, arm: Arm) -> tuple[str, ...]:
    point = arm.row["point"]
    return (task, f"{point['epochs']:g}", "yes" if point["bias_correction"] else "no", arm.row["metric"],
            str(arm.row["n"]))


def _halves(task: str, arm: Arm) -> tuple[str, ...]:
    some, best = min(SOME, arm.row["n"]), arm.row["best"]["mean"]
    leads = [arm.lead(curve, k) for k in (some, 0) for curve in ("chosen", "other")]
    share = f"{leads[3] / leads[2]:.2f}" if leads[2] > 0 else ""
    return (*_recipe(task, arm), f"{arm.mean:.3f}", *(f"{x:+.3f}" for x in leads), share, f"{best[some - 1]:.3f}",
            f"{best[-1]:.3f}")


def _dev(task: str, arm: Arm) -> tuple[str, ...]:
    dev = arm.row["dev"]
    return (*_recipe(task, arm), *(f"{dev[name][k]:.3f}" for name in ("chosen", "other") for k in (0, -1)),
            *(f"{arm.lead(name, by='dev'):+.3f}" for name in ("chosen", "other")))


def of_arms(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The point, the leads and where they were read, of each arm."""
    return [{**arm.row["point"], "metric": arm.row["metric"], "n": arm.row["n"], "mean": arm.mean,
             "promised": arm.lead("chosen"), "given": arm.lead("other"), "best": arm.row["best"]["mean"][-1],
             "source": arm.row["source"]} for each in measured for arm in each.arms.values()]
