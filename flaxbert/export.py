"""Where weights go: Hugging Face folders, which PyTorch reads.

Letters: C outputs.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from safetensors.numpy import save_file

from flaxbert.config import Config
from flaxbert.errors import InputError, one_of
from flaxbert.heads.config import HeadConfig, flags
from flaxbert.huggingface import HEADS, MASKED_ALONE, to_tensors
from flaxbert.model_files import clean
from flaxbert.pretrained import load
from flaxbert.records import runs_of
from flaxbert.tasks.corpus import NEXT_SENTENCE

# What the outputs of a head without label names are called.
_OUTPUTS = {"regression": ("score",), "choice": ("score",), "span": ("start", "end"),
            "pretraining": NEXT_SENTENCE}
DTYPES = ("float32", "float16", "bfloat16")
# Settings of a source's config.json that are not true of what we write.
_STALE = ("_name_or_path", "torch_dtype", "dtype", "transformers_version", "flaxbert")
# The settings of a run that say which data it read, with what the card calls them.
_DATA = (("hub_dataset", "hub data set"), ("data_dir", "folder"), ("train_file", "training file"),
         ("dev_file", "development file"), ("test_file", "test file"),
         ("max_train_examples", "training examples at most"))
# The settings of a run that say what its inputs look like: an export keeps them.
_INPUT = ("task", "text_columns", "label_column", "label_type", "max_length", "doc_stride", "max_query_length",
          "max_answer_length", "n_best", "null_threshold", "context", "mask_rate",
          "whole_word_masking", "next_sentence")
_NO_LABELS = {"pretraining": "the masked words themselves", "span": "begin and end of the answer"}
_UNRECORDED = "not recorded in the run"


def head_settings(kind: str, labels: Sequence[str]) -> dict[str, Any]:
    """What a config.json says about a head.

    Args:
      kind: of the task, a key of HEADS.
      labels: C names; () where the kind has none.
    """
    names = list(labels) or list(_OUTPUTS[kind])
    architecture = HEADS[kind].architecture if kind != "pretraining" or labels else MASKED_ALONE
    # transformers 5 derives neither of the two from the other.
    return {"architectures": [architecture], "model_type": "bert",
            "problem_type": HEADS[kind].problem_type, "num_labels": len(names),
            "id2label": {str(i): label for i, label in enumerate(names)},
            "label2id": {label: i for i, label in enumerate(names)}}


def save_model_folder(folder: str | Path, settings: Mapping[str, Any], tokenizer: Any,
                      dtype: str = "float32") -> None:
    """Writes config.json and the tokenizer, without truncation or padding: a Hugging Face folder but for weights.

    Args:
      folder: made if need be.
      settings: a whole config.json; a run adds `head_settings`.
      tokenizer: a fast transformers tokenizer.
      dtype: of the weights that will be there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in settings.items() if name not in _STALE}
    _write_json(folder / "config.json", {**kept, "dtype": dtype})
    clean(tokenizer).save_pretrained(folder)


def export(run: str | Path, to: str | Path, checkpoint: str = "best", dtype: str = "float32") -> None:
    """Writes a run's model as a Hugging Face folder: weights, config.json, tokenizer, model card.

    Args:
      run: the run's directory.
      to: a new or empty folder, or an earlier export, which is replaced.
      checkpoint: best or last.
      dtype: one of DTYPES; half as many bytes a number where it is not float32.

    Raises:
      InputError: no run, no readable checkpoint, a head that is not BERT's own, or a folder that holds something
        else.
    """
    [run], to = runs_of(Path(run).expanduser()), Path(to).expanduser()
    one_of(dtype, DTYPES, "--dtype")
    record = _read(run / "config.json")
    if "settings" not in record:
        raise InputError(f"--run={run}: not one of our runs (no config.json with the run's settings)")
    _check_target(to)
    model = load(str(run), checkpoint)
    task = record.get("task", {})
    kind = task.get("kind") or model.kind
    if kind not in HEADS or ("mlm" if kind == "pretraining" else "head") not in model.params:
        raise InputError(f"--run={run}: has no head to export")
    top = HeadConfig.of(Config.from_json(record["settings"]), kind, task.get("pair", False),
                        model.config.num_hidden_layers)
    if own := flags(vars(top), HeadConfig):
        raise InputError(f"--run={run}: transformers has no class for a head with {' '.join(own.values())}; "
                         f'flaxbert.load("{run}") uses it as it is')
    settings = {**model.settings, **(head_settings(kind, task.get("labels", ())) if "kind" in task else {})}
    outputs = model.params["head"]["kernel"].shape[-1] if "head" in model.params else 2
    if len(settings.get("id2label", ())) != outputs:
        raise InputError(f"--run={run}: its head has {outputs} outputs, but the run names "
                         f"{len(settings.get('id2label', ()))} labels")
    save_model_folder(to, settings, model.tokenizer, dtype)
    result = _read(run / "result.json")
    mark = {"version": version("flaxbert"), "run": run.name, "checkpoint": checkpoint,
            "dev": dev_scores(result, checkpoint),
            "settings": {name: record["settings"][name] for name in _INPUT if name in record["settings"]}}
    _write_json(to / "config.json", {**_read(to / "config.json"), "flaxbert": mark})
    card = model_card(run.name, record, result, checkpoint, kind)
    (to / "README.md").write_text(card, "utf-8")
    # Last and at once, so that a folder with weights is a whole one.
    tensors = {name: x.astype(jnp.dtype(dtype)) for name, x in to_tensors(model.params, kind).items()}
    save_file(tensors, to / "model.part", metadata={"format": "pt"})
    shutil.copymode(to / "config.json", to / "model.part")  # safetensors writes for its owner alone
    os.replace(to / "model.part", to / "model.safetensors")


def dev_scores(result: Mapping[str, Any], checkpoint: str) -> dict[str, Any]:
    """What result.json says of a checkpoint on dev; empty where it says nothing."""
    return (result.get("best" if checkpoint == "best" else "metrics") or {}).get("dev", {})


def model_card(name: str, record: Mapping[str, Any], result: Mapping[str, Any], checkpoint: str,
               kind: str = "classification") -> str:
    """README.md of an export; says so where the run has no record of something.

    Args:
      name: of the run.
      record: its config.json.
      result: its result.json, empty where it has none.
      checkpoint: best or last.
      kind: of the task, a key of HEADS.
    """
    head = HEADS[kind]
    settings, task = record.get("settings", {}), record.get("task", {})
    scores = result.get("best" if checkpoint == "best" else "metrics") or {}
    title = task.get("name", settings.get("task", name))
    data = [(label, settings[key]) for key, label in _DATA if settings.get(key)]
    versions = ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items()) or _UNRECORDED
    step = f", step {result['best_step']}" if checkpoint == "best" and "best_step" in result else ""
    return "\n".join([
        "---", "library_name: transformers", f"pipeline_tag: {head.pipeline}", "tags: [bert, flaxbert]", "---",
        "", "# BERT pre-trained on text" if kind == "pretraining" else f"# BERT fine-tuned on {title}", "",
        f"Exported from the run `{name}` ({checkpoint} checkpoint{step}) by flaxbert {version('flaxbert')}.", "",
        "## Task", "",
        f"- name: {title}",
        f"- kind: {task.get('kind', _UNRECORDED)}",
        f"- labels: {', '.join(map(str, task.get('labels', ()))) or _NO_LABELS.get(kind, 'one score, no labels')}"
        if "kind" in task else f"- labels: {_UNRECORDED}",
        f"- metrics: {', '.join(task.get('metrics', ())) or _UNRECORDED}", "",
        "## Data", "",
        *([f"- {label}: {_cell(value)}" for label, value in data] or ["The task's own default source."]), "",
        "## Scores", "",
        *(_table(("split", "metric", "value"), _rows(scores))
          if scores else ["The run has recorded no scores for this checkpoint."]), "",
        f"Status of the run: {result.get('status', _UNRECORDED)}.", "",
        "## Settings", "",
        *(_table(("setting", "value"), settings.items()) if settings else [_UNRECORDED]), "",
        f"Versions: {versions}.", "",
        "## Use", "", "```python",
        f"from transformers import {head.auto_class}, AutoTokenizer",
        f'model = {head.auto_class}.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")', "```", ""])


def _rows(scores: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(split, metric, value) of every score of {split: {metric: value}}."""
    for split, metrics in scores.items():
        for metric, value in metrics.items():
            yield split, metric, f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(header: Sequence[str], rows: Any) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(map(_cell, row))} |" for row in (header, ["---"] * len(header), *rows)]


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _check_target(to: Path) -> None:
    """Refuses what an export would spoil."""
    if to.exists() and not to.is_dir():
        raise InputError(f"--to={to}: is a file; give a folder")
    if to.is_dir() and any(to.iterdir()) and "flaxbert" not in _read(to / "config.json"):
        raise InputError(f"--to={to}: holds something that is no export of ours; give a new or empty folder")


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
