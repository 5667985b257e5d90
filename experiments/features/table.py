"""The features record as numbers and as Markdown."""

import itertools
import statistics
from typing import Any

from experiments.features.published import DEVLIN, FINE_TUNED, PETERS, ROWS
from experiments.tables import lines, mean, over_seeds, scores, spread, where

LAYER_COLUMNS = ("head on", "here", "behind fine-tuned", "place", "Devlin 2018 [S]", "behind fine-tuned", "place")
TASK_COLUMNS = ("task", "metric", "features", "fine-tuned", "features ahead by", "Peters 2019 [R]: features",
                "fine-tuned", "features ahead by", "same sign")


def by_layers(measured: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    """A row a set of layers, in Devlin's order: scores by seed, and how far their mean is behind fine-tuning's."""
    rows, published = [], DEVLIN.get(task)
    for how in ROWS:
        mine = over_seeds(measured, task=task, how=how)
        if found := scores(mine):
            rows.append({"how": how, "metric": mine[0]["metric"], "scores": found, "mean": statistics.fmean(found),
                         "published": published and published[how],
                         "published_behind": published and round(published[FINE_TUNED] - published[how], 4)})
    full = next((row["mean"] for row in rows if row["how"] == FINE_TUNED), None)
    return [{**row, "behind": None if full is None else full - row["mean"]} for row in rows]


def reversed_pairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pairs of rows that do not stand as in the paper: which is better here, and by how much (0: neither).

    The spread is the larger sample standard deviation of the two over the seeds; None of one seed.

    Args:
      rows: from `by_layers`.
    """
    found = []
    for a, b in itertools.combinations([row for row in rows if row["published"] is not None], 2):
        below, above = sorted((a, b), key=lambda row: row["published"])
        if below["mean"] >= above["mean"]:
            found.append({"better": below["how"], "worse": above["how"], "by": below["mean"] - above["mean"],
                          "spread": spread(a["scores"], b["scores"])})
    return found


def by_task(measured: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    """A row a task that has been measured both ways: scores by seed, by how much features are ahead, Peters'.

    Args:
      measured: rows of the record.
      how: the features.
    """
    rows = []
    for task in dict.fromkeys(row["point"]["task"] for row in measured):
        runs = {each: over_seeds(measured, task=task, how=each) for each in (how, FINE_TUNED)}
        features, full = map(scores, runs.values())
        if features and full:
            published = PETERS.get(task)
            rows.append({"task": task, "metric": runs[how][0]["metric"], "features": features, "fine_tuned": full,
                         "ahead": statistics.fmean(features) - statistics.fmean(full), "published": published,
                         "published_ahead": published and round(published[0] - published[1], 4)})
    return rows


def sign(row: dict[str, Any]) -> str:
    """Whether the difference has Peters' sign; empty where he has none."""
    theirs = row["published_ahead"]
    if not theirs:
        return "no difference published" if theirs == 0 else ""
    noise = spread(row["features"], row["fine_tuned"])
    within = " (within the spread)" if noise is not None and abs(row["ahead"]) <= noise else ""
    return f"{'yes' if row['ahead'] * theirs > 0 else 'no'}{within}"


def markdown(about: dict[str, Any], layers: list[dict[str, Any]], compared: list[dict[str, Any]]) -> str:
    """Where it was measured, and both tables with what differs from the papers.

    Args:
      about: of the record.
      layers: from `by_layers`.
      compared: from `by_task`.
    """
    settings = about["settings"]
    limited = f"; training examples: {', '.join(settings['limits'])}" if settings["limits"] else ""
    scored = f"The first {settings['eval_examples']} of dev" if settings["eval_examples"] else "Dev"
    text = [f"{where(about)}: {settings['model']}{limited}. Features: {settings['feature_epochs']:g} epochs "
            f"at {settings['feature_rate']:g} in batches of {settings['feature_batch_size']}; fine-tuned: "
            f"{settings['epochs']:g} at {settings['rate']:g} in batches of {settings['batch_size']}. {scored} "
            "after the last step, mean ± sample standard deviation (number of seeds); the spread of two rows is "
            "the larger of their deviations."]
    if layers:
        text += ["", f"**{settings['token_task']}, {layers[0]['metric']}: a BiLSTM on layers of the frozen model, "
                 "and the whole model fine-tuned**", "", *lines(LAYER_COLUMNS, _layer_cells(layers)), "",
                 _order(layers)]
    if compared:
        text += ["", "**Features of the frozen model (a mix of all layers, BiLSTM) and fine-tuning**", "",
                 *lines(TASK_COLUMNS, map(_task_cells, compared)), "", _signs(compared)]
    shown = {row["task"] for row in compared} | ({settings["token_task"]} if layers else set())
    absent = [task for task in dict.fromkeys((settings["token_task"], *settings["tasks"])) if task not in shown]
    if absent:
        text += ["", f"Not measured: {', '.join(absent)}."]
    return "\n".join(text) + "\n"


def _layer_cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(row["how"], mean(row["scores"]), _number(row["behind"]), _place(rows, row, "mean"),
             _number(row["published"]), _number(row["published_behind"]), _place(rows, row, "published"))
            for row in rows]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _place(rows: list[dict[str, Any]], row: dict[str, Any], name: str) -> str:
    """1 of the best row, by the value of that name; rows with equal values share a place."""
    return "" if row[name] is None else str(1 + sum(other[name] > row[name] for other in rows))


def _order(rows: list[dict[str, Any]]) -> str:
    """Where the order of the rows differs from the paper's, in a sentence."""
    known = sum(row["published"] is not None for row in rows)
    if known < 2:
        return "No order of these rows is published."
    pairs, turned = known * (known - 1) // 2, reversed_pairs(rows)
    if not turned:
        return f"The order is the paper's, in all {pairs} pairs of rows."
    told = [f"{pair['better']} above {pair['worse']} by {pair['by']:.3f}"
            + ("" if pair["spread"] is None else f" (spread {pair['spread']:.3f})") for pair in turned]
    return f"The order differs from the paper's in {len(turned)} of {pairs} pairs of rows: {'; '.join(told)}."


def _task_cells(row: dict[str, Any]) -> tuple[str, ...]:
    theirs = ("", "", "") if row["published"] is None else (
        *(f"{score:.3f}" for score in row["published"]), f"{row['published_ahead']:+.3f}")
    return (row["task"], row["metric"], mean(row["features"]), mean(row["fine_tuned"]), f"{row['ahead']:+.3f}",
            *theirs, sign(row))


def _signs(rows: list[dict[str, Any]]) -> str:
    """How many differences have the published sign, in a sentence."""
    told = {row["task"]: sign(row) for row in rows if row["published_ahead"]}
    other = [task for task, each in told.items() if each.startswith("no")]
    if not told:
        return "None of these tasks has a published difference."
    return (f"{len(told) - len(other)} of {len(told)} differences have the published sign"
            + (f"; the other sign here: {', '.join(other)}." if other else "."))
