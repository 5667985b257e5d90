"""Failed runs against good ones, as a picture."""

import math

import numpy as np
import pytest
from matplotlib import figure

from flaxbert import failures
from flaxbert.drawing import COLOURS, FAILED

LAYERS, STEPS = 5, (10, 20, 30)


def rows(seed, until=30):
    """Of one run, a row of training and one of diagnostics at each step; numbers of the seed."""
    for step in STEPS:
        if step > until:
            return
        yield {"step": step, "seed": seed, "split": "train", "loss": (seed + 1) * step}
        yield {"step": step, "seed": seed, "split": "dev", "mcc": 0.0}
        yield {"step": step, "seed": seed, "split": "diagnostics", "entropy_ratio": 0.5,
               "saturation": None if seed == 3 else seed / 10, "grad_norm/head": 1.0,
               "distance/head": 9.0, "distance/pooler": 4.0 * seed, "distance/layer_0": 3.0 * seed,
               **{f"grad_norm/layer_{i}": float(i) for i in range(LAYERS)}}


@pytest.fixture
def drawn(monkeypatch):
    """(rows, failed) -> the axes with a title, by it."""
    found = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *_, **__: found.append(self))

    def draw(*given):
        failures.figure(*given, "never written", "title")
        return {axes.get_title("left"): axes for axes in found[-1].axes if axes.axison}
    return draw


def lines(axes, colour):
    """The thin lines and the thick one."""
    mine = [line for line in axes.lines if line.get_color() == colour]
    return mine[:-1], mine[-1]


def test_each_run_is_a_thin_line_and_the_median_a_thick_one(drawn):
    given = [row for seed in range(5) for row in rows(seed, until=20 if seed == 4 else 30)]
    axes = drawn(given, [3, 4, 7])
    assert [*axes] == ["training loss", "entropy of predictions / log C", "pooler: outputs beyond ±0.99",
                       "encoder: distance from its start", "gradient norm, layer 0", "gradient norm, layer 2",
                       "gradient norm, layer 4", "gradient norm, head"]
    thin, thick = lines(axes["training loss"], COLOURS[0])
    assert len(thin) == 3
    np.testing.assert_array_equal(thick.get_xydata(), [(10, 20), (20, 40), (30, 60)])  # seed 1 of 0, 1, 2
    thin, thick = lines(axes["training loss"], FAILED)
    assert [len(line.get_xdata()) for line in thin] == [3, 2]
    np.testing.assert_array_equal(thick.get_ydata(), [45, 90, 120])  # seed 4 has ended before the last step
    distance = lines(axes["encoder: distance from its start"], COLOURS[0])[0]
    assert math.isnan(distance[0].get_ydata()[0])  # zero has no logarithm
    assert distance[2].get_ydata()[0] == 10  # of 6 and 8
    saturated, median = lines(axes["pooler: outputs beyond ±0.99"], FAILED)
    assert np.isnan(saturated[0].get_ydata()).all()
    assert median.get_ydata()[0] == 0.4
    assert axes["gradient norm, head"].get_ylim() == axes["gradient norm, layer 4"].get_ylim()
    assert axes["gradient norm, head"].get_yscale() == "log"


def test_panels_are_of_what_was_measured(drawn):
    assert [*drawn([row for row in rows(0) if row["split"] == "train"], [])] == ["training loss"]
    frozen = failures.panels(["grad_norm/head", "distance/head", "entropy", "entropy_ratio"])
    assert [p.title for p in frozen] == ["training loss", "entropy of predictions / log C", "gradient norm, head"]
    two = failures.panels([f"grad_norm/layer_{i}" for i in (9, 10)])
    assert [p.title for p in two] == ["training loss", "gradient norm, layer 9", "gradient norm, layer 10"]
