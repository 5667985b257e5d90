"""The layer_change record as Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.claims import Verdict, rules
from experiments.layer_change.claims import CLAIMS
from experiments.layer_change.runs import (
    ANCHORED,
    CKA,
    DISTANCE,
    OTHER,
    OWN,
    RANDOM,
    RSA,
    SHIFT,
    TRAINED,
    Measured,
    thirds,
)
from experiments.tables import absent, limited, mean, scores, titled, where, written

# Columns of the table by layer: name -> measure, and which of it.
BY_LAYER: dict[str, tuple[str, dict[str, str]]] = {
    "relative distance": (DISTANCE, {}), "1 - RSA": (RSA, {}), "anchored": (ANCHORED, {}), "1 - CKA": (CKA, {}),
    "1 - cosine": (SHIFT, {}), "1 - RSA, other text": (RSA, {"text": OTHER}),
    "1 - cosine, other": (SHIFT, {"text": OTHER}), "1 - RSA, random directions": (RSA, {"direction": RANDOM}),
    "1 - cosine, random": (SHIFT, {"direction": RANDOM})}
NAMES = {DISTANCE: "relative distance", RSA: "1 - RSA", ANCHORED: "1 - anchored RSA", CKA: "1 - CKA",
         SHIFT: "1 - cosine"}
SCORES = ("task", "metric", "dev", "constant answer", "steps")
THIRDS = ("task", "measure", "own text: bottom third", "top third", "bottom of top", "other text: bottom third",
          "top third", "random directions, own text: bottom third", "top third")
OVER_STEPS = ("task", "of the steps", "1 - RSA, bottom third", "top third", "relative distance, bottom third",
              "top third")


def markdown(about: dict[str, Any], measured: Sequence[Measured], verdicts: Sequence[Verdict]) -> str:
    """Where it was measured, the thirds, the steps, the layers, and the claims.

    Args:
      about: of the record.
      measured: from `runs.by_task`.
      verdicts: from `claims.verdicts`.
    """
    settings = about["settings"]
    text = [f"{where(about)}: {settings['model']}, {settings['epochs']:g} epochs at {written(settings['rate'])}, "
            f"batch {settings['batch_size']}{limited(settings)}. Own text: {settings['texts']} sequences of "
            f"the task's dev; other text: as many of {settings['other'] or 'a toy task'}; RSA of "
            f"{settings['tokens']} tokens. All numbers are means over the seeds; 0 is no change."]
    parts = (("What was learnt", SCORES, [_score(each) for each in measured]),
             ("Thirds of the layers after the last step", THIRDS,
              [row for each in measured for row in _thirds(each)]),
             ("Over the run, on own text", OVER_STEPS, [row for each in measured for row in _over_steps(each)]),
             ("Layer by layer after the last step; 0 is the embeddings' output", ("task", "layer", *BY_LAYER),
              [row for each in measured for row in _layers(each)]))
    text += titled(parts)
    text += ["", *(line for each in measured if (line := _control(each))), "", *rules(CLAIMS, verdicts)]
    text += absent(settings, (each.task for each in measured))
    return "\n".join(text) + "\n"


def thirds_of(each: Measured) -> list[dict[str, Any]]:
    """Bottom and top third by measure, text and direction, means over the seeds."""
    rows = []
    for measure in (DISTANCE, RSA, ANCHORED, CKA, SHIFT):
        for text in (OWN, OTHER) if measure != DISTANCE else ("",):
            for direction in (TRAINED, RANDOM) if measure != DISTANCE else (TRAINED,):
                found = each.changes(measure, text=text, direction=direction)
                if found is not None:
                    both = thirds(found.mean(axis=0))
                    rows.append({"task": each.task, "measure": measure, "text": text, "direction": direction,
                                 **both._asdict()})
    return rows


def _thirds(each: Measured) -> list[tuple[str, ...]]:
    """A row a measure; distances, which are of no text, stand with the own text."""
    found = {(row["measure"], row["text"] or OWN, row["direction"]): (row["bottom"], row["top"])
             for row in thirds_of(each)}

    def cells(measure: str, text: str, direction: str) -> tuple[str, ...]:
        return tuple(map(_number, found.get((measure, text, direction), ()))) or ("", "")
    rows = []
    for measure, name in NAMES.items():
        bottom, top = found.get((measure, OWN, TRAINED), (0.0, 0.0))
        rows.append((each.task, name, *cells(measure, OWN, TRAINED), f"{bottom / top:.2f}" if top > 0 else "",
                     *cells(measure, OTHER, TRAINED), *cells(measure, OWN, RANDOM)))
    return rows


def _score(each: Measured) -> tuple[str, ...]:
    first = each.runs[0].row
    found = scores(run.row for run in each.runs)
    return (each.task, first["metric"], mean(found) if found else "",
            "" if first["baseline"] is None else f"{first['baseline']:.3f}", str(each.runs[0].total))


def _over_steps(each: Measured) -> list[tuple[str, ...]]:
    rows = []
    for step in each.runs[0].steps:
        found = [each.changes(measure, step=step) for measure in (RSA, DISTANCE)]
        if not any(values is None for values in found):
            both = [side for values in found for side in thirds(values.mean(axis=0))]
            rows.append((each.task, f"{step / each.runs[0].total:.3f}", *map(_number, both)))
    return rows


def _layers(each: Measured) -> list[tuple[str, ...]]:
    columns = [each.changes(measure, **which) for measure, which in BY_LAYER.values()]
    means = [None if values is None else values.mean(axis=0) for values in columns]
    layers = max((len(values) for values in means if values is not None), default=0)
    return [(each.task, str(layer), *("" if values is None else _number(values[layer]) for values in means))
            for layer in range(layers)]


def _control(each: Measured) -> str:
    """What random directions as long do, beside the trained ones, in a sentence; empty where not measured."""
    found = [each.changes(DISTANCE), each.changes(RSA), each.changes(RSA, direction=RANDOM)]
    if any(values is None for values in found):
        return ""
    moved, trained, random = (thirds(values.mean(axis=0)) for values in found)
    pairs = (moved.top, moved.bottom), (trained.top, trained.bottom), (random.top, random.bottom), (
        random.top, trained.top)
    weights, rsa, control, share = (f"{a / b:.3g} times" if b > 0 else "any number of times" for a, b in pairs)
    return (f"{each.task}: the weights of the top third moved {weights} as far as the bottom third's, and its "
            f"1 - RSA is {rsa} as large. In random directions as long it is {control} the bottom's, and {share} "
            "what training made it.\n")


def _number(value: float) -> str:
    return f"{value:.4f}" if np.abs(value) < 0.01 else f"{value:.3f}"
