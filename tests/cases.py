"""Random small encoders and padded batches for them: what parity is measured on. No torch.

Letters: N sequences, T tokens a row, C outputs.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from flaxbert import heads, trees
from flaxbert.bert import Bert, BertConfig

# How XLA compiles, for `compiler_options`: fast, as in all tests that say nothing (conftest.py), or as for users.
# ALIKE: programs that differ elsewhere round alike, as users' do and those of XLA's older emitters do not.
QUICK, ALIKE, OPTIMIZED = ({"xla_backend_optimization_level": level, "xla_cpu_use_fusion_emitters": new}
                           for level, new in ((0, False), (0, True), (3, True)))


@dataclass(frozen=True)
class Case:
    """One random configuration: an encoder, its head, and the seed that draws weights and batch."""

    seed: int
    config: BertConfig
    kind: str
    outputs: int
    rows: int
    length: int

    @property
    def model(self) -> heads.SequenceModel:
        return heads.SequenceModel(self.config, self.outputs)


def draw(seed: int) -> Case:
    """The case number `seed`; widths, depths, lengths and heads at random, kinds and GELUs in turn."""
    rng = np.random.default_rng(seed)
    head_count, head_width = int(rng.integers(1, 5)), int(rng.choice([4, 6, 7, 12]))
    width = head_count * head_width
    kind = ("classification", "regression", "classification", "multi_label")[seed % 4]
    config = BertConfig(
        vocab_size=int(rng.integers(20, 60)), hidden_size=width, num_hidden_layers=(1, 2, 1, 3, 1)[seed % 5],
        num_attention_heads=head_count, intermediate_size=int(rng.integers(width, 2 * width)),
        hidden_act=("gelu", "gelu_new")[seed // 2 % 2], max_position_embeddings=24,
        layer_norm_eps=(1e-12, 1e-5)[seed % 3 == 0])
    return Case(seed, config, kind, 1 if kind == "regression" else int(rng.integers(2, 6)),
                int(rng.integers(2, 6)), int(rng.choice([3, 5, 7, 11, 13, 17, 19, 23, 24])))


def params(case: Case, scale: float = 0.2) -> dict[str, Any]:
    """Random parameters, LayerNorm's and biases too, so that no term is trivially zero. Compiles nothing."""
    rng = np.random.default_rng(case.seed)
    shapes = heads.shapes(case.model)
    return trees.map_named(lambda name, leaf: np.asarray(
        name.endswith("scale") + scale * rng.normal(size=leaf.shape), np.float32), shapes)


def batch(case: Case, seed: int) -> dict[str, np.ndarray]:
    """A padded batch (fields: `data.py`): random ids, odd lengths, two segments, one row without padding."""
    rng = np.random.default_rng([case.seed, seed])
    shape = n, t = case.rows, case.length
    lengths = rng.integers(2, t + 1, n)
    lengths[0] = t
    column = np.arange(t)
    real = column < lengths[:, None]
    second = real & (column >= rng.integers(1, lengths + 1)[:, None])
    labels = {"classification": lambda: rng.integers(0, case.outputs, (n, 1)).astype(np.int32),
              "regression": lambda: rng.normal(2.5, 1, (n, 1)).astype(np.float32),
              "multi_label": lambda: rng.integers(0, 2, (n, 1, case.outputs)).astype(np.float32)}[case.kind]()
    return {"tokens": np.where(real, rng.integers(1, case.config.vocab_size, shape), 0).astype(np.int32),
            "types": second.astype(np.int32), "positions": np.broadcast_to(column, shape).astype(np.int32),
            "sequence": real.astype(np.int32), "first": np.zeros((n, 1), np.int32), "labels": labels,
            "weights": np.ones((n, 1), np.float32), "row": np.arange(n, dtype=np.int32)}


def packed(rows: Mapping[str, np.ndarray], places: list[list[tuple[int, int]]], length: int,
           slots: int) -> dict[str, np.ndarray]:
    """The same sequences, several a row.

    Args:
      rows: a padded batch.
      places: for each new row, (old row, first column) of what stands in it.
      length: T of the new rows.
      slots: E of the new rows.
    """
    n = len(places)
    new = {name: np.zeros((n, length), np.int32) for name in ("tokens", "types", "positions", "sequence")}
    new |= {"first": np.zeros((n, slots), np.int32), "weights": np.zeros((n, slots), np.float32),
            "labels": np.zeros((n, slots, *rows["labels"].shape[2:]), rows["labels"].dtype),
            "row": np.arange(n, dtype=np.int32)}
    for row, place in enumerate(places):
        for slot, (old, start) in enumerate(place):
            size = rows["sequence"][old].sum()
            for name in ("tokens", "types", "positions"):
                new[name][row, start:start + size] = rows[name][old, :size]
            new["sequence"][row, start:start + size] = slot + 1
            new["first"][row, slot], new["weights"][row, slot] = start, 1
            new["labels"][row, slot] = rows["labels"][old, 0]
    return new


@functools.cache
def everything(model: heads.SequenceModel, kind: str, optimized: bool = False):
    """A compiled (params, batch) -> (hidden states, pooled, logits, loss, gradients), of one forward pass.

    Compiling takes nearly all the time of these tests, so LLVM's optimisation is off unless asked for.
    """
    def loss_of(params: Any, batch: Mapping[str, jax.Array]):
        logits, caught = model.apply({"params": params}, batch, mutable=["intermediates"],
                                     capture_intermediates=lambda m, name: isinstance(m, Bert) or name == "pooled")
        losses = heads.LOSSES[kind](logits, batch)
        caught = caught["intermediates"]
        return ((losses * batch["weights"]).sum() / batch["weights"].sum(),
                (caught["bert"]["__call__"][0], caught["pooled"][0], logits))

    def compute(params: Any, batch: Mapping[str, jax.Array]):
        (loss, seen), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, batch)
        return *seen, loss, gradients
    return jax.jit(compute, compiler_options=OPTIMIZED if optimized else QUICK)


def worst_gradient(got: Mapping[str, Any], want: Mapping[str, Any]) -> tuple[float, str]:
    """(error, name) of the worst leaf, the error in units of what is allowed.

    Allowed is 1e-4 of the leaf's largest entry, or 1e-6 of the largest entry of all where that is more: the
    gradient of a key's bias is zero in exact arithmetic, for softmax does not see a constant added to all
    scores of a token.
    """
    largest = {name: float(np.abs(leaf).max()) for name, leaf in want.items()}
    floor = 1e-6 * max(largest.values())
    return max((float(np.abs(np.asarray(got[name]) - leaf).max()) / max(1e-4 * largest[name], floor), name)
               for name, leaf in want.items())
