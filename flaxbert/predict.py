"""Using trained models: callable predictors, and predictions for files of texts."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxbert import families, parallel, pretrained, records, tasks
from flaxbert.backbone import Backbone, Head
from flaxbert.config import Config
from flaxbert.data import Encoded
from flaxbert.errors import InputError
from flaxbert.export import dev_scores
from flaxbert.families.base import table
from flaxbert.prepare import build_model
from flaxbert.tasks.base import Split, Task
from flaxbert.tasks.rows import BadRow, whole


class Predictor:
    """A trained model as a function of inputs; made by `load`.

    Attributes:
      task: what it does; a run's own, or what the model's configuration tells.
      labels: names of the C classes.
      config: the settings of the run, or those of them that an export keeps.
      max_length: longest sequence in tokens.
      dev: its scores on dev, where something was tuned there.
      head: its model, and the parameters on the devices.

    Args:
      shared: part -> parameters, of those parts that are on the devices already.
    """

    def __init__(self, source: pretrained.Pretrained, task: Task, config: Config,
                 dev: Mapping[str, float] | None = None, shared: Mapping[str, Any] | None = None):
        self.task, self.config, self.dev = task, config, dev or {}
        self.labels, self.max_length = task.labels, config.max_length
        self.tokenizer = source.tokenizer
        self.family = families.make(task, config)
        model = build_model(config, task, source.config)
        self.placement = parallel.JitPlacement(jax.local_devices())
        params, shared = pretrained.initialise(model, source, seed=0, reuse_head=True), shared or {}
        own = {part: tree for part, tree in params.items() if part not in shared}
        self._params = {**self.placement.put(own), **shared}
        self.head = Head(model, self.family, self._params)
        self._backbone = Backbone([self.head], self.placement)

    @property
    def kind(self) -> str:
        """What it predicts: classification, regression, multi_label, span, token or choice."""
        return self.task.kind

    def encode(self, examples: Split, name: str = "inputs") -> Encoded:
        """Token sequences of the examples; `name` is what messages call them."""
        return self.family.encode(self.tokenizer, examples, name)

    def outputs(self, encoded: Encoded, what: str = "predicting") -> np.ndarray:
        """What the model says, see `families.Family`: logits [N, C], or [tokens, C] where they are of tokens."""
        with parallel.memory_told(f"sequences of up to {self.max_length} tokens: give shorter ones"):
            return self._backbone.outputs([encoded], what)[0]

    def __call__(self, inputs: Any) -> list[dict[str, Any]]:
        """Predicts for each input, in their order.

        Args:
          inputs: a list; of texts or pairs (A, B) for labels and scores, of (question, context) for spans, of
            texts or lists of words for tokens, of (context, [choice, ...]) for choices. A lone text is a list
            of one.

        Returns:
          {"label", "probability", "probabilities": {label: p}} each; multi-label: {"labels",
          "probabilities"}; regression: {"score"}; the other kinds: see their family's `answers`.

        Raises:
          InputError: something else than what the task takes, or a mixture.
        """
        inputs = _listed(inputs)
        return self.answers(self.family.inputs(inputs)) if inputs else []

    def answers(self, examples: Split) -> list[dict[str, Any]]:
        """What a call returns, of examples."""
        encoded = self.encode(examples)
        return self.family.answers(self.outputs(encoded), encoded, examples, self.dev)

    def table(self, answers: Sequence[dict[str, Any]]) -> list[str]:
        """Answers as lines of a .tsv file."""
        return self.family.table(answers)


def _listed(inputs: Any) -> list[Any]:
    """Inputs as a list, of which no text holds half a character."""
    inputs = [inputs] if isinstance(inputs, str | dict) else list(inputs)
    for i, value in enumerate(inputs):
        try:
            whole(value)
        except BadRow as error:
            raise InputError(f"input {i}: {error}") from None
    return inputs


class Ensemble(Predictor):
    """Runs of one task that differ in their seeds as one: their probabilities, averaged; made by `load`.

    Where they stand on one backbone it runs once for all of them.

    Attributes:
      predictors: of each run. What was tuned on dev is their mean.
    """

    def __init__(self, predictors: Sequence[Predictor]):
        first = predictors[0]
        self.predictors, self.family, self.tokenizer = predictors, first.family, first.tokenizer
        self.task, self.config, self.labels = first.task, first.config, first.labels
        self.max_length = first.max_length
        self.dev = {name: float(np.mean([predictor.dev[name] for predictor in predictors]))
                    for name in first.dev if all(name in predictor.dev for predictor in predictors)}
        each = [predictor.head for predictor in predictors]
        if len({id(head.params["bert"]) for head in each}) == 1:
            self._backbones = [Backbone(each, first.placement)]
        else:  # one program: they differ in their parameters alone
            self._backbones = [Backbone(each[:1], first.placement)]
            self._backbones += [Backbone([head], first.placement, self._backbones[0]) for head in each[1:]]

    def outputs(self, encoded: Encoded, what: str = "predicting") -> np.ndarray:
        with parallel.memory_told(f"sequences of up to {self.max_length} tokens: give shorter ones"):
            each = [outputs for backbone in self._backbones
                    for outputs in backbone.outputs([encoded] * backbone.size, what)]
        return self.family.together(np.stack(each))


class Predictors:
    """Several heads on one backbone as a function of inputs; made by `load`.

    Heads that read the same token sequences are run together, in one pass of the backbone; those that cut texts
    otherwise have passes of their own, over the same parameters.

    Attributes:
      predictors: name -> each of them, which works alone too.
      task: the first one's, as which files are read.
    """

    def __init__(self, predictors: Mapping[str, Predictor]):
        self.predictors = predictors
        self.task = next(iter(predictors.values())).task
        self._backbone = Backbone([predictor.head for predictor in predictors.values()],
                                  parallel.JitPlacement(jax.local_devices()))

    def __call__(self, inputs: Any) -> list[dict[str, dict[str, Any]]]:
        """Predicts for each input, in their order: {name: answer}; see `Predictor`.

        Raises:
          InputError: what one of the heads does not take.
        """
        inputs = _listed(inputs)
        return self._answers(inputs) if inputs else []

    def answers(self, examples: Split) -> list[dict[str, dict[str, Any]]]:
        """What a call returns, of examples that the first one's task has read.

        Heads whose tasks read such files too take them as they are: ids and documents stay.
        """
        return self._answers(examples.inputs, examples)

    def _answers(self, inputs: list[Any], read: Split | None = None) -> list[dict[str, dict[str, Any]]]:
        examples, encoded = [], []
        for name, predictor in self.predictors.items():
            same = read is not None and tasks.READERS[predictor.kind] is tasks.READERS[self.task.kind]
            try:
                own = predictor.family.inputs(inputs)  # refuses what it does not take, too
                examples.append(read if same else own)
                encoded.append(predictor.encode(examples[-1]))
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
        longest = max(predictor.max_length for predictor in self.predictors.values())
        with parallel.memory_told(f"sequences of up to {longest} tokens: give shorter ones"):
            outputs = self._backbone.outputs(encoded, "predicting")
        answers = [predictor.family.answers(*each, predictor.dev) for predictor, *each in zip(
            self.predictors.values(), outputs, encoded, examples, strict=True)]
        return [dict(zip(self.predictors, each, strict=True)) for each in zip(*answers, strict=True)]

    def table(self, answers: Sequence[dict[str, dict[str, Any]]]) -> list[str]:
        """Answers as lines of a .tsv file, with columns NAME.COLUMN."""
        rows = [{f"{name}.{column}": value for name, answer in row.items()
                 for column, value in self.predictors[name].family.cells(answer).items()} for row in answers]
        return table(rows)


def load(path: str | Sequence[str], checkpoint: str = "best", seed: str | int = "best") -> Predictor | Predictors:
    """A predictor from one of our runs, an exported folder, or a fine-tuned or masked Hugging Face model.

    Args:
      path: as --model; or several, of one backbone.
      checkpoint: best or last, for a run.
      seed: of a folder of many seeds: best (by dev), ensemble, or one of them.

    Returns:
      one `Predictor`, of several seeds an `Ensemble`; of several paths `Predictors`, whose names are those of the
      folders, or the paths as given where two folders have the same.

    Raises:
      InputError: nothing there, or no head in it; or they have different backbones.
    """
    if isinstance(path, str | Path):
        return _one(str(path), checkpoint, str(seed))
    if str(seed) != "best":
        raise InputError(f"--seed={seed}: of one --run alone")
    predictors: dict[str, Predictor] = {}
    fingerprints: dict[str, list[str]] = {}
    encoders: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for name, each in _named(path).items():
        source, *others = _parts(each, checkpoint, encoders)
        fingerprints.setdefault(source.fingerprint, []).append(name)
        if len(fingerprints) == 1:
            predictors[name] = Predictor(source, *others, shared)
            shared = {"bert": predictors[name].head.params["bert"]}
    if len(fingerprints) > 1:
        told = "; ".join(f"{', '.join(names)}: {fingerprint[:pretrained.SHOWN]}"
                         for fingerprint, names in fingerprints.items())
        raise InputError(f"heads of different backbones, by fingerprint: {told}; ask for those of one together")
    return Predictors(predictors)


def _one(path: str, checkpoint: str, seed: str) -> Predictor:
    """The predictor that one path means; seeds on one backbone share it."""
    runs = records.runs_of(Path(path).expanduser(), seed) if Path(path).expanduser().is_dir() else [path]
    encoders: dict[str, Any] = {}
    predictors: dict[Path | str, Predictor] = {}
    shared: dict[str, dict[str, Any]] = {}
    for run in runs:
        source, *others = _parts(str(run), checkpoint, encoders)
        common = shared.get(source.fingerprint, {}) if len(runs) > 1 else {}
        predictors[run] = Predictor(source, *others, common)
        if len(runs) > 1:
            shared[source.fingerprint] = {"bert": predictors[run].head.params["bert"]}
    return Ensemble([*predictors.values()]) if seed == "ensemble" else predictors[runs[0]]


def _named(paths: Sequence[str]) -> dict[str, str]:
    """Name -> path of heads that are asked for together."""
    paths = list(map(str, paths))
    if not paths:
        raise InputError("no runs; give one at least")
    places = [Path(path).expanduser().resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{path}: given twice")
    names = [place.name for place in places]
    return {name if names.count(name) == 1 else path: path for name, path in zip(names, paths, strict=True)}


def _parts(path: str, checkpoint: str, encoders: dict[str, Any] | None = None) -> tuple:
    """What a `Predictor` is made of; `encoders` as of `pretrained.load`."""
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        [path] = map(str, records.runs_of(Path(path)))
    source = pretrained.load(path, checkpoint, encoders=encoders)
    head = next((name for name in ("head", "mlm") if name in source.params), "")
    if not head:
        raise InputError(f"{path}: has no fine-tuned head; fine-tune it first (flaxbert finetune --model={path})")
    outputs = np.size(source.params["head"]["bias"]) if head == "head" else 2 * ("nsp" in source.params)
    named = source.settings.get("id2label") or {i: f"LABEL_{i}" for i in range(outputs)}
    labels = tuple(name for _, name in sorted((int(i), name) for i, name in named.items()))[:outputs]
    mark = source.settings.get("flaxbert") or {}
    if records.is_run(Path(path)):
        config = records.read_run(path)[0]
        dev = dev_scores(records.read_result(Path(path)) or {}, checkpoint)
    elif "settings" in mark:
        config, dev = Config.from_json(mark["settings"]), mark.get("dev", {})
    else:
        longest = min(source.config.max_position_embeddings, source.tokenizer.model_max_length)
        kind = source.kind or ("regression" if outputs == 1 else "classification")
        return source, tasks.of_kind(kind, labels), Config.make(max_length=longest), {}
    return source, tasks.resolve(config, labels), tasks.settled(config), dev


def predict(run: str | Sequence[str], input: str = "-", output: str = "-", checkpoint: str = "best",
            skip_bad_rows: bool = False, seed: str = "best") -> int:
    """Predicts for a file of texts, one JSON object a line out for each row in, in the same order.

    Args:
      run: a run or an exported folder; or several of one backbone: a row is {name: answer} then, and the file is
        read as the first one's task reads it.
      input: TSV, CSV or JSONL with the task's columns, or plain texts, one a line (two with a tab between); for
        spans SQuAD's .json, for tokens words in columns too. "-" is standard input.
      output: .tsv for a table, else JSONL; "-" is standard output.
      checkpoint: best or last.
      skip_bad_rows: count rows that cannot be read in place of stopping; nothing comes out for them.
      seed: as of `load`.

    Returns:
      the number of rows.
    """
    runs = [run] if isinstance(run, str | Path) else list(run)
    predictor = load(runs[0] if len(runs) == 1 else runs, checkpoint, seed)
    examples, report = tasks.read_inputs(predictor.task, input, skip_bad_rows)
    report.tell()
    if output != "-":
        target = records.writable(output)
        target.open("a").close()  # before the work, not after it
    answers = predictor.answers(examples)
    lines = (predictor.table(answers) if output.endswith(".tsv")
             else [json.dumps(answer, ensure_ascii=False) for answer in answers])
    if output == "-":
        sys.stdout.writelines(line + "\n" for line in lines)
    else:
        target.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return len(answers)
