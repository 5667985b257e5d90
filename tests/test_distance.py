"""How far parameters went: a change made by hand, an independent sum, and a kind for every parameter."""

import numpy as np
import pytest
from small import lively, shape

from flaxbert import heads, trees
from flaxbert.analysis import distance as module
from flaxbert.analysis.distance import ALL, by_layer, distance


@pytest.fixture(scope="module")
def encoder():
    model = heads.SequenceModel(shape(12), 2)
    params = lively(heads.shapes(model))
    return {**params["bert"], "pooler": params["pooler"]}


def values(rows, measure="absolute"):
    return {(row["layer"], row["kind"]): row["value"] for row in rows if row["measure"] == measure}


def test_three_and_four_make_five():
    found = distance([np.array([3.0, 0.0]), np.array([[4.0]])], [np.array([0.0, 0.0]), np.array([[0.0]])])
    assert found[:2] == (5, 1)
    assert np.isnan(found.cosine)
    found = distance([np.array([1.0, 0.0])], [np.array([1.0, 1.0])])
    assert found == pytest.approx((1, 1, 0.5 ** 0.5))


def test_nothing_moves_and_nothing_was_there():
    assert distance([np.ones(3)], [np.ones(3)]) == pytest.approx((0, 0, 1))
    assert np.isnan(distance([np.zeros(3)], [np.ones(3)])[1:]).all()


def test_a_change_far_below_the_rounding_of_squares_is_seen():
    w = np.ones(1000, np.float32)
    moved = w.copy()
    moved[0] += np.float32(1e-6)
    assert distance([w], [moved]).absolute == pytest.approx(float(moved[0]) - 1, rel=1e-12)


def test_one_matrix_of_one_layer_moves_and_only_its_rows_tell(encoder):
    moved = trees.map_named(
        lambda name, x: x + np.float32(0.5) if name == "layer_10/attention/key/kernel" else x, encoder)
    absolute = values(by_layer(encoder, moved))
    change = 0.5 * encoder["layer_10"]["attention"]["key"]["kernel"].size ** 0.5
    for where, value in absolute.items():
        assert value == pytest.approx(change if where in ((11, "key"), (11, ALL)) else 0, rel=1e-5), where
    assert [layer for layer, kind in absolute if kind == ALL] == [*range(13), None]


def test_a_layer_is_the_sum_of_its_kinds_and_agrees_with_numpy(encoder):
    moved = lively(encoder, seed=1)
    rows = by_layer(encoder, moved)
    absolute = values(rows)
    for layer in (0, 1, 12):
        kinds = [value for (at, kind), value in absolute.items() if at == layer and kind != ALL]
        assert absolute[layer, ALL] ** 2 == pytest.approx(sum(np.square(kinds)))
    old, new = (np.concatenate([x.ravel() for x in trees.flatten(tree["layer_3"]).values()]).astype(np.float64)
                for tree in (encoder, moved))
    assert absolute[4, ALL] == pytest.approx(np.linalg.norm(new - old))
    assert values(rows, "relative")[4, ALL] == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old))
    assert values(rows, "cosine")[4, ALL] == pytest.approx(old @ new / np.linalg.norm(old) / np.linalg.norm(new))
    assert sum(row["parameters"] for row in rows if row["kind"] == ALL and row["measure"] == "absolute"
               ) == trees.count(encoder)


def test_the_table_tells_cosines_near_one_apart(encoder):
    moved = trees.map_named(
        lambda name, x: x * np.float32(1.01) if name == "layer_0/attention/query/bias" else x, encoder)
    head, emb, first, *_, last = module.table(by_layer(encoder, moved))
    assert head == ["layer", "absolute", "relative", "1 - cosine"]
    assert (emb[:2], last[0]) == (["emb.", "0"], "pooler")
    assert 0 < float(first[3]) < 1e-6


def test_every_parameter_has_the_kind_that_its_name_says(encoder):
    kinds = {name: module.kind_of(name) for name in trees.flatten(encoder)}
    assert set(kinds.values()) == set(module.ORDER) - {ALL}
    assert kinds["layer_0/attention/output/kernel"] == "attention output"
    assert kinds["layer_0/mlp/output/kernel"] == "output"
    assert kinds["layer_0/mlp/layer_norm/bias"] == kinds["embeddings/layer_norm/scale"] == "layer norm"
    with pytest.raises(ValueError, match="no kind"):
        module.kind_of("layer_0/other")
