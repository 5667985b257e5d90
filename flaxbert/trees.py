"""Parameter trees by name: flatten, match ordered patterns, merge, count.

A tree is a nested dict of arrays; the name of a leaf is its path joined by "/", for example
`bert/layer_0/attention/query/kernel`.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Tree = Any
Patterns = Sequence[tuple[str, Any]]


def flatten(tree: Mapping) -> dict[str, Any]:
    """Name -> leaf, in the order of the tree; an empty dict is no leaf."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{name}": leaf for name, leaf in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict:
    """The inverse of `flatten`."""
    tree: dict = {}
    for name, leaf in flat.items():
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


def map_named(function: Callable[[str, Any], Any], tree: Mapping) -> dict:
    """`function(name, leaf)` at every leaf."""
    return unflatten({name: function(name, leaf) for name, leaf in flatten(tree).items()})


def named(tree: Tree) -> Tree:
    """The tree with each leaf's own name in its place; also of a tree with holes (`optax.masked`)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), tree)


def number(name: str) -> int:
    """A number below 2^32 for a name, the same in every process: it keys what is drawn for a leaf."""
    return zlib.crc32(name.encode())


def normal(seed: int, name: str, shape: Sequence[int], spread: float) -> np.ndarray:
    """N(0, spread^2), float32: a function of the seed and the leaf's name."""
    return np.random.default_rng([seed, number(name)]).normal(0, spread, shape).astype(np.float32)


def match(tree: Mapping, patterns: Patterns) -> dict:
    """The value of the first pattern that matches each leaf's whole name, as a tree.

    Args:
      tree: nested dict.
      patterns: ordered (regular expression, value); first match wins.

    Raises:
      ValueError: a leaf that no pattern covers, or a pattern that decides no leaf.
    """
    names = list(flatten(tree))
    compiled = [re.compile(pattern) for pattern, _ in patterns]
    found = {name: next((i for i, p in enumerate(compiled) if p.fullmatch(name)), None) for name in names}
    uncovered = [name for name, i in found.items() if i is None]
    idle = [patterns[i][0] for i in range(len(patterns)) if i not in found.values()]
    if uncovered or idle:
        raise ValueError(f"leaves that no pattern covers: {uncovered}; patterns that decide no leaf: {idle}")
    return unflatten({name: patterns[i][1] for name, i in found.items()})


def split(tree: Mapping, mask: Mapping) -> tuple[dict, dict]:
    """The leaves where `mask` is true and those where it is false, as two trees; `merge` undoes it."""
    chosen = flatten(mask)
    flat = flatten(tree)
    return (unflatten({name: leaf for name, leaf in flat.items() if chosen[name]}),
            unflatten({name: leaf for name, leaf in flat.items() if not chosen[name]}))


def merge(base: Mapping, over: Mapping) -> dict:
    """`base` with the leaves of `over` in place of its own; both nested dicts, `over` may hold fewer."""
    return unflatten({**flatten(base), **flatten(over)})


def count(tree: Mapping, mask: Mapping | None = None) -> int:
    """Number of scalars in the leaves, or in those where `mask` (a tree of bool) is true."""
    chosen = None if mask is None else flatten(mask)
    return sum(int(np.prod(leaf.shape)) for name, leaf in flatten(tree).items()
               if chosen is None or chosen[name])


def mismatches(got: Mapping, want: Mapping) -> list[str]:
    """One line for each leaf that is missing, unexpected or of another shape than `want`'s."""
    got, want = flatten(got), flatten(want)
    return ([f"missing {name} {tuple(want[name].shape)}" for name in want if name not in got]
            + [f"unexpected {name} {tuple(got[name].shape)}" for name in got if name not in want]
            + [f"{name} has shape {tuple(got[name].shape)}, not {tuple(want[name].shape)}"
               for name in want if name in got and tuple(got[name].shape) != tuple(want[name].shape)])


def to_host(tree: Tree) -> Tree:
    """The tree with every leaf a numpy array of this process."""
    return jax.tree.map(np.asarray, jax.device_get(tree))
