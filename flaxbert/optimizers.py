"""Optimizers and learning-rate schedules: optax chains that follow the formulas of the papers to the letter.

An update is: clip the global norm of the gradient, turn it into a direction (Adam, Lion ...), scale that by
the learning rate of the step, decay the weights. `make` builds the chain from a `Config`; the tables
`OPTIMIZERS` and `SCHEDULES` hold one row each for what can be chosen. Parts of the model that learn at rates of
their own (`rates.py`) have all after the clipping to themselves. Freezing wraps the whole chain from outside
(`strategies.wrap`), so that frozen leaves hold no moments and do not count in the clipped norm.

`learning_rate`, `weight_decay`, `bias_correction` and `epsilon_before_correction` of the `Config` may be JAX
scalars, traced ones too (`dataclasses.replace(config, learning_rate=x)`): many seeds under one `vmap` can
differ in them. The other settings are Python values.

Letters: g gradient, p parameter, m and v first and second moment, u direction, t number of the update from 1.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flaxbert import trees
from flaxbert.config import DEFAULTS, Config
from flaxbert.errors import InputError, one_of
from flaxbert.rates import Rate, part
from flaxbert.remedies import ANCHORED

# Leaves that are no matrices: biases, the shares and the scale of a mix of layers, a CRF's first and last labels.
UNDECAYED = ("bias", "weights", "gamma", "start", "end")

Mask = Any  # a tree of bools like the parameters, or a function from parameters to one


# --- transforms

def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8,
                  bias_correction: bool | jax.Array = True,
                  eps_before_correction: bool | jax.Array = False) -> optax.GradientTransformation:
    """Adam's direction, with a switch for the bias correction and one for the place of epsilon.

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  and with c1 = 1 - b1^t, c2 = 1 - b2^t:

      corrected, eps after:   u = (m / c1) / (sqrt(v / c2) + eps)            (Kingma and Ba; PyTorch; optax)
      corrected, eps before:  u = sqrt(c2) / c1 * m / (sqrt(v) + eps)        (old Hugging Face AdamW)
      not corrected:          u = m / (sqrt(v) + eps)                        (BERT's code: c1 = c2 = 1)

    All three are the first line: epsilon before the correction is epsilon / sqrt(c2) after it.

    Args:
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: added to the root of the second moment.
      bias_correction: whether to correct; a Python bool or a scalar array.
      eps_before_correction: whether epsilon is added before the correction; likewise.

    Returns:
      A transform with `optax.ScaleByAdamState` (count, mu, nu) as its state.

    Source: Kingma and Ba 2015 (1412.6980), algorithm 1 and the remark that ends section 2; google-research/bert,
    optimization.py; Mosbach et al. 2021 (2006.04884).
    """
    def init(params):
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=zeros, nu=zeros)

    def update(updates, state, params=None):
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        count = optax.safe_increment(state.count)
        c1 = jnp.where(bias_correction, _one_minus_power(b1, count), 1.0)
        c2 = jnp.where(bias_correction, _one_minus_power(b2, count), 1.0)
        added = jnp.where(eps_before_correction, eps / jnp.sqrt(c2), eps)
        updates = jax.tree.map(lambda m, v: (m / c1) / (jnp.sqrt(v / c2) + added), mu, nu)
        return updates, optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def _one_minus_power(decay: float, count: jax.Array) -> jax.Array:
    """1 - decay^count to float32 rounding: `1 - decay**count` is off by 1e-5 where 0.999 itself is rounded."""
    return -jnp.expm1(count * (math.log(decay) if decay else -math.inf))


class DecayWeightsState(NamedTuple):
    """The number of updates so far, for the schedule."""

    count: jax.Array


def decay_weights(weight_decay: float | jax.Array, learning_rate: optax.Schedule, updated: bool = False,
                  mask: Mask | None = None, to_anchor: bool = False) -> optax.GradientTransformationExtraArgs:
    """Decoupled weight decay; stands after the scaling by the learning rate.

    With d the update so far, lr the scheduled learning rate, and a = 0 or, `to_anchor`, the initial weight:

      p + d - lr weight_decay (p - a)         decay of the old weights (AdamW; BERT's code)
      p + d - lr weight_decay (p + d - a)     `updated`: of the already updated weights (old Hugging Face AdamW)

    Args:
      weight_decay: share of the weight, per unit of learning rate.
      learning_rate: from the number of earlier updates to the learning rate.
      updated: which of the two.
      mask: where to decay; everywhere if None.
      to_anchor: whether `update` is given a tree `anchor` with the initial weights of all leaves that decay.

    Raises:
      ValueError: `update` was called without parameters.

    Source: Loshchilov and Hutter 2019 (1711.05101); transformers/optimization.py of
    uds-lsv/bert-stable-fine-tuning for the second form; Wiese et al. 2017 (1706.03610), section 2 for the anchor.
    """
    def init(params):
        del params
        return DecayWeightsState(count=jnp.zeros([], jnp.int32))

    def update(updates, state, params=None, *, anchor=None, **extra):
        del extra
        if params is None:
            raise ValueError("decay_weights: update needs the parameters")
        share = weight_decay * learning_rate(state.count)
        initial = trees.flatten(anchor) if to_anchor else {}

        def decayed(name, d, p):
            old = p + d if updated else p
            return d - share * (old - initial[name] if to_anchor else old)
        updates = jax.tree.map(decayed, trees.named(updates), updates, params)
        return updates, DecayWeightsState(count=optax.safe_increment(state.count))

    transform = optax.GradientTransformationExtraArgs(init, update)
    return transform if mask is None else optax.masked(transform, mask)


def decay_mask(params: Any) -> Any:
    """Which leaves decay: all but those of LayerNorm and of `UNDECAYED`, found by their names.

    Args:
      params: nested dict of parameters.

    Returns:
      A tree of bools like `params`.

    Source: google-research/bert, optimization.py, exclude_from_weight_decay.
    """
    def decays(name):
        parts = name.split("/")
        return parts[-1] not in UNDECAYED and not any("layer_norm" in part for part in parts)

    return jax.tree.map(decays, trees.named(params))


def anchored_mask(params: Any) -> Any:
    """Which leaves decay toward their initial values (`--pretrained_decay`): the matrices of the encoder."""
    return jax.tree.map(lambda name: bool(re.fullmatch(ANCHORED, name)), trees.named(params))


class BegunState(NamedTuple):
    """The number of updates so far, those before the start too; the state of what begins."""

    count: jax.Array
    inner: Any


def begun(transform: optax.GradientTransformation, start: int) -> optax.GradientTransformationExtraArgs:
    """`transform` as if update `start`, from 0, were its first: until then nothing moves, its state neither."""
    transform = optax.with_extra_args_support(transform)
    if not start:
        return transform

    def init(params):
        return BegunState(jnp.zeros([], jnp.int32), transform.init(params))

    def update(updates, state, params=None, **extra):
        moved, inner = transform.update(updates, state.inner, params, **extra)
        now = state.count >= start

        def only_now(new, old):
            return jax.tree.map(lambda a, b: jnp.where(now, a, b), new, old)
        return (only_now(moved, optax.tree.zeros_like(moved)),
                BegunState(optax.safe_increment(state.count), only_now(inner, state.inner)))

    return optax.GradientTransformationExtraArgs(init, update)


# --- learning rate

# From (steps left, steps of warm-up, steps in all) to the share of the peak that holds after the warm-up.
SCHEDULES: dict[str, Callable[[Any, int, int], Any]] = {
    "linear": lambda left, warmup, total: left / (total - warmup),
    "constant": lambda left, warmup, total: 1.0,
    "cosine": lambda left, warmup, total: jnp.sin(math.pi / 2 * left / (total - warmup)) ** 2,
    "google": lambda left, warmup, total: left / total,
}


def warmup_steps(config: Config, total_steps: int) -> int:
    """`--warmup` in steps: int(share * total_steps) below 1 as in BERT's code, else the steps themselves.

    Raises:
      InputError: no training step; neither a share nor a whole number; no step would be left after the warm-up.
    """
    if total_steps < 1:
        raise InputError(f"--epochs={config.epochs}, --max_steps={config.max_steps}: {total_steps} training "
                         "steps; at least 1 is needed")
    if config.warmup >= 1 and config.warmup != int(config.warmup):
        raise InputError(f"--warmup={config.warmup}: neither a share below 1 nor a whole number of steps")
    warmup = int(config.warmup * total_steps) if config.warmup < 1 else int(config.warmup)
    if warmup >= total_steps:
        raise InputError(f"--warmup={config.warmup}: {warmup} steps of warm-up leave none of {total_steps}; "
                         "lower --warmup, or raise --epochs or --max_steps")
    return warmup


def schedule(config: Config, total_steps: int) -> optax.Schedule:
    """The learning rate of each step: linear warm-up from 0 to the peak, then the row of `SCHEDULES`.

    With w steps of warm-up, T steps in all and step s counted from 0, lr(s) = peak s / w for s < w, so that the
    first update has learning rate 0 (without warm-up: the peak), and from s = w on

      linear:    peak (T - s) / (T - w)                             0 at s = T
      constant:  peak
      cosine:    peak (1 + cos(pi (s - w) / (T - w))) / 2           0 at s = T
      google:    peak (T - s) / T                                   falls from peak to (1 - w / T) peak at s = w

    Args:
      config: `learning_rate` (the peak, may be an array), `schedule` and `warmup`.
      total_steps: T.

    Returns:
      A function from the step (int or int array) to a float32 scalar; 0 (constant: the peak) beyond T.

    Raises:
      InputError: unknown schedule; see `warmup_steps`.

    Source: google-research/bert, optimization.py (google); Hugging Face get_*_schedule_with_warmup (the others).
    """
    after = SCHEDULES[one_of(config.schedule, tuple(SCHEDULES), "--schedule")]
    warmup = warmup_steps(config, total_steps)

    def learning_rate(step):
        left = jnp.maximum(total_steps - jnp.asarray(step), 0)
        share = jnp.where(step < warmup, step / max(warmup, 1), after(left, warmup, total_steps))
        return jnp.asarray(config.learning_rate * share, jnp.float32)

    return learning_rate


# --- optimizers

def l2(direction, config, learning_rate, mask):
    """Decay is part of the gradient: g + weight_decay p, as `weight_decay` of torch.optim.Adam and SGD."""
    return optax.chain(optax.add_decayed_weights(config.weight_decay, mask), direction,
                       optax.scale_by_learning_rate(learning_rate))


def decoupled(direction, config, learning_rate, mask):
    """Decay beside the direction; see `decay_weights`."""
    return optax.chain(direction, optax.scale_by_learning_rate(learning_rate),
                       decay_weights(config.weight_decay, learning_rate, config.decay_updated_weights, mask))


def layerwise(direction, config, learning_rate, mask):
    """Decay is part of the direction, and each leaf is rescaled to its own norm: r = u + weight_decay p,
    p -= lr |p| / |r| r. Biases and LayerNorm parameters take u as it is.

    Source: You et al. 2020 (1904.00962), algorithm 2; google-research/albert, lamb_optimizer.py, for the
    leaves that are left out.
    """
    return optax.chain(direction, optax.add_decayed_weights(config.weight_decay, mask),
                       optax.masked(optax.scale_by_trust_ratio(), decay_mask),
                       optax.scale_by_learning_rate(learning_rate))


def _adam(c: Config) -> optax.GradientTransformation:
    return scale_by_adam(c.beta1, c.beta2, c.epsilon, c.bias_correction, c.epsilon_before_correction)


class Optimizer(NamedTuple):
    """A row of `OPTIMIZERS`: the direction, where the decay goes, and which of the optional settings it reads."""

    direction: Callable[[Config], optax.GradientTransformation]
    decay: Callable[..., optax.GradientTransformation]
    reads: tuple[str, ...] = ()


_MOMENTS = ("beta1", "beta2", "epsilon")
_ADAM = (*_MOMENTS, "bias_correction", "epsilon_before_correction")
_UPDATED = ("decay_updated_weights",)

# Constants that are no setting are those of the paper, or PyTorch's. Adafactor takes absolute learning rates
# like the others (Hugging Face Trainer: scale_parameter=False, relative_step=False). Left out: optax's RAdam,
# whose rectification cancels in float32 (first steps off by 1 %, and otherwise compiled than not).
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": Optimizer(_adam, decoupled, (*_ADAM, *_UPDATED)),
    "adam": Optimizer(_adam, l2, _ADAM),
    "lamb": Optimizer(_adam, layerwise, _ADAM),
    "nadamw": Optimizer(lambda c: optax.scale_by_adam(c.beta1, c.beta2, c.epsilon, nesterov=True),
                        decoupled, (*_MOMENTS, *_UPDATED)),
    "adabelief": Optimizer(lambda c: optax.scale_by_belief(c.beta1, c.beta2),
                           decoupled, ("beta1", "beta2", *_UPDATED)),
    "adafactor": Optimizer(lambda c: optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)),
                           decoupled, _UPDATED),
    "lion": Optimizer(lambda c: optax.scale_by_lion(b1=0.9, b2=0.99), decoupled, _UPDATED),
    "sgd": Optimizer(lambda c: optax.identity(), l2),
    "momentum": Optimizer(lambda c: optax.trace(c.beta1), l2, ("beta1",)),
    "rmsprop": Optimizer(lambda c: optax.scale_by_rms(0.99, c.epsilon, eps_in_sqrt=False), l2, ("epsilon",)),
    "adagrad": Optimizer(lambda c: optax.scale_by_rss(0.0, 1e-20), l2),
}


def check(config: Config) -> None:
    """Refuses an unknown optimizer, and settings that the chosen one would ignore or that divide by zero.

    Raises:
      InputError: one line that names the settings and the optimizers that read them.
    """
    row = OPTIMIZERS[one_of(config.optimizer, tuple(OPTIMIZERS), "--optimizer")]
    ignored = [f"--{name}={getattr(config, name)} (read by {', '.join(_readers(name))})"
               for name in (*_ADAM, *_UPDATED) if name not in row.reads and not _is_default(config, name)]
    if ignored:
        source = f" and --recipe={config.recipe}" if config.recipe else ""
        raise InputError(f"--optimizer={config.optimizer}{source}: {config.optimizer} does not read "
                         f"{', '.join(ignored)}; leave at the default, or choose another --optimizer")
    for name in ("beta1", "beta2"):
        value = getattr(config, name)
        if value >= 1:
            raise InputError(f"--{name}={value}: must be below 1; at 1 no gradient enters the moment")
    if config.epsilon == 0:
        raise InputError("--epsilon=0: must be above 0; a parameter without gradient (an unused word) has 0/0")


def _readers(name: str) -> list[str]:
    return [optimizer for optimizer, row in OPTIMIZERS.items() if name in row.reads]


def _is_default(config: Config, name: str) -> bool:
    """Everybody's default or the task's own; False for an array, whatever it holds: somebody varies it."""
    value = getattr(config, name)
    usual = getattr(Config, name)
    return isinstance(value, int | float) and value in (usual, DEFAULTS.get(config.task, {}).get(name, usual))


def make(config: Config, total_steps: int,
         rates: Mapping[str, Rate] | None = None) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of a run: clip the global norm to `clip_norm` (0: never), then the row of `OPTIMIZERS`.

    g <- g min(1, clip_norm / |g|), where |g| is over the leaves that the transform is given.

    Where the parts of the model have rates, each has the row to itself after the clipping: with its own learning
    rate, which decoupled decay goes by too, and its own count of updates. Every row treats each leaf by itself, so
    a part that starts late trains as if the run began then, at the rate of the day. Gradients of leaves that have
    not begun must be zero (`make_train_step` sees to it), for the norm is over all.

    Args:
      config: the settings of group "optimizer".
      total_steps: updates of the run, for the schedule.
      rates: of each part, see `rates.make`; none: all learn alike.

    Returns:
      The transform, whose updates are to be added to the parameters, and its schedule (for the log). With
      `pretrained_decay` its `update` takes the initial weights too, as `anchor`.

    Raises:
      InputError: see `check` and `schedule`.
    """
    check(config)
    learning_rate = schedule(config, total_steps)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    if not rates:
        return optax.chain(clip, _moving(config, learning_rate)), learning_rate
    parts = {name: begun(_moving(config, rate.schedule(learning_rate)), rate.start)
             for name, rate in rates.items()}
    moving = optax.partition(parts, lambda tree: jax.tree.map(part, trees.named(tree)))
    return optax.chain(clip, moving), learning_rate


def _moving(config: Config, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """The row of `OPTIMIZERS`, and decay toward the initial weights, which takes the place of the row's own."""
    row = OPTIMIZERS[config.optimizer]
    if not config.pretrained_decay:
        return row.decay(row.direction(config), config, learning_rate, decay_mask)

    def elsewhere(params):
        return jax.tree.map(lambda decays, anchored: decays and not anchored, decay_mask(params),
                            anchored_mask(params))
    return optax.chain(
        row.decay(row.direction(config), config, learning_rate, elsewhere),
        decay_weights(config.pretrained_decay, learning_rate, config.decay_updated_weights, anchored_mask, True))
