"""Low-rank updates beside frozen matrices (`--strategy=lora`).

A dense layer of the encoder whose tree holds them computes (`bert.Dense`)

  y = x W + b + s (x A) B,   A [in, r], B [r, out], s = alpha / r,

so that the gradient of the frozen W, as large as W, is never made. B starts at zero: the model starts as it was.

Source: Hu et al. 2021 (2106.09685), section 4.1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxbert import trees
from flaxbert.config import Config
from flaxbert.errors import InputError, one_of

# What --lora_targets calls the matrices of a layer, and their modules.
TARGETS = {"query": "attention/query", "key": "attention/key", "value": "attention/value",
           "output": "attention/output", "intermediate": "mlp/intermediate", "mlp_output": "mlp/output"}


def extend(params: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The tree with leaves `lora_a`, `lora_b` and `lora_scale` (A, B and s) beside each target's kernel.

    A is drawn from N(0, 1 / (3 in)), from seed and name alone: normal as the paper says, and as wide as what its
    authors' code draws.

    Args:
      params: of an encoder with heads, float32.
      config: `lora_rank`, `lora_alpha`, `lora_targets` and the seed of init.

    Raises:
      InputError: an unknown target, none, or a rank that a matrix cannot have.
    """
    if not config.lora_targets:
        raise InputError(f"--lora_targets=: none; valid: {', '.join(TARGETS)}")
    modules = {TARGETS[one_of(target, tuple(TARGETS), "--lora_targets")] for target in config.lora_targets}
    rank, seed, flat = config.lora_rank, config.seed_of("init"), trees.flatten(params)
    for name in list(flat):
        module, _, leaf = name.rpartition("/")
        if leaf != "kernel" or not module.startswith("bert/") or module.split("/", 2)[2] not in modules:
            continue
        width, features = flat[name].shape
        if rank > min(width, features):
            raise InputError(f"--lora_rank={rank}: {name} is {width} x {features}; valid: 1 to "
                             f"{min(width, features)}")
        flat[f"{module}/lora_a"] = trees.normal(seed, f"{module}/lora_a", (width, rank), (3 * width)**-0.5)
        flat[f"{module}/lora_b"] = np.zeros((rank, features), np.float32)
        flat[f"{module}/lora_scale"] = np.array(config.lora_alpha / rank, np.float32)
    return trees.unflatten(flat)


def merge(params: Mapping[str, Any]) -> dict[str, Any]:
    """The plain model that computes the same: W + s A B in place of W; a tree without such leaves as it is."""
    flat = trees.flatten(params)
    for name in [name for name in flat if name.endswith("/lora_a")]:
        module = name.rpartition("/")[0]
        a, b, scale = (flat.pop(f"{module}/lora_{leaf}") for leaf in ("a", "b", "scale"))
        flat[f"{module}/kernel"] = flat[f"{module}/kernel"] + scale * (a @ b)
    return trees.unflatten(flat)
