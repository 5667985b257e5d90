"""Parameter trees by name: flatten, match, split, merge, count."""

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxbert import trees

TREE = {"bert": {"embeddings": {"word": np.zeros((5, 3))}, "layer_0": {"kernel": np.ones((3, 3))},
                 "layer_1": {"kernel": np.ones((3, 2))}, "layer_10": {"kernel": np.ones((1, 1))}},
        "head": {"bias": np.zeros(2)}}
NAMES = ["bert/embeddings/word", "bert/layer_0/kernel", "bert/layer_1/kernel", "bert/layer_10/kernel", "head/bias"]

keys = st.text("abc_0", min_size=1, max_size=3)
nested = st.recursive(st.integers(), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3),
                      max_leaves=8)
any_tree = st.dictionaries(keys, nested, min_size=1, max_size=3)


def test_names_stand_where_leaves_were_and_holes_stay():
    tree = {"bert": {"kernel": np.ones(2), "bias": optax.MaskedNode()}, "head": np.ones(1)}
    assert trees.named(tree) == {"bert": {"kernel": "bert/kernel", "bias": optax.MaskedNode()}, "head": "head"}


def test_what_is_drawn_for_a_leaf_goes_by_seed_and_name_and_is_the_same_everywhere():
    drawn = trees.normal(7, "head/kernel", (2, 2), 0.1)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, trees.normal(7, "head/kernel", (2, 2), 0.1))
    assert not np.array_equal(drawn, trees.normal(7, "head/bias", (2, 2), 0.1))
    assert not np.array_equal(drawn, trees.normal(8, "head/kernel", (2, 2), 0.1))
    assert trees.number("head/kernel") == 2080522366


def test_names_are_paths_in_the_order_of_the_tree():
    assert list(trees.flatten(TREE)) == NAMES
    assert trees.flatten({"a": {}, "b": 1}) == {"b": 1}


@given(any_tree)
def test_unflatten_undoes_flatten(tree):
    assert trees.unflatten(trees.flatten(tree)) == tree


def test_first_match_wins_and_the_whole_name_must_match():
    found = trees.match(TREE, [(r"bert/layer_1/.*", "one"), (r"bert/.*", "bert"), (".*", "rest")])
    assert trees.flatten(found) == dict(zip(NAMES, ["bert", "bert", "one", "bert", "rest"], strict=True))


def test_a_leaf_that_no_pattern_covers_is_an_error():
    with pytest.raises(ValueError, match=r"no pattern covers: \['head/bias'\].*no leaf: \[\]"):
        trees.match(TREE, [("bert/.*", 1)])


def test_a_pattern_that_decides_no_leaf_is_an_error():
    with pytest.raises(ValueError, match=r"covers: \[\].*no leaf: \['bert/layer_7/\.\*'\]"):
        trees.match(TREE, [("bert/layer_7/.*", 1), (".*", 0)])
    with pytest.raises(ValueError, match="decide no leaf"):
        trees.match(TREE, [(".*", 0), ("head/.*", 1)])  # all it could match is decided before it


def test_split_and_merge_are_inverse():
    mask = trees.match(TREE, [("bert/layer_.*", True), (".*", False)])
    chosen, rest = trees.split(TREE, mask)
    assert list(trees.flatten(chosen)) == NAMES[1:4]
    assert list(trees.flatten(rest)) == [NAMES[0], NAMES[4]]
    merged = trees.merge(rest, chosen)
    assert trees.flatten(merged).keys() == trees.flatten(TREE).keys()
    assert all(trees.flatten(merged)[name] is leaf for name, leaf in trees.flatten(TREE).items())


def test_merge_takes_the_second_where_both_have_a_leaf():
    assert trees.merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}}


def test_count_of_all_and_of_a_part():
    assert trees.count(TREE) == 15 + 9 + 6 + 1 + 2
    assert trees.count(TREE, trees.match(TREE, [("head/.*", True), (".*", False)])) == 2


def test_map_named_gets_name_and_leaf():
    found = trees.map_named(lambda name, leaf: (name, leaf.shape), TREE)
    assert trees.flatten(found) == {name: (name, leaf.shape) for name, leaf in trees.flatten(TREE).items()}


def test_all_mismatches_are_told_at_once():
    got = {"a": np.zeros(2), "b": np.zeros((2, 3)), "extra": np.zeros(1)}
    want = {"a": np.zeros(2), "b": np.zeros((3, 2)), "lost": np.zeros(4)}
    assert trees.mismatches(got, want) == ["missing lost (4,)", "unexpected extra (1,)",
                                           "b has shape (2, 3), not (3, 2)"]
    assert trees.mismatches(want, want) == []
