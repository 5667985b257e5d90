"""Every setting of a fine-tuning run, its default and its help text; the flags are made from these fields.

A `Config` is frozen: a run is a pure function of it. Values that depend on a table of another file
(task, optimizer, strategy) are checked where that table lives.
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from flaxbert.errors import InputError, one_of


def setting(default: Any, group: str, text: str, choices: tuple[str, ...] | None = None,
            resumable: bool = False) -> Any:
    """A field of `Config`: default, help group, help text, closed list of values.

    `resumable` marks placement, logging and saving: a run may be resumed with another value.
    """
    return field(default=default, metadata={"group": group, "help": text, "choices": choices,
                                            "resumable": resumable})


# The groups of settings that the papers used. Single flags override a recipe. facts: BERT reference code;
# Mosbach 2021 (2006.04884) and its published code; Zhang 2021 (2006.05987); Hugging Face Trainer's defaults.
_ADAMW = dict(optimizer="adamw", beta1=0.9, beta2=0.999, clip_norm=1.0)  # of all four
RECIPES: dict[str, dict[str, Any]] = {
    "devlin": dict(_ADAMW, bias_correction=False, epsilon=1e-6, epsilon_before_correction=True,
                   decay_updated_weights=False, weight_decay=0.01, warmup=0.1, schedule="google",
                   batch_size=32, epochs=3.0),
    "mosbach": dict(_ADAMW, bias_correction=True, epsilon=1e-6, epsilon_before_correction=True,
                    decay_updated_weights=True, weight_decay=0.01, warmup=0.1, schedule="linear",
                    batch_size=16, epochs=20.0, learning_rate=2e-5),
    "zhang": dict(_ADAMW, bias_correction=True, epsilon=1e-8, epsilon_before_correction=True,
                  decay_updated_weights=True, weight_decay=0.0, warmup=0.1, schedule="linear",
                  batch_size=32, epochs=3.0, learning_rate=2e-5),
    "hf": dict(_ADAMW, bias_correction=True, epsilon=1e-8, epsilon_before_correction=False,
               decay_updated_weights=False, weight_decay=0.0, warmup=0.0, schedule="linear"),
}

# Defaults of a model that are not everybody's, and those of a task, which override them. A recipe and single flags
# override both.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {"bundled": dict(learning_rate=3e-4)}
DEFAULTS: dict[str, dict[str, Any]] = {
    "pretrain": dict(batch_size=256, epochs=10.0, learning_rate=5e-4, warmup=0.05, beta2=0.98, epsilon=1e-6,
                     weight_decay=0.01),
}
# What `flaxbert demo` presets, for the bundled model.
DEMO: dict[str, Any] = dict(task="toy_token", learning_rate=5e-4, evals_per_epoch=2)
SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")


@dataclass(frozen=True)
class Config:
    """All settings of one run. `Config.make` builds it from task, recipe and what was given."""

    # --- task and data
    task: str = setting("toy_pair", "task", "Which task; `flaxbert tasks` lists them.")
    data_dir: str = setting("", "task", "Folder with the task's official files. Empty: bundled task, or the hub.")
    train_file: str = setting("", "task", "Training file, in place of the task's own name for it.")
    dev_file: str = setting("", "task", "Development file, likewise.")
    test_file: str = setting("", "task", "Test file, likewise.")
    hub_dataset: str = setting("", "task", "Dataset name or folder for datasets.load_dataset, in place of the "
                               "task's own.")
    text_columns: tuple[str, ...] = setting((), "task", "custom: the column, or the two columns, with the text.")
    label_column: str = setting("", "task", "custom: the column with the label, number or list of labels.")
    label_type: str = setting("classification", "task", "custom: what the label column holds.",
                              ("classification", "multi_label", "regression"))
    class_weights: tuple[float, ...] = setting((), "task", "Weight of each class in the loss, in label order.")
    max_train_examples: int = setting(0, "task", "Use the first so many training examples; 0: all.")
    max_eval_examples: int = setting(0, "task", "Use the first so many examples of each other split; 0: all.")
    skip_bad_rows: bool = setting(False, "task", "Skip and count rows that cannot be read, in place of stopping.")
    max_length: int = setting(0, "task", "Longest sequence in tokens, special tokens included; 0: the task's "
                              "own, 128 or 384.")
    doc_stride: int = setting(128, "task", "Spans: tokens from a window's beginning to the next one's.")
    max_query_length: int = setting(64, "task", "Spans: tokens of a question that are kept.")
    max_answer_length: int = setting(30, "task", "Spans: longest answer in tokens.")
    n_best: int = setting(20, "task", "Spans: how many answers of a question are compared and written.")
    null_threshold: float | None = setting(None, "task", "squad2: no answer where the null score leads by more; "
                                           "default: tuned on dev.")
    context: str = setting("sentence", "task", "Tokens: what else the model sees of a sentence's document.",
                           ("sentence", "document"))

    # --- model
    model: str = setting("bundled", "model", "Hub name, Hugging Face folder, one of our runs, or `bundled`.")
    random_init: bool = setting(False, "model", "Random weights in the shape of --model.")
    dtype: str = setting("auto", "model", "Arithmetic of the encoder; auto: bfloat16 on TPU and GPU, else "
                         "float32. Parameters are always float32.", ("auto", "float32", "bfloat16"))
    remat: bool = setting(False, "model", "Recompute each layer in the backward pass: less memory, more time.")
    dropout: float | None = setting(None, "model", "Dropout rate at every site; default: the model's own.")

    # --- pre-training
    mask_rate: float = setting(0.15, "pretrain", "Share of the words that are masked.")
    whole_word_masking: bool = setting(False, "pretrain", "Mask all pieces of a word, or none.")
    next_sentence: bool = setting(False, "pretrain", "Ask too whether sentence B follows A.")
    vocabulary_size: int = setting(0, "pretrain", "From scratch, with a WordPiece vocabulary of so many pieces "
                                   "learnt from the training text; 0: --model's.")
    cased: bool = setting(False, "pretrain", "Keep capitals and accents in a new vocabulary.")
    num_hidden_layers: int = setting(0, "pretrain", "From scratch, with so many layers; 0: as --model.")
    hidden_size: int = setting(0, "pretrain", "From scratch, of this width; 0: as --model.")
    num_attention_heads: int = setting(0, "pretrain", "From scratch, with so many heads; 0: as --model, or of "
                                       "width 64 where --hidden_size is given.")
    intermediate_size: int = setting(0, "pretrain", "From scratch, with this inner width; 0: as --model, or "
                                     "4 x --hidden_size.")
    max_position_embeddings: int = setting(0, "pretrain", "From scratch, for sequences of so many tokens; 0: as "
                                           "--model.")
    mimetic_init: bool = setting(False, "pretrain", "From scratch, with weights by which a token attends to its "
                                 "neighbours from the first step on (Trockman 2023): a small run learns much "
                                 "sooner.")

    # --- head
    layers: str = setting("last", "head", "Which states of the encoder the head reads: embeddings, last, "
                          "second_to_last, concat_last4, sum_last4, sum_all, scalar_mix (sums learn their "
                          "weights), or numbers with commas between, whose states stand side by side; 0: the "
                          "embeddings.")
    mix_layer_norm: bool = setting(False, "head", "Normalise each of these layers over a sequence first.")
    head: str = setting("linear", "head", "What stands on them; mlp: one hidden layer, bilstm: over the tokens, "
                        "and a linear head on it.", ("linear", "mlp", "bilstm"))
    head_width: int = setting(0, "head", "mlp: its hidden units; 0: the encoder's width. bilstm: units of each "
                              "direction; 0: half the encoder's width.")
    head_layers: int = setting(2, "head", "bilstm: its layers.")
    crf: bool = setting(False, "head", "Labels of words: score whole sequences of labels, as a linear chain.")
    pooling: str = setting("auto", "head", "Classes, scores and choices: how the states of its tokens become one "
                           "for a text; auto: BERT's pooler, but mean with --strategy=features, --layers, "
                           "--head=bilstm or --pair=separate.",
                           ("auto", "pooler", "cls", "mean", "max", "attention"))
    pair: str = setting("joint", "head", "Pairs: read together, or as two sequences u and v, of which the head "
                        "sees (u, v, |u - v|, u * v).", ("joint", "separate"))

    # --- strategy
    strategy: str = setting("full", "strategy", "What trains: full, freeze, last_n, head, features, bitfit, "
                            "lora.")
    frozen_layers: int = setting(0, "strategy", "freeze: 0 freezes nothing, k >= 1 the embeddings and the "
                                 "bottom k layers. Implies --strategy=freeze.")
    trained_layers: int = setting(0, "strategy", "last_n: train the top so many layers, pooler and head. Implies "
                                  "--strategy=last_n.")
    frozen_dropout: bool = setting(False, "strategy", "Keep dropout on inside frozen layers.")
    lora_rank: int = setting(8, "strategy", "lora: rank of the updates.")
    lora_alpha: float = setting(16.0, "strategy", "lora: the updates are scaled by this / rank.")
    lora_targets: tuple[str, ...] = setting(("query", "value"), "strategy", "lora: which matrices of every layer, "
                                            "of query, key, value, output, intermediate, mlp_output.")
    unfreeze: str = setting("none", "strategy", "gradual: the head first, one more layer from the top at each "
                            "epoch; discriminative: all at once, at rates 2.6 times smaller from layer to layer.",
                            ("none", "gradual", "discriminative"))
    reinit_layers: int = setting(0, "strategy", "Draw the top so many layers anew.")
    reinit_pooler: bool = setting(False, "strategy", "Draw the pooler anew.")
    mixout: float = setting(0.0, "strategy", "Share of the encoder's weights that are the initial ones in a step. "
                            "In the paper it takes the place of dropout: --dropout=0.")
    cache_frozen: str = setting("auto", "strategy", "Compute frozen layers once and keep their states on disk, "
                                "for later runs too; auto: where it pays and half of what is free is enough.",
                                ("auto", "true", "false"), True)
    cache_dtype: str = setting("auto", "strategy", "Of these states; auto: that of the arithmetic.",
                               ("auto", "float32", "float16", "bfloat16"))
    cache_dir: str = setting("~/.cache/flaxbert/activations", "strategy", "Where they are kept; `flaxbert cache` "
                             "lists and clears it.", resumable=True)
    cache_limit: float = setting(0.0, "strategy", "Most GB kept there: what was used longest ago, and by no run "
                                 "now, makes room for what is new; 0: no limit.", resumable=True)

    # --- optimizer
    recipe: str = setting("", "optimizer", f"Group of settings of a paper: {', '.join(RECIPES)}. Single flags "
                          "override it.")
    optimizer: str = setting("adamw", "optimizer", "Which optimizer; an unknown name lists them.")
    bias_correction: bool = setting(True, "optimizer", "Adam's bias correction.")
    learning_rate: float = setting(2e-5, "optimizer", "Peak learning rate; the bundled model's default is 3e-4.")
    schedule: str = setting("linear", "optimizer", "Learning rate after the warm-up; google: linear over ALL "
                            "steps, as the BERT code did.", ("linear", "constant", "cosine", "google"))
    warmup: float = setting(0.1, "optimizer", "Linear warm-up: below 1 a share of all steps, else steps.")
    layerwise_decay: float = setting(1.0, "optimizer", "Learning rate of a layer over that of the one above it; "
                                     "pooler and head have the peak.")
    weight_decay: float = setting(0.01, "optimizer", "Decay of weights, never of biases and LayerNorm.")
    pretrained_decay: float = setting(0.0, "optimizer", "Decay of the encoder's weights toward the initial ones, "
                                      "in place of --weight_decay there.")
    beta1: float = setting(0.9, "optimizer", "Adam: decay of the first moment.")
    beta2: float = setting(0.999, "optimizer", "Adam: decay of the second moment.")
    epsilon: float = setting(1e-8, "optimizer", "Adam: added to the root of the second moment.")
    epsilon_before_correction: bool = setting(False, "optimizer", "Add epsilon before the bias correction.")
    decay_updated_weights: bool = setting(False, "optimizer", "Decay the already updated weights.")
    clip_norm: float = setting(1.0, "optimizer", "Clip the global norm of the trained gradients; 0: never.")

    # --- length and batch
    batch_size: int = setting(32, "batch", "Examples a step, over all devices.")
    micro_batches: int = setting(1, "batch", "Split each batch so many times and accumulate the gradient.")
    epochs: float = setting(3.0, "batch", "Passes over the training examples; a fraction is fine.")
    max_steps: int = setting(0, "batch", "Stop after so many steps, whatever --epochs says; 0: by epochs.")
    packing: bool = setting(True, "batch", "Pack several sequences into a row; false: one a row.")
    seed: int = setting(0, "batch", "Head initialisation, data order and dropout are functions of it.")
    seeds: tuple[int, ...] = setting((), "batch", "Train one run for each of these seeds, in place of --seed: "
                                     "1:25, both included, or 1,2,5.")
    seeds_per_program: str = setting("auto", "batch", "How many of them train at a time, as one program; auto: as "
                                     "many as the device's memory holds, on CPU one.", resumable=True)
    init_seed: int = setting(-1, "batch", "Of the head's initialisation alone; -1: the run's seed.")
    order_seed: int = setting(-1, "batch", "Of the data order alone; -1: the run's seed.")
    dropout_seed: int = setting(-1, "batch", "Of dropout alone; -1: the run's seed.")

    # --- devices
    parallel: str = setting("jit", "devices", "How a step is placed on the devices.", ("jit", "pmap"), True)
    devices: int = setting(0, "devices", "Use so many devices of this machine; 0: all.", resumable=True)
    distributed: bool = setting(False, "devices", "One of many processes: every worker of a pod runs the same "
                                "command.", resumable=True)
    coordinator_address: str = setting("", "devices", "Pod: host:port of process 0, where the cluster does not "
                                       "tell. Implies --distributed.", resumable=True)
    num_processes: int = setting(0, "devices", "Pod: how many processes, likewise.", resumable=True)
    process_id: int = setting(-1, "devices", "Pod: number of this process, likewise.", resumable=True)
    compilation_cache: str = setting("~/.cache/flaxbert/compilation", "devices", "Where compiled programs are "
                                     "kept between runs; empty: nowhere.", resumable=True)

    # --- run
    output_dir: str = setting("", "run", "Where the run is written; default: runs/TASK-STRATEGY-SEED-TIME.",
                              resumable=True)
    resume: bool = setting(False, "run", "Go on from the last checkpoint of --output_dir.", resumable=True)
    overwrite: bool = setting(False, "run", "Delete what --output_dir holds, if it is one of our runs.",
                              resumable=True)
    eval_every: int = setting(0, "run", "Steps between evaluations; 0: by --evals_per_epoch.")
    evals_per_epoch: int = setting(1, "run", "Evaluations an epoch, where --eval_every is 0; 0: at the end only.")
    early_stopping: int = setting(0, "run", "Stop after so many evaluations without a better score; 0: never.")
    log_every: int = setting(10, "run", "Steps between rows of metrics.jsonl.", resumable=True)
    diagnose_every: int = setting(0, "run", "Steps between rows of diagnostics in metrics.jsonl: norms of "
                                  "gradients and updates and distances from the start by layer, saturation of the "
                                  "pooler, entropy of predictions; 0: none.",
                                  resumable=True)
    save_every: int = setting(0, "run", "Steps between checkpoints; 0: at each evaluation.", resumable=True)
    checkpoints: bool = setting(True, "run", "Keep checkpoints; false: the run can neither be gone on with nor "
                                "predict, only its scores stay.")
    tensorboard: bool = setting(True, "run", "Write TensorBoard events too.", resumable=True)
    predict_test: bool = setting(False, "run", "Write predictions/ in the official format at the end.",
                                 resumable=True)

    @classmethod
    def make(cls, preset: Mapping[str, Any] = MappingProxyType({}), /, **given: Any) -> "Config":
        """Defaults, the model's, the task's, `preset`, the recipe's, the given ones: each over those before it.

        Raises:
          InputError: an unknown name, a value outside its choices, or one out of range.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        for name in given:
            if name not in known:
                raise InputError(f"--{name}: no such setting; valid: {', '.join(known)}")
        recipe = given.get("recipe", "")
        if recipe:
            one_of(recipe, tuple(RECIPES), "--recipe")
        for name, strategy in _IMPLIES.items():
            if given.get(name):
                given.setdefault("strategy", strategy)
        task, model = (given.get(name, preset.get(name, getattr(cls, name))) for name in ("task", "model"))
        settings = {**MODEL_DEFAULTS.get(model, {}), **DEFAULTS.get(task, {}), **preset, **RECIPES.get(recipe, {}),
                    **given}
        for name, value in settings.items():  # a switch with a third position takes True and False too
            if isinstance(value, bool) and "true" in (known[name].metadata["choices"] or ()):
                settings[name] = str(value).lower()
        config = cls(**{name: _typed(name, known[name].type, value) for name, value in settings.items()})
        for f in known.values():
            if f.metadata["choices"]:
                one_of(getattr(config, f.name), f.metadata["choices"], f"--{f.name}")
        for name, low, high in _RANGES:
            value = getattr(config, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"--{name}={value}: out of range; valid: {low} to {high}")
        if 0 < config.max_length < 3:
            raise InputError(f"--max_length={config.max_length}: out of range; valid: 3 to 65536")
        if config.next_sentence and 0 < config.max_length < 5:
            raise InputError(f"--max_length={config.max_length}: --next_sentence needs 5 at least, for two "
                             "sentences and three special tokens")
        if not config.epochs and not config.max_steps:
            raise InputError("--epochs=0: no step to take; give more, or --max_steps")
        if config.unfreeze == "discriminative" and config.layerwise_decay != 1:
            raise InputError(f"--layerwise_decay={config.layerwise_decay}: not with --unfreeze=discriminative, "
                             "which is a decay of 1/2.6 itself")
        together = config.seeds_per_program
        if together != "auto" and not (together.isdecimal() and int(together)):
            raise InputError(f"--seeds_per_program={together}: should be auto, or a number from 1 on")
        if config.micro_batches > config.batch_size:
            raise InputError(f"--micro_batches={config.micro_batches}: more than --batch_size={config.batch_size}")
        return config

    def seed_of(self, what: str) -> int:
        """The seed of init, order or dropout: its own where it has one, else the run's."""
        own = getattr(self, f"{what}_seed")
        return self.seed if own < 0 else own

    def of_seed(self, seed: int) -> "Config":
        """The settings of one run of several (`seeds`)."""
        return dataclasses.replace(self, seed=seed, seeds=())

    @property
    def from_scratch(self) -> bool:
        """Whether a model of a shape or a vocabulary of its own is asked for."""
        return any(getattr(self, name) for name in ("vocabulary_size", *SHAPE))

    def absolute(self) -> "Config":
        """The same settings with the paths of what exists made absolute, so that they hold in any folder."""
        paths = ("data_dir", "model", "hub_dataset") + (() if self.data_dir else FILE_SETTINGS)
        given = {name: getattr(self, name) for name in paths}
        return dataclasses.replace(self, **{name: str(Path(path).expanduser().resolve())
                                            for name, path in given.items() if path and path != "bundled"
                                            and Path(path).expanduser().exists()})

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON types, in the order of the fields."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> "Config":
        """The inverse of `to_json`; raises `InputError` on unknown names."""
        return cls.make(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})

    def differences(self, other: "Config") -> list[str]:
        """Lines `--name: this -> other` for every setting that decides a run's result and differs."""
        return [f"--{f.name}: {getattr(self, f.name)} -> {getattr(other, f.name)}"
                for f in dataclasses.fields(self)
                if not f.metadata["resumable"] and getattr(self, f.name) != getattr(other, f.name)]


FILE_SETTINGS = ("train_file", "dev_file", "test_file")
_IMPLIES = {"frozen_layers": "freeze", "trained_layers": "last_n"}  # setting -> strategy

# What Python callers may give for a field of each type, and what becomes of it.
_NUMBERS = (int, float, np.integer, np.floating)
_TYPES: dict[Any, tuple[str, tuple[type, ...], Any]] = {
    bool: ("true or false", (bool,), bool),
    int: ("a whole number", (int, np.integer), int),
    float: ("a number", _NUMBERS, float),
    float | None: ("a number", (*_NUMBERS, type(None)), lambda x: None if x is None else float(x)),
    str: ("text", (str, PathLike), os.fspath),
    tuple[str, ...]: ("names separated by commas", (str, list, tuple),
                      lambda x: (x,) if isinstance(x, str) else tuple(map(str, x))),
    tuple[int, ...]: ("whole numbers, 1:25 (both included) or 1,2,5", (str, list, tuple, range, np.ndarray),
                      lambda x: _seeds(x)),
    tuple[float, ...]: ("numbers separated by commas", (list, tuple, np.ndarray), lambda x: tuple(map(float, x)))}


_BIG = 2**31 - 1
MOST_SEEDS = 10_000


def _seeds(given: str | Iterable[Any]) -> tuple[int, ...]:
    """The seeds that are meant, in the order given: numbers, and texts such as "7" or "1:25"; () are no seeds.

    Raises:
      InputError: none, a stretch without any, one twice, one out of range, or more than `MOST_SEEDS`.
      ValueError: no numbers.
    """
    found: list[int] = []
    for part in given.split(",") if isinstance(given, str) else given:
        first, colon, last = str(part).partition(":")
        low, high = int(first), int(last if colon else first)
        if low > high:
            raise InputError(f"--seeds: {part} is empty; write {last}:{first}")
        if low < 0 or high > _BIG:
            raise InputError(f"--seeds: {low if low < 0 else high} is out of range; valid: 0 to {_BIG}")
        if len(found) + high - low >= MOST_SEEDS:
            raise InputError(f"--seeds: more than {MOST_SEEDS}; give fewer")
        found += range(low, high + 1)
    twice = [seed for seed, times in Counter(found).items() if times > 1]
    if twice:
        raise InputError(f"--seeds: {twice[0]} more than once")
    if not found and not isinstance(given, tuple):
        raise InputError("--seeds: none given; write 1:25, both included, or 1,2,5")
    return tuple(found)


def _typed(name: str, kind: Any, value: Any) -> Any:
    """The value as its field's type; raises `InputError` where it is of another."""
    wanted, accepted, convert = _TYPES[kind]
    try:
        if isinstance(value, accepted) and isinstance(value, bool) == (kind is bool):
            return convert(value)
    except InputError:
        raise
    except ValueError:
        pass
    shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else repr(value)
    raise InputError(f"--{name}={shown}: should be {wanted}")


_RANGES = (("max_length", 0, 65536), ("max_train_examples", 0, _BIG), ("max_eval_examples", 0, _BIG),
           ("doc_stride", 1, 65536), ("max_query_length", 1, 65536), ("max_answer_length", 1, 65536),
           ("n_best", 1, 10**4), ("null_threshold", -1e9, 1e9), ("dropout", 0.0, 0.95),
           ("mask_rate", 0.01, 0.9), ("vocabulary_size", 0, 2**20), *((name, 0, 2**16) for name in SHAPE),
           ("head_width", 0, 2**16), ("head_layers", 1, 8),
           ("frozen_layers", 0, 1024), ("trained_layers", 0, 1024), ("reinit_layers", 0, 1024),
           ("lora_rank", 1, 4096), ("lora_alpha", 1e-3, 1e6), ("mixout", 0.0, 0.99), ("cache_limit", 0.0, 1e9),
           ("learning_rate", 0.0, 1e6), ("layerwise_decay", 0.01, 1.0), ("warmup", 0.0, _BIG),
           ("weight_decay", 0.0, 1.0), ("pretrained_decay", 0.0, 1.0), ("beta1", 0.0, 1.0), ("beta2", 0.0, 1.0),
           ("epsilon", 0.0, 1.0), ("clip_norm", 0.0, 1e9), ("batch_size", 1, 2**20),
           ("micro_batches", 1, 2**16), ("epochs", 0.0, 1e6), ("max_steps", 0, _BIG), ("seed", 0, _BIG),
           *((f"{what}_seed", -1, _BIG) for what in ("init", "order", "dropout")),
           ("devices", 0, 2**16), ("eval_every", 0, _BIG), ("evals_per_epoch", 0, 10**6),
           ("early_stopping", 0, 10**6), ("log_every", 1, _BIG), ("save_every", 0, _BIG),
           ("diagnose_every", 0, _BIG))
