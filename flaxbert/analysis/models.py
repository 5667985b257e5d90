"""Two models of one shape and one vocabulary: a pre-trained and a fine-tuned one."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxbert import fingerprint, parallel, prepare, pretrained, records, trees
from flaxbert.bert import BertConfig
from flaxbert.config import Config
from flaxbert.errors import InputError
from flaxbert.pretrained import Pretrained

SIDES = ("before", "after")


@dataclass(frozen=True, eq=False)
class Pair:
    """A pre-trained and a fine-tuned model that can be compared; made by `load`, or from models at hand.

    Attributes:
      before, after: the models; of their parameters `bert` is there, and what else each has.
      config: the settings of the run that `after` is; of an exported one those that it keeps; else None.

    Raises:
      InputError: their shapes or vocabularies differ, or a weight is not finite.
    """

    before: Pretrained
    after: Pretrained
    config: Config | None = None

    def __post_init__(self):
        comparable(self.before, self.after)
        for side in SIDES:
            sound(getattr(self, side), side)

    @property
    def shape(self) -> BertConfig:
        """The shape of both encoders."""
        return self.after.config

    @property
    def layers(self) -> int:
        """L, the number of Transformer layers."""
        return self.shape.num_hidden_layers

    @property
    def tokenizer(self) -> Any:
        """That of both."""
        return self.after.tokenizer

    @property
    def encoders(self) -> dict[str, dict[str, Any]]:
        """The parameters of both encoders on the host: before, after."""
        return {side: getattr(self, side).params["bert"] for side in SIDES}

    @cached_property
    def placement(self) -> parallel.JitPlacement:
        """All devices of this machine."""
        return parallel.JitPlacement(jax.local_devices())

    @cached_property
    def placed(self) -> dict[str, dict[str, Any]]:
        """`encoders` on the devices."""
        return self.placement.put(self.encoders)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Of both: name, where its weights are found again, and the fingerprint of its encoder."""
        return {side: {"model": model.source, "origin": dict(model.origin), "fingerprint": model.fingerprint}
                for side, model in ((side, getattr(self, side)) for side in SIDES)}


def load(after: str, before: str = "", checkpoint: str = "best") -> Pair:
    """The pair that two names mean.

    Args:
      after: a run, of a folder of many seeds the best one; an exported folder; or as --model.
      before: as --model; "": the model that the run `after` started from, as it was read then.
      checkpoint: best or last, of runs that are named.

    Raises:
      InputError: as `Pair`; no such model, or nothing says what `after` started from, or that holds other weights
        today.
    """
    model, config = read(after, checkpoint)
    if before:
        return Pair(pretrained.load(before, checkpoint), model, config)
    folder = Path(model.source)
    is_run = records.is_run(folder)
    if not is_run or config.random_init or config.from_scratch:
        why = "started from random weights" if is_run else "is no run"
        raise InputError(f"--before is needed: {model.source} {why}, so nothing says which pre-trained model to "
                         "compare it with")
    about = records.read_run(folder)[1]
    known = about.get("backbone") or {}  # of a run that never changes its encoder
    start = pretrained.load(known.get("model", config.model), known.get("checkpoint", "best"),
                            revision=known.get("revision", ""))
    if prepare.replaced(about, start):
        raise InputError(f"{model.source}: began from other weights than {config.model} holds today; give "
                         "--before=MODEL with those, or with what to compare it with")
    return Pair(start, model, config)


def read(name: str, checkpoint: str = "best") -> tuple[Pretrained, Config | None]:
    """A model, and the settings of the run that it is or was exported from; None where nothing tells them.

    Args:
      name: as `after` of `load`. The model's `source` is the run that is meant.
      checkpoint: best or last, of a run.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        [folder] = records.runs_of(folder)
        name = str(folder)
    model = pretrained.load(name, checkpoint)
    if records.is_run(folder):
        return model, records.read_run(folder)[0]
    mark = model.settings.get("flaxbert") or {}
    return model, Config.from_json(mark["settings"]) if "settings" in mark else None


def comparable(before: Pretrained, after: Pretrained) -> None:
    """Raises `InputError` where the shapes or the vocabularies of two models differ."""
    _same_shape(before, after)
    _same_vocabulary(before, after)


def _same_shape(before: Pretrained, after: Pretrained) -> None:
    """Raises `InputError` with every dimension that differs."""
    shapes = [{"num_hidden_layers": model.config.num_hidden_layers, **fingerprint.shape(model.config)}
              for model in (before, after)]
    other = [f"{name} is {value} and {shapes[1][name]}" for name, value in shapes[0].items()
             if value != shapes[1][name]]
    if other:
        raise InputError(f"{before.source} and {after.source}: {'; '.join(other)}; only models of one shape can "
                         "be compared layer by layer")


def _same_vocabulary(before: Pretrained, after: Pretrained) -> None:
    """Raises `InputError` with the first token that has another number, or none."""
    old, new = (model.tokenizer.get_vocab() for model in (before, after))
    if old == new:
        return
    other = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
    first = min(other, key=lambda name: (min(old.get(name, len(old)), new.get(name, len(new))), name))
    numbers = " and ".join(str(each.get(first, "none")) for each in (old, new))
    raise InputError(f"{before.source} and {after.source}: {len(other)} tokens of the vocabularies differ, first "
                     f"{first!r}, whose numbers are {numbers}; only models of one vocabulary see the same text")


def sound(model: Pretrained, flag: str) -> None:
    """Raises `InputError` with the first leaf that holds a NaN or an infinity; `flag` is what named the model."""
    for name, leaf in trees.flatten(model.params).items():
        if not np.isfinite(leaf).all():
            count = int((~np.isfinite(leaf)).sum())
            raise InputError(f"--{flag}={model.source}: of the numbers of {name} {count} are not finite; the run "
                             "diverged or the file is damaged")
