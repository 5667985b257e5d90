"""What a step tells of itself every so many steps (`--diagnose_every`), from the pass that it makes anyway.

The parts: embeddings, layer_0 ..., pooler, head (all else that stands on the encoder). Of each, over its leaves
that train, with g its gradient before clipping, W its weights after the update, and W0 those with which the run
began, pre-trained or drawn at random:

  grad_norm          |g|
  update_norm        |W - W before the update|
  param_norm         |W|
  distance           |W - W0|
  relative_distance  |W - W0| / |W0|; not a number where W0 is 0

With --strategy=lora those of the encoder are A and B themselves. Of the pass before the update, dropout and all:

  saturation         share of the pooler's outputs y = tanh(x) with |y| > 0.99, of examples that count: less than
                     a fiftieth of the gradient, 1 - y^2, comes through such a one
  entropy            mean of -sum_c p_c log p_c in nats, by the weights of the loss: what the model itself expects
                     its loss to be
  entropy_ratio      entropy / mean of log C: 1 where it only guesses

Source: Mosbach et al. 2021 (2006.04884), section 5, for the vanishing gradients of failed runs.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxbert import heads, rates, trees
from flaxbert.heads import Batch, entropies
from flaxbert.steps import Diagnostics

# Nearly the middle between two numbers of bfloat16, 0.9883 and 0.9922: it means the same there.
SATURATED = 0.99


def make(every: int, model: heads.Model, kind: str, trains: Mapping) -> Diagnostics:
    """What `make_train_step` needs to know.

    Args:
      every: updates from one time to the next, 1 or more.
      model: which is trained.
      kind: of the task.
      trains: tree of bool over all leaves.
    """
    def apply(params: Any, batch: Batch, dropout: Any) -> tuple[Any, dict]:
        return model.apply({"params": params}, batch, dropout, mutable=["intermediates"])
    entropy = entropies.of_chain if model.top.crf else entropies.ENTROPIES.get(kind)
    return Diagnostics(every, apply, partial(predictions, entropy), partial(weights, parts(trains)))


def part(name: str) -> str:
    """The part that a leaf belongs to: that of its rate; but the pooler, which was pre-trained, is its own."""
    return "pooler" if name.startswith("pooler/") else rates.part(name)


def parts(trains: Mapping) -> dict[str, list[str]]:
    """Part -> the names of its leaves that train, from the embeddings upwards; a part without any is none."""
    found: dict[str, list[str]] = {}
    for name, yes in trees.flatten(trains).items():
        if yes:
            found.setdefault(part(name), []).append(name)
    layers = sorted((p for p in found if p.startswith("layer_")), key=lambda p: int(p.removeprefix("layer_")))
    return {p: found[p] for p in ("embeddings", *layers, "pooler", "head") if p in found}


def weights(parts: Mapping[str, list[str]], grads: Mapping, updates: Mapping, params: Mapping,
            initial: Mapping) -> dict[str, jax.Array]:
    """Name -> [parts]; see above.

    Args:
      parts: of this module's function.
      grads, updates, params, initial: trees of the leaves that train: g, W - W before, W and W0.
    """
    def norms(tree: Mapping) -> jax.Array:
        flat = trees.flatten(tree)
        return jnp.stack([optax.global_norm([flat[name] for name in names]) for names in parts.values()])
    distance = norms(jax.tree.map(jnp.subtract, params, initial))
    return {"grad_norm": norms(grads), "update_norm": norms(updates), "param_norm": norms(params),
            "distance": distance, "relative_distance": distance / norms(initial)}


def predictions(entropy: Callable | None, logits: Any, sown: Mapping, batch: Batch) -> dict[str, Any]:
    """Name -> a sum over the batch, and what it is a share of: both add up over micro-batches and devices.

    Args:
      entropy: a row of `entropies.ENTROPIES`; None: there is none.
      logits: of the model, whatever they are.
      sown: what it put down on the way, if anything: its pooler's outputs [R, N, D].
      batch: its batch.
    """
    weights = batch["weights"]
    asked, slots = (weights["mlm"], weights.get("nsp")) if isinstance(weights, Mapping) else (weights, weights)
    found = {}
    for pooled in jax.tree.leaves(sown):
        real = (slots > 0)[..., None] & (batch["first"].reshape(*slots.shape, -1) >= 0)
        high = (abs(pooled.reshape(*real.shape, -1)) > SATURATED) & real[..., None]
        found["saturation"] = (high.sum(dtype=jnp.float32), real.sum(dtype=jnp.float32) * pooled.shape[-1])
    if entropy:
        each, most = entropy(logits, batch)
        total = (each * asked).sum()
        found |= {"entropy": (total, asked.sum()), "entropy_ratio": (total, (most * asked).sum())}
    return found


def row(told: Mapping[str, Any], trains: Mapping) -> dict[str, float]:
    """One step's `metrics["diagnostics"]` by flat names, such as `grad_norm/layer_0` and `entropy`.

    Args:
      told: on the host; of one seed.
      trains: as of `make`.
    """
    values: dict[str, float] = {}
    for name, value in told.items():
        names = [f"{name}/{p}" for p in parts(trains)] if np.ndim(value) else [name]
        values |= zip(names, np.ravel(value).tolist(), strict=True)
    return values
