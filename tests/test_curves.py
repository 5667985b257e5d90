"""Pictures of runs."""

import pytest

from flaxbert import curves

pytestmark = pytest.mark.pictures
ROWS = [{"split": "dev", "step": step, "loss": 1.0, "perplexity": value}
        for step, value in ((1, 9.0), (2, 4.0), (3, 7.0))]


@pytest.mark.parametrize(("lowest", "best"), [(False, "9.000"), (True, "4.000")])
def test_the_best_evaluation_is_marked(tmp_path, monkeypatch, lowest, best):
    from matplotlib.axes import Axes
    marked, annotate = [], Axes.annotate

    def noted(self, text, *args, **kwargs):
        marked.append(text)
        return annotate(self, text, *args, **kwargs)
    monkeypatch.setattr(Axes, "annotate", noted)
    curves.learning_curve(ROWS, "perplexity", tmp_path / "one.png", lowest)
    curves.learning_curves({"a": ROWS, "b": ROWS}, "perplexity", tmp_path / "two.png", "two", lowest)
    assert marked == [best] * 3
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("one", "two"))
