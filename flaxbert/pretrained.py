"""Where weights come from: the bundled model, the hub, a Hugging Face folder, one of our own runs."""

from dataclasses import dataclass
from typing import Any

from flaxbert import checkpoint as checkpoints
from flaxbert import heads, lora, trees
from flaxbert.bert import BertConfig
from flaxbert.errors import InputError, note, one_of, refuse
from flaxbert.huggingface import from_tensors, kind_of, shapes
from flaxbert.model_files import load_tokenizer, locate, read_config, read_json, read_tensors


@dataclass(frozen=True)
class Pretrained:
    """A model to start from, or to predict with.

    Attributes:
      source: what was asked for, for messages and records.
      config: the encoder's shape.
      settings: the whole config.json of the model (id2label, problem_type, ...).
      params: nested dict of float32 numpy arrays: `bert`, and `pooler`, `mlm`, `nsp` and those of `heads.OWN`
        where the source has them; empty where no weights were asked for.
      tokenizer: a fast transformers tokenizer without truncation or padding.
    """

    source: str
    config: BertConfig
    settings: dict[str, Any]
    params: dict[str, Any]
    tokenizer: Any

    @property
    def kind(self) -> str:
        """The kind of task that its head is for, as far as config.json tells: a key of HEADS, or ""."""
        return kind_of(self.settings)


def load(name: str, checkpoint: str = "best", weights: bool = True) -> Pretrained:
    """The model that `name` means.

    Args:
      name: `bundled`, a Hugging Face folder, one of our run directories, or a hub name.
      checkpoint: best or last, of a run.
      weights: False: for its shape and its tokenizer alone; there may be none.

    Raises:
      InputError: one line; everything missing, unexpected or of the wrong shape is in it at once.
    """
    one_of(checkpoint, checkpoints.WHICH, "--checkpoint")
    folder = locate(name)
    run = folder
    if "settings" in read_json(folder / "config.json"):
        folder = run / "model"
    settings = read_json(folder / "config.json")
    config = read_config(settings, folder)
    if not weights:
        params = {}
    elif folder != run:
        params = lora.merge(checkpoints.load_params(run, checkpoint)[0])
        shared = {part: tree for part, tree in params.items() if part not in heads.OWN}
        refuse(trees.mismatches(shared, shapes(config, shared, 1)), f"{run}/checkpoints")
    else:
        params = from_tensors(read_tensors(folder, name), config, folder, kind_of(settings))
    return Pretrained(name, config, settings, params, load_tokenizer(folder, config))


def initialise(model: heads.Model, pretrained: Pretrained, seed: int, random_init: bool = False,
               reuse_head: bool = False) -> dict[str, Any]:
    """Parameters to start from: random from `seed`, then all of `pretrained` that is no task's own.

    Args:
      model: gives names and shapes.
      pretrained: an encoder of the same shape.
      random_init: take nothing from it.
      reuse_head: take its head as well.

    Returns:
      Nested dict of float32 numpy arrays.

    Raises:
      InputError: shapes that differ; no head to reuse.
    """
    params = trees.to_host(heads.init(model, seed))
    if random_init or not pretrained.params:
        return params
    wanted = set(params) if reuse_head else set(params) - {*heads.OWN}
    missing = wanted - set(pretrained.params)
    lacks = f"has no {' and no '.join(sorted(missing))}"
    if reuse_head and missing:
        raise InputError(f"{pretrained.source}: {lacks} to reuse for this task")
    if missing:
        note(f"{pretrained.source}: {lacks}; starting at random, like any new head")
    merged = trees.merge(params, {k: pretrained.params[k] for k in wanted - missing})
    refuse(trees.mismatches(merged, params), pretrained.source)
    return merged
