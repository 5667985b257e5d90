"""A run made ready: data read and encoded, the row counts chosen, the model initialised, the step built."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxbert import (
    activations,
    diagnostics,
    families,
    heads,
    lora,
    optimizers,
    packing,
    parallel,
    pretrained,
    rates,
    remedies,
    scratch,
    strategies,
    tasks,
    trees,
)
from flaxbert.activations import Bottom
from flaxbert.config import Config
from flaxbert.data import Encoded, collate
from flaxbert.errors import InputError, note
from flaxbert.families import Family
from flaxbert.packing import Epochs, Plan
from flaxbert.rates import Rate
from flaxbert.steps import Fixed, TrainState, make_train_step, part
from flaxbert.tasks.base import Split, Task

PROGRAMS = 4  # that a run compiles at most, one for each number of rows
STEPS_A_PROGRAM = 25  # fewer steps do not pay for the time that compiling one more takes


@dataclass(frozen=True)
class Ready:
    """All that the loop needs; everything in it is a function of the settings alone.

    Attributes:
      config: the settings.
      task: with its labels.
      family: what its kind of task does.
      splits, encoded: split name -> examples, and the same as token ids.
      pretrained: where the weights came from, with tokenizer.
      model: encoder and head.
      params: initial parameters, on the host.
      trains: tree of bool.
      begins: tree of int, the step from which a leaf trains; None where all begin at once.
      rates: of the parts of the model, see `rates.make`.
      epochs: the order of the training examples.
      total_steps: of the whole run.
      row_length, slots, row_counts: T, E and the at most four R of the run's programs.
    """

    config: Config
    task: Task
    family: Family
    splits: dict[str, Split]
    encoded: dict[str, Encoded]
    pretrained: pretrained.Pretrained
    model: heads.Model
    params: dict
    trains: dict
    begins: dict | None
    rates: dict[str, Rate]
    epochs: Epochs
    total_steps: int
    row_length: int
    slots: int
    row_counts: tuple[int, ...]

    def apply(self, params: Any, batch: Any, dropout: Any) -> jax.Array:
        """Logits of a batch."""
        return self.model.apply({"params": params}, batch, dropout)

    def optimization(self, **varied: jax.Array) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The optimizer over the tree of all leaves, and step -> learning rate.

        Args:
          varied: settings of which the run has others, as scalars that may be traced, see `optimizers`.
        """
        config = dataclasses.replace(self.config, **varied)
        optimizer, schedule = optimizers.make(config, self.total_steps, self.rates)
        return strategies.wrap(optimizer, self.trains), schedule

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """See `optimization`."""
        return self.optimization()[0]

    @cached_property
    def schedule(self) -> optax.Schedule:
        """See `optimization`."""
        return self.optimization()[1]

    def train_step(self, axis: str | None = None, **varied: jax.Array) -> Callable:
        """The step of this run, to be placed; `varied` as of `optimization`."""
        every = self.config.diagnose_every
        told = diagnostics.make(every, self.model, self.task.kind, self.trains) if every else None
        return make_train_step(self.apply, *self.optimization(**varied), self.family.loss, self.trains,
                               self.config.micro_batches, axis, self.begins, remedies.perturbation(self.config),
                               told)

    def start(self) -> TrainState:
        """The state before the first step, at rest."""
        return TrainState.start(self.params, self.optimizer, self.config.seed_of("dropout"))

    def parted(self, state: TrainState) -> tuple[TrainState, Fixed]:
        """A state at rest as what the step changes, and what it only reads."""
        state, fixed = part(state, self.trains, remedies.anchor(self.config, self.params, self.trains),
                            self.params if self.config.diagnose_every else None)
        return state, fixed.replace(frozen=self.read(fixed.frozen))

    def read(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Of parameters those that a batch needs: none below the states that it carries."""
        unread = activations.below(self.model.cached)
        return {**params, "bert": {name: tree for name, tree in params.get("bert", {}).items()
                                   if name not in unread}}

    def batch(self, step: int, plan: Plan, rows: int, local: np.ndarray) -> dict[str, np.ndarray]:
        """The batch of a step on the host: of its R rows those whose numbers are `local`."""
        arrays = collate(self.encoded["train"], plan, rows, self.row_length, self.slots, local)
        return self.family.train_batch(arrays, step)

    def siblings(self, configs: Sequence[Config], together: int, shards: int) -> list["Ready"]:
        """The runs that differ from this one in `config.seed` and in what `optimization` may vary.

        They share all that is no function of the seed, and the shapes of their batches.

        Args:
          configs: of these runs.
          together: so many train at a time, each with as many rows as the fullest of them.
          shards: devices over which the rows of each are split.

        Raises:
          InputError: each would have frozen layers of its own, but these are computed once.
        """
        made = []
        for config in configs:
            params = _initial(config, self.model.clone(cached=()), self.pretrained)
            every = trees.map_named(lambda *_: True, params)
            params = remedies.reinitialise(params, config, self.pretrained.config, self.model.reads[-1], every)
            epochs = dataclasses.replace(self.epochs, seed=config.seed_of("order"))
            made.append(dataclasses.replace(self, config=config, params=params, epochs=epochs))
        if self.model.cached and self.config.random_init and len({c.seed_of("init") for c in configs}) > 1:
            raise InputError("--seeds: with --random_init each has frozen layers of its own; --init_seed draws "
                             "the same for all, --cache_frozen=false does not compute them once")
        orders = [[run.epochs for run in made[first:first + together]] for first in range(0, len(made), together)]
        row_counts, slots = _rows(self.config, orders, self.total_steps, shards)
        return [dataclasses.replace(run, row_counts=row_counts, slots=slots) for run in made]


def build_model(config: Config, task: Task, shape: Any) -> heads.Model:
    """The model that the settings describe, on an encoder of the given shape (a `BertConfig`).

    Raises:
      InputError: a head that the task or the encoder cannot take.
    """
    if config.dropout is not None:
        shape = dataclasses.replace(shape, hidden_dropout_prob=config.dropout,
                                    attention_probs_dropout_prob=config.dropout)
    top = heads.HeadConfig.of(config, task.kind, task.pair, shape.num_hidden_layers)
    return heads.MODELS[task.kind](shape, task.outputs, parallel.compute_dtype(config.dtype), config.remat,
                                   top=top)


def prepare(config: Config, shards: int, begun: Mapping[str, Any] = MappingProxyType({})) -> Ready:
    """Reads, encodes, initialises and plans.

    Args:
      config: the settings.
      shards: devices over which the rows are split.
      begun: config.json of the run that is gone on with; empty: it begins now.

    Raises:
      InputError: whatever is wrong with flags, files or weights.
    """
    config = tasks.settled(config)
    optimizers.check(config)
    task, splits, report = tasks.load(config)
    report.tell()
    source = scratch.source(config, splits["train"], begun)
    if config.max_length > source.config.max_position_embeddings:
        positions = source.config.max_position_embeddings
        anew = f", or train a new one with --max_position_embeddings={config.max_length}"
        raise InputError(f"--max_length={config.max_length}: the model has positions for {positions} tokens; give "
                         f"--max_length={positions} at most{anew if task.kind == 'pretraining' else ''}")
    model = build_model(config, task, source.config)
    layers = model.reads[-1]
    strategy = strategies.make(config, layers)
    model = model.clone(frozen_prefix=-1 if config.frozen_dropout else strategy.frozen_prefix)
    params = _initial(config, model, source)
    trains = strategies.reached(strategy.trains(params), layers)
    if source.params and not config.random_init:
        strategies.check_new(config, trains, params.keys() - source.params.keys())
    remedies.check(config, trains)
    params = remedies.reinitialise(params, config, source.config, layers, trains)

    family = families.make(task, config)
    encoded = {split: family.encode(source.tokenizer, examples, split) for split, examples in splits.items()}
    family.fit(encoded["train"])
    lengths = encoded["train"].lengths
    # Room for up to four sequences of an example; attention's cost grows with the square of T.
    most = config.max_length * min(encoded["train"].sequences, 4)
    row_length = packing.choose_row_length(lengths, config.batch_size, most) if config.packing \
        else int(lengths.max())
    epochs = Epochs(lengths, config.batch_size, row_length, config.seed_of("order"), config.packing)
    total = config.max_steps or max(1, round(config.epochs * epochs.steps_per_epoch))
    row_counts, slots = _rows(config, [[epochs]], total, shards)
    kept = activations.layers_to_keep(config, task.kind, model.reads, strategy.frozen_prefix,
                                      total / epochs.steps_per_epoch)
    check_source(config, begun, source, kept)
    if kept:
        model, encoded = with_states(config, model, kept, params, encoded, source.source)
    each = rates.make(config, layers, epochs.steps_per_epoch)
    begins = rates.begins(each, params)
    trains = rates.in_time(trains, begins, total)
    return Ready(config, task, family, splits, encoded, source, model, params, trains, begins, each, epochs, total,
                 row_length, slots, row_counts)


def _initial(config: Config, model: heads.Model, source: pretrained.Pretrained) -> dict[str, Any]:
    """The parameters before anything is drawn anew."""
    params = pretrained.initialise(model, source, config.seed_of("init"), config.random_init)
    if config.mimetic_init:
        params = scratch.mimetic(params, source.config)
    return lora.extend(params, config) if config.strategy == "lora" else params


def _rows(config: Config, orders: Sequence[Sequence[Epochs]], total: int,
          shards: int) -> tuple[tuple[int, ...], int]:
    """The row counts R and the slots E of runs' programs.

    Args:
      config: the settings.
      orders: of the training examples, of those runs that train together.
      total: steps of a run.
      shards: devices over which the rows of each are split.
    """
    found = [[packing.rows_needed(epochs, total) for epochs in together] for together in orders]
    needed = [max(rows) for together in found for rows in zip(*(each for each, _ in together), strict=True)]
    counts = packing.row_counts(needed, shards * config.micro_batches,
                                min(PROGRAMS, max(1, total // STEPS_A_PROGRAM)))
    idle = 1 - sum(needed) / sum(packing.smallest(counts, rows) for rows in needed)
    if idle > 0.25:
        note(f"{idle:.0%} of the rows stay empty: {shards} devices x {config.micro_batches} micro-batches want a "
             "larger --batch_size")
    return counts, max(slots for together in found for _, slots in together)


def replaced(begun: Mapping[str, Any], source: pretrained.Pretrained) -> bool:
    """Whether --model holds other weights today than when a run began; arguments as of `check_source`."""
    return not begun.get("backbone") and begun.get("weights") not in (None, source.digest)


def check_source(config: Config, begun: Mapping[str, Any], source: pretrained.Pretrained,
                 kept: Collection[int]) -> None:
    """Refuses other weights than a run began with, where going on needs those: checkpoints hold what trains.

    Args:
      config: the settings.
      begun: as of `prepare`; a backbone was looked at when it was read.
      source: what --model is today.
      kept: layers whose states are computed once.

    Raises:
      InputError: one line.
    """
    if not replaced(begun, source):
        return
    taken = {"what its weights are held to": bool(remedies.held(config)),
             "where its distances are measured from": bool(config.diagnose_every),
             "the states of its frozen layers": bool(kept)}
    needs = [what for what, yes in taken.items() if yes]
    advice = "; --cache_frozen=false goes on with the run's own" if needs == [*taken][-1:] else ""
    if needs:
        raise InputError(f"--resume: --model={config.model} holds other weights than when this run began, which "
                         f"takes {' and '.join(needs)} from them; put the old ones back{advice}")


def bottom_of(config: Config, model: heads.Model, layers: tuple[int, ...], params: Mapping[str, Any]) -> Bottom:
    """What computes the states of these layers for a run; arguments as of `with_states`."""
    arithmetic = jnp.dtype(model.dtype).name
    return Bottom(model.config, params["bert"], layers, arithmetic,
                  arithmetic if config.cache_dtype == "auto" else config.cache_dtype, config.devices)


def with_states(config: Config, model: heads.Model, layers: tuple[int, ...], params: Mapping[str, Any],
                encoded: dict[str, Encoded], source: str) -> tuple[heads.Model, dict[str, Encoded]]:
    """The model and the splits of a run that computes its frozen layers once; as they were on a full disk.

    Args:
      layers: whose states are kept, ascending.
      params: of the model.
      encoded: by split.
      source: of the weights, for the record.
    """
    bottom = bottom_of(config, model, layers, params)
    # What has no labels is never scored, and predicted for only where asked.
    used = {split: each for split, each in encoded.items() if each.labels is not None or config.predict_test}
    states = activations.keep(config, bottom, used, {"model": source, "task": config.task})
    if states is None:
        return model, encoded
    return model.clone(cached=layers), {**encoded, **{split: dataclasses.replace(used[split], hidden=hidden)
                                                      for split, hidden in states.items()}}


def parameters_trained(ready: Ready) -> int:
    """Number of scalars that train."""
    return trees.count(ready.params, ready.trains)
