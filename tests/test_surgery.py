"""Layers put back: which ones, and what a real run scores with them."""

import json

import numpy as np
import pytest
from small import equal, refused, result_of

from flaxbert import analysis, pretrained, trees
from flaxbert.analysis import models, surgery
from flaxbert.analysis.base import Settings
from flaxbert.analysis.scoring import Scorer, dev_of
from flaxbert.analysis.subject import Subject
from flaxbert.config import Config


def test_which_parts_go_back():
    assert [surgery.parts("bottom", k, 2) for k in range(3)] == [
        (), ("embeddings", "layer_0"), ("embeddings", "layer_0", "layer_1")]
    assert [surgery.parts("top", k, 2) for k in range(3)] == [(), ("layer_1",), ("layer_0", "layer_1")]
    assert [*surgery.cuts(1)] == [("bottom", 0), ("bottom", 1), ("top", 0), ("top", 1)]


def test_all_but_these_parts_stays():
    def tree(x):
        return {"bert": {name: {"w": np.full(2, x)} for name in ("embeddings", "layer_0", "layer_1")}}
    after = {**tree(1.0), "head": {"w": np.ones(1)}}
    got = trees.flatten(surgery.reverted(after, tree(0.0)["bert"], ("layer_0",)))
    assert {name: float(x[0]) for name, x in got.items()} == {
        "bert/embeddings/w": 1, "bert/layer_0/w": 0, "bert/layer_1/w": 1, "head/w": 1}
    assert equal(after, {**tree(1.0), "head": {"w": np.ones(1)}})


@pytest.fixture(scope="module")
def subject(tuned):
    settings = Settings.make(after=str(tuned), what=["surgery"], checkpoint="last")
    return Subject(models.load(str(tuned), checkpoint="last"), settings)


@pytest.fixture(scope="module")
def rows(subject):
    return analysis.ANALYSES["surgery"].measure(subject)


def value(rows, end, k, measure):
    [found] = [row["value"] for row in rows if (row["end"], row["reverted"], row["measure"]) == (end, k, measure)]
    return found


def test_nothing_put_back_is_the_run_and_everything_the_pre_trained_encoder(subject, rows, tuned):
    said = result_of(tuned)["metrics"]["dev"]
    for end in surgery.ENDS:
        for measure in ("accuracy", "loss"):
            assert value(rows, end, 0, measure) == pytest.approx(said[measure], abs=1e-6)
    assert value(rows, "bottom", 1, "loss") != value(rows, "bottom", 0, "loss")
    # The other way round: the pre-trained model's whole encoder under the run's head.
    scorer = Scorer(subject.pair, subject.dev, "last")
    start = pretrained.load(subject.pair.before.source).params["bert"]
    want = scorer.scores(scorer.placement.put({**scorer.params, "bert": start}))
    assert value(rows, "bottom", 1, "loss") == pytest.approx(want["loss"], abs=1e-6)
    # From the top all layers but the embeddings.
    kept = {**start, "embeddings": trees.to_host(scorer.params)["bert"]["embeddings"]}
    want = scorer.scores(scorer.placement.put({**scorer.params, "bert": kept}))
    assert value(rows, "top", 1, "loss") == pytest.approx(want["loss"], abs=1e-6)


def test_rows_go_to_a_table_and_a_picture(rows, tmp_path):
    json.dumps(rows, allow_nan=False)
    assert {row["examples"] for row in rows} == {24}
    table = surgery.table(rows)
    assert table[0][:2] == ["reverted", "bottom accuracy"]
    assert [line[0] for line in table[1:]] == ["0", "1"]
    surgery.figure(rows, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_what_a_run_is_scored_on(tiny, text, tmp_path):
    model = pretrained.load(tiny)

    def found(data_dir="", **given):
        return dev_of(models.Pair(model, model, Config.make(**given) if given else None), data_dir)
    assert len(found(task="pretrain", train_file=text, max_length=32).head(1)) == 1  # documents: words are labels
    assert "elsewhere: no such folder" in refused(found, str(tmp_path / "elsewhere"), task="mrpc")
    assert "which task" in refused(found)
