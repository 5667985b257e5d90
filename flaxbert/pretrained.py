"""Where weights come from: the bundled model, the hub, a Hugging Face folder, one of our own runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from flaxbert import checkpoint as checkpoints
from flaxbert import fingerprint, heads, lora, records, trees
from flaxbert.bert import BertConfig
from flaxbert.errors import InputError, note, one_of, refuse
from flaxbert.huggingface import from_tensors, kind_of, shapes
from flaxbert.model_files import load_tokenizer, locate, read_config, read_json, read_tensors

SHOWN = 12  # digits of a fingerprint, in messages


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
      origin: where just these weights are found again: `model`, with `revision` on the hub or `checkpoint` of a
        run, and `fingerprint` where it is known; {} where they are not found as they are.
    """

    source: str
    config: BertConfig
    settings: dict[str, Any]
    params: dict[str, Any]
    tokenizer: Any
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of task that its head is for, as far as config.json tells: a key of HEADS, or ""."""
        return kind_of(self.settings)

    @cached_property
    def fingerprint(self) -> str:
        """Of its encoder, see `fingerprint.of_encoder`."""
        return self.origin.get("fingerprint") or fingerprint.of_encoder(self.config, self.params["bert"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all its parameters; "" where it has none."""
        return fingerprint.digest("", trees.flatten(self.params)) if self.params else ""


def load(name: str, checkpoint: str = "best", weights: bool = True, revision: str = "",
         encoders: dict[str, Any] | None = None) -> Pretrained:
    """The model that `name` means.

    Args:
      name: `bundled`, a Hugging Face folder, one of our run directories, or a hub name.
      checkpoint: best or last, of a run.
      weights: False: for its shape and its tokenizer alone; there may be none.
      revision: of a hub model; "": the newest.
      encoders: fingerprint -> parameters, of encoders that runs stand on and that are at hand; those that have to
        be read are added.

    Raises:
      InputError: one line; everything missing, unexpected or of the wrong shape is in it at once. Or a run's
        backbone is gone.
    """
    one_of(checkpoint, checkpoints.WHICH, "--checkpoint")
    [folder] = records.runs_of(locate(name, revision))
    run = folder
    record = read_json(folder / "config.json")
    if "settings" in record:
        folder = run / "model"
    settings = read_json(folder / "config.json")
    config = read_config(settings, folder)
    if not weights:
        params, origin = {}, {}
    elif folder != run:
        params, origin = _of_run(run, record, checkpoint, {} if encoders is None else encoders)
        shared = {part: tree for part, tree in params.items() if part not in heads.OWN}
        refuse(trees.mismatches(shared, shapes(config, shared, 1)), f"{run}/checkpoints")
    else:
        params = from_tensors(read_tensors(folder, name), config, folder, kind_of(settings))
        origin = _origin(name, folder)
    return Pretrained(name, config, settings, params, load_tokenizer(folder, config), origin)


def _origin(name: str, folder: Path) -> dict[str, str]:
    """Where the model of this name is found again, from any folder: `folder` is what the name means now."""
    if name == "bundled":
        return {"model": name}
    if Path(name).expanduser().is_dir():
        return {"model": str(folder.resolve())}
    return {"model": name, "revision": folder.name}  # the hub's cache calls it so


def _of_run(run: Path, record: Mapping[str, Any], checkpoint: str,
            encoders: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """All parameters of a run, and their origin; `record` is its config.json, the rest as of `load`."""
    params, about = checkpoints.load_params(run, checkpoint)
    origin = {"model": str(run.resolve()), "checkpoint": about["checkpoint"]}
    if "bert" not in params:
        named = record.get("backbone") or {}
        if not isinstance(named, dict) or not isinstance(named.get("model", ""), str):
            raise InputError(f'{run / "config.json"}: backbone should be an object such as '
                             '{"model": "/where/it/is"}')
        backbone = {**about["backbone"], **named}
        origin["fingerprint"] = known = backbone["fingerprint"]
        if known not in encoders:
            encoders[known] = recall(backbone, run).params["bert"]
        params["bert"] = encoders[known]
    merged = lora.merge(params)
    # A product of matrices is rounded otherwise on another machine.
    return merged, origin if trees.count(merged) == trees.count(params) else {}


def backbone(source: Pretrained, trains: Mapping[str, Any], kind: str) -> dict[str, str] | None:
    """What stands for the encoder of a run that never changes it: its `origin` and its fingerprint; None: it does.

    Args:
      source: what the run starts from; without weights where its encoder is new.
      trains: tree of bool over the run's parameters.
      kind: of its task; one that pre-trains is there for its encoder.
    """
    if kind == "pretraining" or not source.origin or any(trees.flatten(trains["bert"]).values()):
        return None
    return {**source.origin, "fingerprint": source.fingerprint}


def recall(backbone: Mapping[str, str], run: Path) -> Pretrained:
    """The model that a run stands on.

    Args:
      backbone: as of `backbone`, from the run's record.
      run: for messages.

    Raises:
      InputError: it is gone, or its encoder has become another one.
    """
    which = "".join(f", {name} {backbone[name]}," for name in ("revision", "checkpoint") if name in backbone)
    wanted = (f"{run}: holds a head alone, which stands on {backbone['model']}{which} with the fingerprint "
              f"{backbone['fingerprint'][:SHOWN]}")
    advice = f"put it back, or say in {run / 'config.json'} (backbone, model) where it is now"
    try:
        found = load(backbone["model"], backbone.get("checkpoint", "best"), revision=backbone.get("revision", ""))
    except InputError as error:
        raise InputError(f"{wanted}; it cannot be read ({error}); {advice}") from error
    if found.fingerprint != backbone["fingerprint"]:
        raise InputError(f"{wanted}; what is there now has the fingerprint {found.fingerprint[:SHOWN]}; {advice}")
    return found


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
    if random_init or not (reuse_head or pretrained.params):
        return trees.to_host(heads.init(model, seed))
    made = heads.shapes(model)
    wanted = set(made) if reuse_head else set(made) - {*heads.OWN}
    missing = wanted - set(pretrained.params)
    lacks = f"has no {' and no '.join(sorted(missing))}"
    if reuse_head and missing:
        raise InputError(f"{pretrained.source}: {lacks} to reuse for this task")
    if missing:
        note(f"{pretrained.source}: {lacks}; starting at random, like any new head")
    taken = {part: pretrained.params[part] for part in wanted - missing}
    refuse(trees.mismatches(taken, {part: made[part] for part in taken}), pretrained.source)
    drawn = trees.to_host(heads.init(model, seed, made.keys() - taken.keys()))
    return trees.merge(made, drawn | taken)
