"""Frozen layers computed once: their states of every token, kept on disk for all epochs, seeds and runs.

Layers that are frozen from the embeddings up run without dropout and say the same of a token at every step. So
they run once, over the tokens alone, without padding, and batches carry what they said.

Letters: N examples, R rows, T tokens a row, E examples a row, S kept layers, D width.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxbert import disk_cache, fingerprint, parallel, trees
from flaxbert.bert import Bert, BertConfig
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.disk_cache import readable
from flaxbert.errors import InputError, note, refuse
from flaxbert.inference import Inference

FORMAT = 1  # raised when the same weights come to other states, so that nobody uses old ones
_ADVICE = "a smaller --cache_dtype, fewer --layers, another --cache_dir or `flaxbert cache clear` would help"


def needed(reads: Iterable[int], frozen: int) -> tuple[int, ...]:
    """The layers whose states a model has to be given so that it runs no frozen layer; ascending.

    {n in reads : n <= frozen}, and `frozen` itself where a layer above it is read.

    Args:
      reads: numbers of the layers that the head reads, 0 the embeddings' output.
      frozen: embeddings and so many layers never change; -1: not even the embeddings.
    """
    return tuple(sorted({min(n, frozen) for n in reads})) if frozen >= 0 else ()


def below(layers: Collection[int]) -> tuple[str, ...]:
    """The parts of an encoder that the states of these layers depend on; none without layers."""
    return ("embeddings", *(f"layer_{i}" for i in range(max(layers)))) if layers else ()


@dataclass(frozen=True, eq=False)
class Bottom:
    """The bottom of an encoder as a function of token sequences.

    Attributes:
      config: the encoder's shape.
      params: of the encoder.
      layers: numbers of the S layers whose states are wanted.
      arithmetic: float32 or bfloat16, what it computes with.
      dtype: float32, float16 or bfloat16, of the states.
      devices: of this machine, that compute them; 0: all.
      pool: (states [R, T, D], batch) -> [R, E, D], one vector for each example; None: of every token.
    """

    config: BertConfig
    params: Mapping[str, Any]
    layers: tuple[int, ...]
    arithmetic: str
    dtype: str
    devices: int = 0
    pool: Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array] | None = None

    def states(self, params: Any, batch: Mapping[str, jax.Array], dropout: None = None) -> jax.Array:
        """The states [R, T, S, D] of every token of a batch; pooled [R, E, S, D]."""
        encoder = Bert(self.config, jnp.dtype(self.arithmetic))
        with jax.default_matmul_precision("highest" if self.arithmetic == "float32" else None):
            found = encoder.apply({"params": params}, batch, stop=max(self.layers))
        chosen = [found[layer] for layer in self.layers]
        if self.pool:
            chosen = [self.pool(states, batch) for states in chosen]
        return jnp.stack(chosen, axis=2).astype(self.dtype)

    def shape(self, encoded: Encoded) -> tuple[int, int, int]:
        """[tokens, S, D] of the states of a split; pooled [N, S, D]."""
        return len(encoded if self.pool else encoded.tokens), len(self.layers), self.config.hidden_size

    @property
    def _read(self) -> dict[str, Any]:
        return {name: self.params[name] for name in below(self.layers)}

    @cached_property
    def _fingerprint(self) -> str:
        told = json.dumps([FORMAT, fingerprint.shape(self.config), self.layers, self.arithmetic, self.dtype])
        return fingerprint.digest(told, trees.flatten(self._read))

    def key(self, encoded: Encoded) -> str:
        """32 hexadecimal digits for all that the states of a split depend on: weights, tokens, layers, types."""
        names = ("tokens", "offsets", "second")  # positions follow from the offsets
        given = {name: np.asarray(getattr(encoded, name), np.int64) for name in names}
        return fingerprint.digest(self._fingerprint, given)[:32]

    @cached_property
    def _on_devices(self) -> tuple[Inference, Any]:
        # In a pod each process computes for itself.
        placement = parallel.JitPlacement(jax.local_devices()[:self.devices or None])
        inference = Inference(self.states, placement, per_token=not self.pool)
        return inference, placement.put(self._read)

    def write(self, encoded: Encoded, name: str, into: Any) -> None:
        """Computes the states of a split batch by batch, see `Inference.outputs`; `name` is that of the split."""
        inference, params = self._on_devices
        with parallel.memory_told(f"sequences of {encoded.lengths.max()} tokens: try a smaller --max_length"):
            inference.outputs(params, encoded, f"computing layer {_list(self.layers)} of {name}", into=into)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def folder_of(config: Config) -> Path:
    """The folder that --cache_dir names."""
    return Path(config.cache_dir).expanduser()


def layers_to_keep(config: Config, kind: str, reads: Iterable[int], frozen: int, passes: float) -> tuple[int, ...]:
    """The layers that a run computes once, as --cache_frozen wants it; () for none.

    auto: where a Transformer layer is saved, and more than one pass is made over the data, or one and later runs
    have use for the same states (features).

    Args:
      config: the settings.
      kind: of the task.
      reads, frozen: as of `needed`.
      passes: over the training split.

    Raises:
      InputError: --cache_frozen=true, or a --cache_dtype, where it cannot be.
    """
    layers = needed(reads, frozen)
    obstacles = {"pre-training draws its masks anew at each step": kind == "pretraining",
                 f"nothing is frozen from the embeddings up with --strategy={config.strategy}": not layers,
                 "--frozen_dropout draws what frozen layers say anew at each step": config.frozen_dropout}
    obstacle = next((why for why, holds in obstacles.items() if holds), "")
    if config.cache_dtype != "auto" and (obstacle or config.cache_frozen == "false"):
        raise InputError(f"--cache_dtype={config.cache_dtype}: nothing is kept: "
                         f"{obstacle or '--cache_frozen=false'}; leave it out")
    if config.cache_frozen == "true":
        refuse([obstacle] if obstacle else [], "--cache_frozen=true")
        return layers
    pays = max(layers, default=0) > 0 and (passes > 1 or (passes == 1 and config.strategy == "features"))
    if config.cache_frozen == "false" or not pays:
        if config.cache_dtype != "auto":
            note(f"--cache_dtype={config.cache_dtype}: nothing is kept, for it does not pay (one pass over the "
                 "data, or no layer saved); --cache_frozen=true keeps it")
        return ()
    if obstacle:
        note(f"frozen layers are not computed once: {obstacle}")
    return () if obstacle else layers


def keep(config: Config, bottom: Bottom, splits: Mapping[str, Encoded],
         about: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The states of all splits as memory maps [tokens, S, D], computed where they are not on disk already.

    All processes of a pod call it, and get all of it or None.

    Args:
      config: says where, on how many devices, and whether it must be.
      bottom: what computes them.
      splits: by name.
      about: what `flaxbert cache list` tells of them: model and task.

    Returns:
      None where the disk has no room for them, or cannot be written, and --cache_frozen is auto.

    Raises:
      InputError: likewise, with --cache_frozen=true; or another process of the pod has failed.
    """
    found: dict[str, np.ndarray] = {}

    def fetch() -> str:
        found.update(_fetch(config, bottom, splits, about))
        return ""
    for attempt in (partial(_no_room, config, bottom, splits), fetch):
        problem, failure = "", None
        try:
            problem = attempt()
        except OSError as error:
            problem = f"--cache_dir={config.cache_dir}: {error.strerror or error}; {_ADVICE}"
        except disk_cache.NotFinite:
            problem = (f"--cache_dtype={bottom.dtype}: cannot hold what layer {_list(bottom.layers)} says; "
                       "bfloat16 or float32 can, if the model is sound")
        except Exception as error:  # the others wait for an answer whatever happens
            failure = error
        if not parallel.everywhere(failure is None):
            raise failure or InputError("another process of the pod could not compute frozen layers; it tells why")
        if not parallel.everywhere(not problem):
            problem = problem or "--cache_dir: another process of the pod cannot write to its own"
            if config.cache_frozen == "true":
                raise InputError(problem)
            note(f"{problem}; going on without, frozen layers are computed at each step")
            return None
    return found


def _no_room(config: Config, bottom: Bottom, splits: Mapping[str, Encoded]) -> str:
    """Makes room, and tells what will be written and what is free; a sentence where it does not fit, else "".

    Without being told to (auto) half of what is free is left free.
    """
    folder = folder_of(config)
    missing = {name: each for name, each in splits.items()
               if not disk_cache.present(folder, bottom.key(each), bottom.shape(each), bottom.dtype)}
    what = f"layer {_list(bottom.layers)} of {', '.join(splits)}"
    if not missing:
        note(f"{what}: read from {folder}")
        return ""
    disk_cache.sweep(folder)
    size = sum(disk_cache.size_of(bottom.shape(each), bottom.dtype) for each in missing.values())
    if too_much := _over_limit(config, what, size, {bottom.key(each) for each in splits.values()}):
        return too_much
    free = disk_cache.free(folder)
    told = f"{what}: computed once, {readable(size)} in {folder}, where {readable(free)} are free"
    if size <= (free if config.cache_frozen == "true" else free / 2):
        note(told)
        return ""
    return (f"--cache_dir={config.cache_dir}: {what} would take {readable(size)}, {readable(free)} are free; "
            f"{_ADVICE}")


def _over_limit(config: Config, what: str, size: int, wanted: Collection[str]) -> str:
    """Makes room under --cache_limit and says so; a sentence where it would not be enough, else "".

    Args:
      config: the settings.
      what: will be written, for messages.
      size: of that, in bytes.
      wanted: keys of all that the run uses, which stays where it is there.
    """
    folder, limit, flag = folder_of(config), config.cache_limit * 1e9, f"--cache_limit={config.cache_limit:g}"
    if not limit:
        return ""
    stays = sum(entry.bytes for entry in disk_cache.entries(folder) if entry.in_use or entry.key in wanted)
    if stays + size > limit:
        return (f"{flag}: {what} would take {readable(size)}, beside {readable(stays)} in use; a higher one, a "
                "smaller --cache_dtype or fewer --layers would help")
    count, freed = disk_cache.clear(folder, limit=limit - size, spare=wanted)
    if count:
        note(f"{flag}: deleted what was used longest ago, {count} in {folder}, {readable(freed)}")
    return ""


def _fetch(config: Config, bottom: Bottom, splits: Mapping[str, Encoded],
           about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The states of each split; only what is not there yet is computed."""
    return {name: disk_cache.fetch(folder_of(config), bottom.key(encoded), bottom.shape(encoded), bottom.dtype,
                                   {**about, "split": name, "layers": list(bottom.layers)},
                                   partial(bottom.write, encoded, name))
            for name, encoded in splits.items()}
