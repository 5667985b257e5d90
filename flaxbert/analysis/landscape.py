"""The loss between models: on the line from the pre-trained to the fine-tuned one, and on a plane through three.

    line     w(a) = w0 + a (w1 - w0), a from -beyond to 1 + beyond
    plane    w(x, y) = w0 + x e1 + y e2, with e1 along w1 - w0 and e2 along what of w2 - w0 is at right angles
             to it (Gram-Schmidt), both of length 1: distances on the picture are those between the parameters

w0 is the encoder of `before`, and its pooler where it has one, under the head of `after`, since a pre-trained
model has none; w1 is `after`, w2 another run on the same task, a failed one say. Loss and scores are of dev.

Letters: M models (the corners, 2 or 3), P points.

Source: Goodfellow, Vinyals and Saxe 2015 (1412.6544) for the line; Hao et al. 2019 (1908.05620) and Mosbach et al.
2021 (2006.04884), section 6, for fine-tuned BERT.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flaxbert import heads, trees
from flaxbert.analysis import models, own_figures
from flaxbert.analysis.base import Row, cell, names
from flaxbert.analysis.models import Pair
from flaxbert.analysis.scoring import Scorer, finite
from flaxbert.analysis.subject import Subject
from flaxbert.errors import InputError, refuse
from flaxbert.progress import bar


def coordinates(corners: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """[M, M - 1] where models stand: the first at 0, the second on the first axis, a third above it.

    Args:
      corners: M trees of the same leaves.

    Raises:
      InputError: two models are the same, or three stand on one line.
    """
    origin, *others = [trees.flatten(corner) for corner in corners]
    ways = [{name: np.asarray(other[name], np.float64) - np.asarray(origin[name], np.float64) for name in origin}
            for other in others]
    along = _length(ways[0])
    if not along:
        raise InputError("landscape: both models have the same weights, so there is no way between them")
    if len(ways) == 1:
        return np.array([[0.0], [along]])
    x = sum(float(np.vdot(ways[0][name], ways[1][name])) for name in origin) / along
    y = _length({name: ways[1][name] - x / along * ways[0][name] for name in origin})
    if y < 1e-6 * max(along, abs(x)):
        raise InputError("landscape: the three models stand on one line, so no plane is theirs alone; give "
                         "--others=RUN with other weights")
    return np.array([[0, 0], [along, 0], [x, y]])


def _length(tree: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.vdot(x, x) for x in tree.values())))


def shares(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[P, M] how much of each corner a point is; each row sums to 1.

    Args:
      points: [P, M - 1].
      corners: [M, M - 1] from `coordinates`.
    """
    system = np.vstack([corners.T, np.ones(len(corners))])
    return np.linalg.solve(system, np.vstack([points.T, np.ones(len(points))])).T


def mixed(corners: Sequence[Mapping[str, Any]], share: jax.Array) -> dict[str, Any]:
    """sum_m share_m w_m: exactly a corner where the others' shares are 0; share [M]."""
    return jax.tree.map(lambda *leaves: sum(s * leaf for s, leaf in zip(share, leaves, strict=True)), *corners)


def on_line(points: int, beyond: float) -> np.ndarray:
    """Places a of the line, ascending: 0, 1, and `points` evenly from -beyond to 1 + beyond."""
    return np.unique([*np.round(np.linspace(-beyond, 1 + beyond, points), 9), 0, 1])


def on_plane(corners: np.ndarray, grid: int, beyond: float) -> tuple[np.ndarray, np.ndarray]:
    """x [grid] and y [grid] of a rectangle around the corners, wider by `beyond` of its sides at each end."""
    low, high = corners.min(0), corners.max(0)
    margin = beyond * (high - low)
    return tuple(np.linspace(*edges, grid) for edges in zip(low - margin, high + margin, strict=True))


def check(subject: Subject) -> None:
    """Raises `InputError` where --others is no run that has a place beside the two."""
    pair, settings = subject.pair, subject.settings
    if settings.others:
        third(settings.others, settings.checkpoint, pair, pair.after.params)


def measure(subject: Subject) -> list[Row]:
    """Loss and metrics at each point of the line, and of the plane where --others names a third model."""
    pair, settings = subject.pair, subject.settings
    scorer = Scorer(pair, subject.dev, settings.checkpoint)
    own = trees.to_host(scorer.params)
    corners = {"before": start(pair, own), "after": own}
    if settings.others:
        corners["others"] = third(settings.others, settings.checkpoint, pair, own)
    where = coordinates([*corners.values()])  # first of all: not every two or three models have a line or a plane
    at = on_line(settings.points, settings.beyond)
    places = [{"kind": "line", "at": float(a)} for a in at]
    rows = _scored(scorer, [corners["before"], own], np.stack([1 - at, at], 1), places, "line")
    if settings.others:
        x, y = on_plane(where, settings.grid, settings.beyond)
        points = np.concatenate([where, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)])
        places = [{"kind": "plane", **({"corner": name} if name else {}), "x": float(x), "y": float(y)}
                  for name, (x, y) in zip([*corners, *[""] * (len(points) - 3)], points, strict=True)]
        rows += _scored(scorer, [*corners.values()], shares(points, where), places, "plane")
    return rows


def start(pair: Pair, own: Mapping[str, Any]) -> dict[str, Any]:
    """w0: all of `before` that is no task's own, and the rest from `own`, the parameters of `after`."""
    given = pair.before.params
    return {**own, **{part: given[part] for part in own if part in given and part not in heads.OWN}}


def third(run: str, checkpoint: str, pair: Pair, own: Mapping[str, Any]) -> dict[str, Any]:
    """w2: the parameters of another run.

    Args:
      run: as `after` of `models.load`.
      checkpoint: best or last.
      pair: to whose `after` it is a third.
      own: the parameters of `after`.

    Raises:
      InputError: it is of another task, shape or vocabulary, lacks parameters of `own`, or has some that are not
        finite.
    """
    model, config = models.read(run, checkpoint)
    task = pair.config.task
    refuse([f"its task is {config.task}, that of --after is {task}"] if config and config.task != task else [],
           f"--others={run}")
    models.comparable(pair.after, model)
    params = {part: model.params[part] for part in own if part in model.params}
    refuse(trees.mismatches(params, own), f"--others={run}: no run on the task of --after")
    models.sound(model, "others")
    return params


def _scored(scorer: Scorer, corners: Sequence[Mapping[str, Any]], share: np.ndarray,
            places: Sequence[dict[str, Any]], what: str) -> list[Row]:
    """Rows of all points; `share` [P, M], `places` what each row says of its point."""
    placed = scorer.placement.put(tuple(corners))
    model = jax.jit(mixed, out_shardings=scorer.placement.replicated)
    rows = []
    with bar(len(share), f"loss on the {what}", unit="models") as progress:
        for each, place in zip(share.astype(np.float32), places, strict=True):
            found = scorer.scores(model(placed, each))
            rows += [{"layer": None, **place, "measure": name, "task": scorer.task, "value": finite(found[name]),
                      "examples": len(scorer.examples)} for name in scorer.metrics if name in found]
            progress.update()
    return rows


figure = own_figures.landscape


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each point of the line, and for each model on the plane; its grid is in the rows alone."""
    measures = names(rows, "measure")
    value: dict[float | str, dict[str, float]] = {}
    for row in rows:
        point = row["at"] if row["kind"] == "line" else row.get("corner")
        if point is not None:
            value.setdefault(point, {})[row["measure"]] = row["value"]
    return [["point", *measures],
            *([f"{point} on the plane" if isinstance(point, str) else f"a = {point:g}",
               *(cell(told[name]) for name in measures)] for point, told in value.items())]
