"""A run made ready: data read and encoded, the row counts chosen, the model initialised, the step built."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flaxbert import (
    activations,
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
from flaxbert.inference import Inference
from flaxbert.packing import Epochs
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
      optimizer, schedule: of all parameters; step -> learning rate.
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
    optimizer: optax.GradientTransformation
    schedule: Callable
    epochs: Epochs
    total_steps: int
    row_length: int
    slots: int
    row_counts: tuple[int, ...]

    def apply(self, params: Any, batch: Any, dropout: Any) -> jax.Array:
        """Logits of a batch."""
        return self.model.apply({"params": params}, batch, dropout)

    def inference(self, placement: parallel.Placement) -> Inference:
        """Forward passes over this run's splits."""
        def apply(params: Any, batch: Any, dropout: Any) -> Any:
            return self.family.readout(self.apply(params, batch, dropout), batch)
        return Inference(apply, placement, self.config.packing, self.family.per_token, self.family.needs_labels,
                         self.family.eval_batch)

    def train_step(self, axis: str | None = None) -> Callable:
        """The step of this run, to be placed."""
        return make_train_step(self.apply, self.optimizer, self.schedule, self.family.loss, self.trains,
                               self.config.micro_batches, axis, self.begins, remedies.perturbation(self.config))

    def start(self) -> TrainState:
        """The state before the first step, at rest."""
        return TrainState.start(self.params, self.optimizer, self.config.seed)

    def parted(self, state: TrainState) -> tuple[TrainState, Fixed]:
        """A state at rest as what the step changes, and what it only reads."""
        state, fixed = part(state, self.trains, remedies.anchor(self.config, self.params, self.trains))
        return state, fixed.replace(frozen=self.read(fixed.frozen))

    def read(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Of parameters those that a batch needs: none below the states that it carries."""
        unread = activations.below(self.model.cached)
        return {**params, "bert": {name: tree for name, tree in params.get("bert", {}).items()
                                   if name not in unread}}

    def batches(self, placement: parallel.Placement, first: int, last: int):
        """Yields (plan, rows, batch on the devices) of steps first, ..., last - 1."""
        train = self.encoded["train"]
        for step, plan in enumerate(self.epochs.plans(first, last), start=first):
            rows = packing.smallest(self.row_counts, plan.rows)
            arrays = collate(train, plan, rows, self.row_length, self.slots, placement.local_rows(rows))
            yield plan, rows, placement.put_batch(self.family.train_batch(arrays, step), rows)


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
    for line in report.lines:
        note(line)
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
    params = pretrained.initialise(model, source, config.seed, config.random_init)
    if config.mimetic_init:
        params = scratch.mimetic(params, source.config)
    if config.strategy == "lora":
        params = lora.extend(params, config)
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
    epochs = Epochs(lengths, config.batch_size, row_length, config.seed, config.packing)
    total = config.max_steps or max(1, round(config.epochs * epochs.steps_per_epoch))
    needed, slots = packing.rows_needed(epochs, total)
    row_counts = packing.row_counts(needed, shards * config.micro_batches,
                                    min(PROGRAMS, max(1, total // STEPS_A_PROGRAM)))
    idle = 1 - sum(needed) / sum(packing.smallest(row_counts, rows) for rows in needed)
    if idle > 0.25:
        note(f"{idle:.0%} of the rows stay empty: {shards} devices x {config.micro_batches} micro-batches want a "
             "larger --batch_size")
    kept = activations.layers_to_keep(config, task.kind, model.reads, strategy.frozen_prefix,
                                      total / epochs.steps_per_epoch)
    check_source(config, begun, source, kept)
    if kept:
        model, encoded = with_states(config, model, kept, params, encoded, source.source)
    each = rates.make(config, layers, epochs.steps_per_epoch)
    begins = rates.begins(each, params)
    trains = rates.in_time(trains, begins, total)
    optimizer, schedule = optimizers.make(config, total, each)
    return Ready(config, task, family, splits, encoded, source, model, params, trains, begins,
                 strategies.wrap(optimizer, trains), schedule, epochs, total, row_length, slots, row_counts)


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
    if begun.get("backbone") or begun.get("weights") in (None, source.digest):
        return
    taken = {"what its weights are held to": bool(remedies.held(config)),
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
