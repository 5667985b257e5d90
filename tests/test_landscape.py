"""The way between models: distances, the plane through three, and losses on both."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from small import equal, lively, refused, result_of

from flaxbert import analysis, trees
from flaxbert.analysis import landscape, models
from flaxbert.analysis.base import Settings
from flaxbert.analysis.scoring import Scorer
from flaxbert.analysis.subject import Subject
from flaxbert.config import Config


def tree(*values):
    """A tree of one model whose weights are these."""
    return {"a": {"w": np.float32(values[:2])}, "b": np.float32([values[2:]])}


THREE = (tree(1, 1, 1, 1), tree(1, 4, 1, 1), tree(1, 3, 1, 6))


def distance(a, b):
    b = trees.flatten(b)
    return np.sqrt(sum(((x - b[name])**2).sum() for name, x in trees.flatten(a).items()))


def test_distances_on_the_plane_are_those_of_the_weights():
    np.testing.assert_allclose(landscape.coordinates(THREE[:2]), [[0], [3]])
    np.testing.assert_allclose(landscape.coordinates(THREE), [[0, 0], [3, 0], [2, 5]])
    rng = np.random.default_rng(0)
    corners = [lively(tree(0, 0, 0, 0), seed) for seed in range(3)]
    at = landscape.coordinates(corners)
    for i in range(3):
        for j in range(3):
            assert np.linalg.norm(at[i] - at[j]) == pytest.approx(distance(corners[i], corners[j]), abs=1e-6)
    points = rng.normal(size=(5, 2))
    shares = landscape.shares(points, at)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose(shares @ at, points, atol=1e-12)
    np.testing.assert_allclose(landscape.shares(at, at), np.eye(3), atol=1e-12)
    models = [landscape.mixed(corners, share) for share in shares.astype(np.float32)]
    assert distance(models[0], models[1]) == pytest.approx(np.linalg.norm(points[0] - points[1]), abs=1e-5)


def test_a_corner_is_itself_to_the_last_bit():
    corners = [lively(tree(0, 0, 0, 0), seed) for seed in range(3)]
    for number, share in enumerate(landscape.shares(at := landscape.coordinates(corners), at)):
        mixed = trees.flatten(landscape.mixed(corners, share.astype(np.float32)))
        for name, leaf in trees.flatten(corners[number]).items():
            np.testing.assert_array_equal(mixed[name], leaf)


def test_no_way_and_no_plane():
    assert "same weights" in refused(landscape.coordinates, (THREE[0], THREE[0]))
    assert "one line" in refused(landscape.coordinates, (THREE[0], THREE[1], tree(1, -2, 1, 1)))
    assert "one line" in refused(landscape.coordinates, (*THREE[:2], THREE[0]))


def test_points_of_line_and_plane():
    np.testing.assert_allclose(landscape.on_line(5, 0.5), [-0.5, 0, 0.5, 1, 1.5])
    np.testing.assert_allclose(landscape.on_line(2, 0.25), [-0.25, 0, 1, 1.25])
    np.testing.assert_allclose(landscape.on_line(3, 0), [0, 0.5, 1])
    x, y = landscape.on_plane(np.array([[0, 0], [3, 0], [2, 5]]), 3, 0.5)
    np.testing.assert_allclose(x, [-1.5, 1.5, 4.5])
    np.testing.assert_allclose(y, [-2.5, 2.5, 7.5])


@pytest.fixture(scope="module")
def subject(tuned):
    settings = Settings.make(after=str(tuned), others="x", what=["landscape"], checkpoint="last", points=3, grid=2,
                             beyond=0.5)
    return Subject(models.load(str(tuned), checkpoint="last"), settings)


@pytest.fixture(scope="module")
def scorer(subject):
    return Scorer(subject.pair, subject.dev, "last")


@pytest.fixture(scope="module")
def own(scorer):
    """The run's parameters on the host."""
    return trees.to_host(scorer.params)


@pytest.fixture(scope="module")
def other(own):
    """Those of a third model."""
    return trees.map_named(lambda name, x: x + 0.01 * trees.normal(0, name, x.shape, 1), own)


@pytest.fixture(scope="module")
def rows(subject, other):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landscape, "third", lambda *_: other)
        return analysis.ANALYSES["landscape"].measure(subject)


def value(rows, measure="loss", **fields):
    [found] = [row["value"] for row in rows
               if row["measure"] == measure and all(row.get(name) == x for name, x in fields.items())]
    return found


def test_the_ends_of_the_line_are_the_models(subject, scorer, other, rows, tuned):
    for measure in ("accuracy", "loss"):
        said = result_of(tuned)["metrics"]["dev"][measure]
        assert value(rows, measure, kind="line", at=1.0) == pytest.approx(said, abs=1e-6)
        assert value(rows, measure, kind="plane", corner="after") == pytest.approx(said, abs=1e-6)
    before = subject.pair.before.params  # its pooler is older than the task too
    start = {**scorer.params, "bert": before["bert"], "pooler": before["pooler"]}
    for corner, params in (("before", start), ("others", other)):
        want = scorer.scores(scorer.placement.put(params))["loss"]
        assert value(rows, kind="plane", corner=corner) == pytest.approx(want, abs=1e-6)
    assert value(rows, kind="line", at=0.0) == value(rows, kind="plane", corner="before")
    assert value(rows, kind="line", at=0.0) != value(rows, kind="line", at=1.0)


def test_rows_tell_where_each_point_is(subject, own, rows, tmp_path):
    json.dumps(rows, allow_nan=False)
    line = [row["at"] for row in rows if row["kind"] == "line" and row["measure"] == "loss"]
    assert line == [-0.5, 0, 0.5, 1, 1.5]
    plane = [row for row in rows if row["kind"] == "plane" and row["measure"] == "loss"]
    assert [row.get("corner") for row in plane] == ["before", "after", "others", *[None] * 4]
    far = distance(landscape.start(subject.pair, own), own)
    assert plane[1]["x"] == pytest.approx(far, rel=1e-5)
    assert landscape.table(rows)[-1][0] == "others on the plane"
    landscape.figure(rows, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 20_000


def test_points_that_are_near_each_other_have_lines_of_their_own():
    rows = [{"kind": "line", "at": float(at), "measure": "loss", "value": number}
            for number, at in enumerate(landscape.on_line(401, 0.5))]
    table = landscape.table(rows)
    assert len({line[0] for line in table}) == 1 + 401
    assert dict(table)["a = 1"] == landscape.cell(next(row["value"] for row in rows if row["at"] == 1))


def test_a_third_model_is_read_and_another_one_refused(subject, own, tuned, tiny, monkeypatch):
    pair = subject.pair

    def third(run, pair=pair):
        return landscape.third(str(run), "last", pair, own)
    assert equal(third(tuned), own)
    assert "no run on the task" in refused(third, tiny)
    of_cola = models.Pair(pair.before, pair.after, Config.make(task="cola"))
    assert (f"--others={tuned}: its task is toy_sentence, that of --after is cola"
            in refused(third, tuned, of_cola))
    # Weights of the same shapes do not make the same model.
    others = dataclasses.replace(pair.after, config=dataclasses.replace(pair.shape, layer_norm_eps=1e-5))
    monkeypatch.setattr(models, "read", lambda *_: (others, pair.config))
    assert "layer_norm_eps is 1e-12 and 1e-05" in refused(third, tuned)
    words = SimpleNamespace(get_vocab=lambda: {**pair.tokenizer.get_vocab(), "cow": 0})
    others = dataclasses.replace(pair.after, tokenizer=words)
    assert "1 tokens of the vocabularies differ, first 'cow'" in refused(third, tuned)
    params = trees.map_named(lambda name, x: x * np.nan if name == "head/bias" else x, pair.after.params)
    others = dataclasses.replace(pair.after, params=params)
    assert "--others=" in (said := refused(third, tuned))
    assert "of the numbers of head/bias 2 are not finite" in said


def test_models_without_a_line_or_a_plane_are_refused_before_anything_is_scored(subject, own, monkeypatch):
    monkeypatch.setattr(landscape, "_scored", None)
    monkeypatch.setattr(landscape, "third", lambda *_: own)
    assert "stand on one line" in refused(landscape.measure, subject)
