"""What the optimizers make of a gradient that is always the same, from their own code.

With a constant gradient a corrected step is as large as the learning rate of the day: m / c1 and sqrt(v / c2) are
the gradient itself. Without correction it is larger by

    (1 - b1^t) / sqrt(1 - b2^t)        t = 1, 2, ...: the number of the update

whatever the gradient, where epsilon is added before the correction (`optimizers.scale_by_adam`). Correction is a
rate times the inverse of that.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxbert import optimizers
from flaxbert.config import RECIPES, Config

DIGITS = 5
LONG = 3000  # steps after which correction changes a step by 3 %


def sizes(recipe: str, steps: int, corrected: bool, **other: Any) -> np.ndarray:
    """[steps] size of each update over the peak rate, of a parameter whose gradient is always 1.

    Args:
      recipe: of `config.RECIPES`.
      steps: of the run.
      corrected: with bias correction or not, whatever the recipe has.
      other: settings in place of the recipe's.
    """
    config = Config.make(recipe=recipe, **{"learning_rate": 1.0, "weight_decay": 0.0, "clip_norm": 0.0,
                                           "bias_correction": corrected, **other})
    transform, _ = optimizers.make(config, steps)
    start = {"weight": jnp.float32(0)}

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        updates, state = transform.update({"weight": jnp.float32(1)}, state, params)
        return (optax.apply_updates(params, updates), state), -updates["weight"]
    _, found = jax.lax.scan(step, (start, transform.init(start)), None, length=steps)
    return np.asarray(found, np.float64)


def factor(steps: int) -> np.ndarray:
    """[steps] by how much a step without correction is larger than the same one with it, for t = 1, 2, ..."""
    return _factor(max(steps, LONG))[:steps]


@cache
def _factor(steps: int) -> np.ndarray:
    plain, corrected = (sizes("zhang", steps, yes, warmup=0.0, schedule="constant") for yes in (False, True))
    return plain / corrected


def found(recipe: str, steps: int) -> dict[str, Any]:
    """What a record keeps of a recipe: whether it corrects, its steps of warm-up, and `sizes` both ways."""
    settings = Config.make(recipe=recipe)
    return {"bias_correction": RECIPES[recipe]["bias_correction"],
            "warmup_steps": optimizers.warmup_steps(settings, steps),
            **{name: [rounded(x) for x in sizes(recipe, steps, yes)]
               for name, yes in (("without", False), ("with", True))}}


def rounded(value: float) -> float | None:
    """A number as a record keeps it; None where it is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
