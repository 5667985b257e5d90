"""The training step and the evaluation step: pure functions, written once; `parallel.py` places them.

Letters: R rows, T tokens a row, E slots a row, C outputs, M micro-batches.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from flaxbert import trees
from flaxbert.bert import RowDropout

Batch = Mapping[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything that training changes.

    Attributes:
      step: [] int32, updates made.
      params: tree of float32: the leaves that train; at rest, before `part` and on disk, all of them.
      opt_state: the optimizer's.
      key: [2] uint32, raw data of the key that all dropout descends from.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    key: jax.Array

    @classmethod
    def start(cls, params: Mapping, optimizer: optax.GradientTransformation, seed: int) -> "TrainState":
        """The state before the first step, at rest, on the host."""
        key = jax.random.fold_in(jax.random.key(seed), 1)  # 0 of this seed initialises the head
        state = cls(jnp.int32(0), params, jax.jit(optimizer.init)(params), jax.random.key_data(key))
        return jax.tree.map(np.asarray, state)


class Fixed(struct.PyTreeNode):
    """What training reads and never changes: no step hands it on, and nothing of it is saved twice.

    Attributes:
      frozen: the leaves that do not train, as far as the forward pass reads them.
      anchor: initial values of the leaves that are held to them, see `remedies.anchor`; None: of none.
      initial: those of the other leaves that train; None where no `Diagnostics` are asked for.
    """

    frozen: Any = struct.field(default_factory=dict)
    anchor: Any = None
    initial: Any = None


NOTHING = Fixed()


class Diagnostics(NamedTuple):
    """What a step tells of itself every so many steps; `diagnostics.make` makes it.

    Attributes:
      every: updates from one time to the next.
      apply: as of `make_train_step`, but -> (logits, what the model sowed).
      predictions: (logits, what it sowed, batch) -> name -> (sum over the batch, what it is a share of).
      weights: (gradients, updates, parameters after them, initial ones) -> name -> [parts].
    """

    every: int
    apply: Callable
    predictions: Callable
    weights: Callable


def part(state: TrainState, trains: Mapping, anchor: Mapping | None = None,
         initial: Mapping | None = None) -> tuple[TrainState, Fixed]:
    """A state at rest as what the step changes and what it only reads.

    Args:
      state: at rest.
      trains: tree of bool over all leaves.
      anchor: as of `Fixed`.
      initial: all leaves before the first step, where `Diagnostics` are asked for.
    """
    trained, frozen = trees.split(state.params, trains)
    if initial is not None:
        held = trees.flatten(anchor or {})  # they are there already
        initial = trees.split(initial, trees.map_named(lambda name, yes: yes and name not in held, trains))[0]
    return state.replace(params=trained), Fixed(frozen, anchor, initial)


def only_if(due: jax.Array, function: Callable[[], Any]) -> Any:
    """function() where `due`; elsewhere zeros, and nothing is computed."""
    def nothing() -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function))
    return jax.lax.cond(due, function, nothing)


def micro_batches(batch: Batch, count: int) -> dict[str, jax.Array]:
    """[R, ...] -> [M, R / M, ...] with rows dealt out in turn, so that a shard of rows stays where it is."""
    return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)


def make_train_step(apply: Callable, optimizer: optax.GradientTransformation, schedule: Callable,
                    loss: Callable, trains: Mapping, micro: int = 1, axis: str | None = None,
                    begins: Mapping | None = None, perturb: Callable | None = None,
                    diagnose: Diagnostics | None = None) -> Callable:
    """Builds `(state, batch, fixed) -> (state, metrics)`; without `fixed` nothing is frozen.

    With w the weights and l the losses of the slots, the step minimises sum(w l) / sum(w), both sums over
    all rows of all devices and micro-batches; so neither their number nor empty rows change it. Where the
    weights are several arrays in a dict (pre-training), it minimises the sum of their quotients.

    Args:
      apply: (params, batch, dropout) -> logits [R, E, C], [R, T, C] or whatever the loss takes.
      optimizer: over the tree of all leaves, see `strategies.wrap`; frozen ones get no update whatever it says.
      schedule: step -> learning rate, for the record.
      loss: (logits, batch) -> losses, of the shapes of batch["weights"].
      trains: tree of bool over all leaves.
      micro: M; R is a multiple of it on every device.
      axis: name of pmap's axis, None under jit.
      begins: tree of int over all leaves, the step from which each trains; its gradient is zero before; None: 0.
      perturb: (trained, anchor, key of the step) -> the trained leaves as the forward pass sees them, the same for
        all rows; None: as they are.
      diagnose: what to tell, and when; its `apply` takes the place of the other. None: nothing.

    Returns:
      The step; metrics are scalars loss, grad_norm (before clipping, leaves that train now) and learning_rate; and
      `diagnostics` where asked for, a dict of arrays that mean something after each `every`th update alone.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    forward = diagnose.apply if diagnose else lambda *given: (apply(*given), {})

    def total(x):
        return jax.lax.psum(x, axis) if axis else x

    def whole(tree: Mapping) -> dict:
        # The optimizer's masks are over all leaves; 0 stands in for a frozen one, which nobody reads.
        return trees.merge(trees.map_named(lambda *_: 0.0, trains), tree)

    def step(state: TrainState, batch: Batch, fixed: Fixed = NOTHING) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        trained = state.params
        weights = jax.tree.map(lambda w: jnp.maximum(total(w.sum()), 1e-30), batch["weights"])
        due = (state.step + 1) % diagnose.every == 0 if diagnose else None

        seen, back = jax.vjp(lambda t: perturb(t, fixed.anchor, key), trained) if perturb else (trained, None)

        def share(seen: Mapping, part: Batch) -> tuple[jax.Array, tuple]:
            logits, sown = forward(trees.merge(fixed.frozen, seen), part, RowDropout(key, part["row"]))
            shares = jax.tree.map(lambda each, w, all_w: (each * w).sum() / all_w, loss(logits, part),
                                  part["weights"], weights)
            return sum(jax.tree.leaves(shares)), (logits, sown)

        def pull(part: Batch) -> tuple[tuple[jax.Array, dict], dict]:
            (value, found), grads = jax.value_and_grad(share, has_aux=True)(seen, part)
            return (value, grads), only_if(due, lambda: diagnose.predictions(*found, part)) if diagnose else {}

        def add(carry, part):
            more, told = pull(part)
            return jax.tree.map(jnp.add, carry, more), told
        if micro == 1:
            (value, grads), told = pull(batch)
        else:
            zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, trained))
            (value, grads), told = jax.lax.scan(add, zero, micro_batches(batch, micro))
            told = jax.tree.map(lambda x: x.sum(0), told)
        value, grads, told = total(value), total(grads), total(told)
        if back:
            grads, = back(grads)
        if begins:
            grads = jax.tree.map(lambda g, start: jnp.where(state.step >= start, g, 0), grads,
                                 trees.split(begins, trains)[0])
        updates, opt_state = optimizer.update(whole(grads), state.opt_state, whole(trained), anchor=fixed.anchor)
        updates = trees.split(updates, trains)[0]
        params = optax.apply_updates(trained, updates)
        metrics = {"loss": value, "grad_norm": optax.global_norm(grads),
                   "learning_rate": jnp.asarray(schedule(state.step), jnp.float32)}
        if diagnose:
            initial = trees.merge(fixed.anchor or {}, fixed.initial)
            metrics["diagnostics"] = {
                **{name: x / jnp.maximum(of, 1e-30) for name, (x, of) in told.items()},
                **only_if(due, lambda: diagnose.weights(grads, updates, params, initial))}
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics
    return step


def make_eval_step(apply: Callable, axis: str | None = None) -> Callable:
    """Builds `(params, batch) -> logits` of all rows, dropout off; arguments as above."""
    def step(params: Mapping, batch: Batch) -> jax.Array:
        logits = apply(params, batch, None)
        return jax.lax.all_gather(logits, axis, tiled=True) if axis else logits
    return step
