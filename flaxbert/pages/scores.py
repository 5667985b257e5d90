"""Tables of scores: arms with their spread over seeds, every run, every evaluation."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from flaxbert.pages.arms import Arm, Run
from flaxbert.pages.document import badge
from flaxbert.pages.html import Html, Part
from flaxbert.pages.tables import NONE, duration, number, spread, wide
from flaxbert.statistics.baseline import failed

_KEYS = ("step", "epoch", "split", "seed", "learning_rate")  # of a row of metrics.jsonl that are no scores


def of_arm(arm: Arm) -> dict[int, float]:
    """Seed -> score on dev after the last step, of runs that came to their end; nan where it was not finite."""
    ended = [run for run in arm.runs if run.status in ("finished", "failed")]
    return {run.seed: math.nan if run.status == "failed" or (score := run.score("metrics")) is None else score
            for run in ended}


def baseline(arm: Arm) -> float | None:
    """What the best constant answer scores, as its runs tell."""
    told = ((run.result or {}).get("majority_baseline") for run in arm.runs)
    return next((found for found in told if found is not None), None)


def counted(arm: Arm) -> list[float]:
    """The scores that a mean is of: a run without one counts as the constant answer, where that is known."""
    constant = baseline(arm)
    filled = [constant if math.isnan(score) else score for score in of_arm(arm).values()]
    return [score for score in filled if score is not None]


def failures(arm: Arm) -> list[int]:
    """The seeds that failed: not finite, or no better than the constant answer."""
    scores = of_arm(arm)
    lost = failed([*scores.values()], baseline(arm), arm.first.lowest)
    return [seed for seed, yes in zip(scores, lost, strict=True) if yes]


def overview(arms: Sequence[Arm]) -> list[Part]:
    """A row an arm: mean and spread of the main metric on dev, how many runs, which failed; a table a task."""
    parts: list[Part] = []
    for task, metric in dict.fromkeys((arm.first.task, arm.first.metric) for arm in arms):
        mine = [arm for arm in arms if (arm.first.task, arm.first.metric) == (task, metric)]
        best = _best(mine)
        rows = []
        for arm in mine:
            scores, lost = counted(arm), failures(arm)
            kept = [score for run in arm.runs if (score := run.score("best")) is not None]
            told = [Html("strong", text) if arm is best else text for text in (arm.name, spread(scores))]
            rows.append([*told, str(len(of_arm(arm))),
                         f"{len(lost)} (seed {', '.join(map(str, lost))})" if lost else "0",
                         *(number(of(scores)) if scores else NONE for of in (statistics.median, min, max)),
                         spread(kept), duration(_seconds(arm))])
        header = ["", f"dev {metric}, last step", "runs", "failed", "median", "lowest", "highest",
                  "best checkpoint", "time"]
        constants = list(dict.fromkeys(number(found) for arm in mine if (found := baseline(arm)) is not None))
        parts += [wide(header, rows, f"{task}, dev {metric}"), Html("p", [
            f"{task}: mean ± sample standard deviation over the seeds that came to their end. ",
            f"Failed: no better than the best constant answer ({', '.join(constants)}), or not finite, which "
            "counts as that answer." if constants else "Failed: not finite, which is left out of the mean.",
            " The best mean is bold." if best else ""], class_="note")]
    return parts


def _best(arms: Sequence[Arm]) -> Arm | None:
    """The arm with the best mean, of several."""
    scored = [(statistics.fmean(scores), arm) for arm in arms if (scores := counted(arm))]
    if len(scored) < 2:
        return None
    return (min if arms[0].first.lowest else max)(scored, key=lambda each: each[0])[1]


def _seconds(arm: Arm) -> float | None:
    """Of all its runs; those that trained side by side shared theirs."""
    found = [run.result["seconds"] / run.result.get("together", 1) for run in arm.runs
             if run.result and run.result.get("seconds") is not None]
    return sum(found) if found else None


def every_score(arms: Sequence[Arm]) -> list[Part]:
    """All metrics of all splits: of one arm after the last step and of the best checkpoint, else the former."""
    columns = [(arm, which) for arm in arms for which in (("metrics", "best") if len(arms) == 1 else ("metrics",))]
    names = ["last step", "best checkpoint"] if len(arms) == 1 else [arm.name for arm in arms]
    rows = [[split, metric, *(spread(_scores(arm, which, split, metric)) for arm, which in columns)]
            for split, metric in _measured(run for arm in arms for run in arm.runs)]
    if not rows:
        return [Html("p", "There is no result yet.")]
    lost = any(math.isnan(score) for arm in arms for score in of_arm(arm).values())
    return [wide(["split", "", *names], rows, "scores by split"),
            Html("p", "Runs whose loss was not finite are left out here.", class_="note") if lost else None]


def _measured(runs: Iterable[Run]) -> list[tuple[str, str]]:
    found = dict.fromkeys((split, metric) for run in runs for which in ("metrics", "best")
                          for split, scores in ((run.result or {}).get(which) or {}).items() for metric in scores)
    splits = dict.fromkeys(split for split, _ in found)
    return [(split, metric) for split in splits for own, metric in found if own == split]


def _scores(arm: Arm, which: str, split: str, metric: str) -> list[float]:
    return [score for run in arm.runs if (score := run.score(which, split, metric)) is not None]


def every_run(arms: Sequence[Arm]) -> Html:
    """A row a run."""
    rows = []
    for arm in arms:
        lost = failures(arm)
        for run in arm.runs:
            result = run.result or {}
            state: list[Part] = [badge(run.status)]
            if run.status == "finished" and run.seed in lost:
                state.append(" no better than a constant answer")
            rows.append([arm.name, str(run.seed), state, number(run.score("metrics")), number(run.score("best")),
                         str(result.get("best_step") or NONE), f"{run.last_step}", duration(result.get("seconds")),
                         result.get("failure", "")])
    header = ["", "seed", "state", "dev, last step", "best checkpoint", "its step", "steps", "time",
              "why it failed"]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return wide(header, rows, "every run")


def evaluations(run: Run) -> Html:
    """A row an evaluation, as metrics.jsonl has them."""
    rows = [row for row in run.rows if row["split"] not in ("train", "diagnostics")]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in _KEYS))
    return wide(["step", "epoch", "split", *names], [
        [str(row["step"]), _epoch(row), row["split"], *(number(row.get(name)) for name in names)] for row in rows],
        "every evaluation")


def _epoch(row: dict[str, Any]) -> str:
    return f"{row['epoch']:g}" if "epoch" in row else NONE
