"""Using a trained model: a callable predictor, scores of any split or file, predictions for files of texts."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxbert import heads, parallel, pretrained, records, tasks
from flaxbert.config import Config
from flaxbert.data import Encoded, encode
from flaxbert.errors import InputError, note
from flaxbert.export import PROBLEM_TYPES
from flaxbert.inference import Inference, score_logits
from flaxbert.tasks.base import Examples

Text = str | tuple[str, str] | list[str]


class Predictor:
    """A trained model as a function of texts; made by `load`.

    Attributes:
      kind: classification, regression or multi_label.
      labels: names of the C classes.
      max_length: longest sequence in tokens; longer inputs are truncated, longest text first.
      config: the settings of the run, or those of them that an export keeps; None for other folders.
    """

    def __init__(self, source: pretrained.Pretrained, kind: str, labels: tuple[str, ...], max_length: int,
                 config: Config | None = None):
        self.kind, self.labels, self.max_length, self.config = kind, labels, max_length, config
        self.tokenizer = source.tokenizer
        dtype = parallel.compute_dtype((config or Config()).dtype)
        model = heads.SequenceModel(source.config, max(1, len(labels)), dtype)
        placement = parallel.JitPlacement(jax.local_devices())
        self._params = placement.put(pretrained.initialise(model, source, seed=0, reuse_head=True))
        self._inference = Inference(lambda params, batch, dropout: model.apply({"params": params}, batch, dropout),
                                    placement)

    def encode(self, examples: Examples, class_weights: tuple[float, ...] = ()) -> Encoded:
        """Token ids of the examples; `class_weights` as in `data.encode`."""
        return encode(self.tokenizer, examples, self.max_length, "tokenising", class_weights)

    def logits(self, encoded: Encoded, what: str = "predicting") -> np.ndarray:
        """Logits [N, C] float32, in the order of the examples."""
        with parallel.memory_told(f"sequences of up to {self.max_length} tokens: give shorter ones"):
            return self._inference.logits(self._params, encoded, what)

    def __call__(self, texts: Sequence[Text] | str) -> list[dict[str, Any]]:
        """Predicts for each text or pair, in input order.

        Args:
          texts: texts, or pairs (A, B); a lone text is a list of one.

        Returns:
          {"label", "probability", "probabilities": {label: p}} each; multi-label: {"labels",
          "probabilities"}; regression: {"score"}.

        Raises:
          InputError: something else than texts or pairs, or a mixture.
        """
        examples = _examples([texts] if isinstance(texts, str) else list(texts))
        if not len(examples):
            return []
        return self.answers(self.logits(self.encode(examples)))

    def answers(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """Logits [N, C] as the dicts that a call returns."""
        return [ANSWERS[self.kind](row.astype(np.float64), self.labels) for row in logits]


def _class(logits: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    p = np.exp(logits - logits.max())
    p /= p.sum()
    best = int(p.argmax())
    return {"label": labels[best], "probability": float(p[best]),
            "probabilities": dict(zip(labels, p.tolist(), strict=True))}


def _several(logits: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    p = 1 / (1 + np.exp(-logits))
    return {"labels": [name for name, x in zip(labels, logits, strict=True) if x > 0],
            "probabilities": dict(zip(labels, p.tolist(), strict=True))}


def _score(logits: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    return {"score": float(logits[0])}


ANSWERS = {"classification": _class, "multi_label": _several, "regression": _score}


def _examples(texts: list[Text]) -> Examples:
    pairs = [not isinstance(text, str) for text in texts]
    for i, text in enumerate(texts):
        if pairs[i] != pairs[0]:
            raise InputError(f"input {i}: texts and pairs are mixed; give one or the other")
        if pairs[i] and not (isinstance(text, tuple | list) and len(text) == 2
                             and all(isinstance(part, str) for part in text)):
            raise InputError(f"input {i}: {text!r:.60} is neither a text nor a pair of texts")
    if not any(pairs):
        return Examples(texts, None, None)
    return Examples([a for a, _ in texts], [b for _, b in texts], None)


def load(path: str, checkpoint: str = "best") -> Predictor:
    """A predictor from one of our runs, an exported folder or a fine-tuned Hugging Face model.

    Args:
      path: as --model.
      checkpoint: best or last, for a run.

    Raises:
      InputError: nothing there, or no fine-tuned head in it.
    """
    source = pretrained.load(path, checkpoint)
    if "head" not in source.params:
        raise InputError(f"{path}: has no fine-tuned head; fine-tune it first (flaxbert finetune --model={path})")
    outputs = source.params["head"]["kernel"].shape[1]
    named = source.settings.get("id2label") or {i: f"LABEL_{i}" for i in range(outputs)}
    labels = tuple(name for _, name in sorted((int(i), name) for i, name in named.items()))
    kind = next((kind for kind, name in PROBLEM_TYPES.items() if name == source.settings.get("problem_type")),
                "regression" if outputs == 1 else "classification")
    config = None
    if records.is_run(Path(path)):
        config = records.read_run(path)[0]
    elif kept := (source.settings.get("flaxbert") or {}).get("settings"):
        config = Config.from_json(kept)
    longest = min(source.config.max_position_embeddings, source.tokenizer.model_max_length)
    return Predictor(source, kind, labels, config.max_length if config else longest, config)


def evaluate(run: str, split: str = "dev", output: str = "", checkpoint: str = "best", data_dir: str = "",
             file: str = "", skip_bad_rows: bool = False) -> dict[str, Any]:
    """Scores a run on one of its splits, or on another file of the same task.

    Args:
      run: the run's folder.
      split: train, dev, dev_mismatched, test, ...
      output: file for the scores as JSON, beside the returned ones.
      checkpoint: best or last.
      data_dir: where the task's files are now, if not where they were.
      file: score this file in place of a split.
      skip_bad_rows: count rows of it that cannot be read in place of stopping.

    Returns:
      {"run", "split", "checkpoint", "examples", "loss", metrics ...}.

    Raises:
      InputError: no such run, split or file, or one without labels.
    """
    config, about = records.read_run(run)
    task = tasks.resolve(config, tuple(about["task"]["labels"]))
    if file:
        examples, report = tasks.read_file(task, file, skip_bad_rows, labels_required=True)
        _tell(report)
    else:
        examples = _split(config, split, data_dir)
    predictor = load(run, checkpoint)
    encoded = predictor.encode(examples, config.class_weights)
    if encoded.labels is None:
        raise InputError(f"--split={split}: has no labels; `flaxbert predict` gives predictions")
    logits = predictor.logits(encoded, f"scoring {file or split}")
    scores = score_logits(task, logits, encoded, config.class_weights)
    result = {"run": str(run), "split": file or split, "checkpoint": checkpoint, "examples": len(examples),
              **scores}
    if output:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        records.write_json(Path(output), result)
    return result


def _tell(report: tasks.Report) -> None:
    for line in report.lines:
        note(line)


def _split(config: Config, split: str, data_dir: str) -> Examples:
    settings = {**config.to_json(), **({"data_dir": data_dir} if data_dir else {})}
    _, splits, report = tasks.load(Config.from_json(settings))
    _tell(report)
    if split not in splits:
        raise InputError(f"--split={split}: {config.task} has no such split here; valid: {', '.join(splits)}")
    return splits[split]


def predict(run: str, input: str = "-", output: str = "-", checkpoint: str = "best",
            skip_bad_rows: bool = False) -> int:
    """Predicts for a file of texts, one JSON object a line out for each row in, in the same order.

    Args:
      run: a run or an exported folder.
      input: TSV, CSV or JSONL with the task's text columns, or plain texts, one a line (pairs with a tab
        between); "-" is standard input.
      output: .tsv for a table, else JSONL; "-" is standard output.
      checkpoint: best or last.
      skip_bad_rows: count rows that cannot be read in place of stopping; nothing comes out for them.

    Returns:
      the number of rows.
    """
    predictor = load(run, checkpoint)
    task = tasks.resolve(predictor.config, predictor.labels) if predictor.config else tasks.get("custom")
    examples, report = tasks.read_inputs(task, input, skip_bad_rows)
    _tell(report)
    if output != "-":  # before the work, not after it
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        open(output, "a").close()
    answers = predictor.answers(predictor.logits(predictor.encode(examples)))
    lines = _table(answers) if output.endswith(".tsv") else [json.dumps(a, ensure_ascii=False) for a in answers]
    if output == "-":
        sys.stdout.writelines(line + "\n" for line in lines)
    else:
        Path(output).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return len(answers)


def _table(answers: list[dict[str, Any]]) -> list[str]:
    """A header and a row each: label, probability, and one column a class."""
    def cells(answer: dict[str, Any]) -> dict[str, str]:
        flat = {name: value for name, value in answer.items() if name != "probabilities"}
        flat |= {f"p({name})": p for name, p in answer.get("probabilities", {}).items()}
        return {name: f"{v:.6f}" if isinstance(v, float) else "|".join(v) if isinstance(v, list) else str(v)
                for name, v in flat.items()}
    rows = [cells(answer) for answer in answers]
    return ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)] if rows else []
