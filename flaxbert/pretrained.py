"""Where weights come from: the bundled model, the hub, a Hugging Face folder, one of our own runs.

Letters: D width, C outputs, L layers.
"""

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from flaxbert import checkpoint as checkpoints
from flaxbert import heads, trees
from flaxbert.bert import BertConfig
from flaxbert.errors import InputError, note, one_of

BUNDLED = Path(__file__).parent / "assets" / "bundled"

# A module's tensors: (theirs, ours, transposed). PyTorch keeps a dense layer as [out, in].
_EMBEDDING = (("weight", "embedding", False),)
_DENSE = (("weight", "kernel", True), ("bias", "bias", False))
_NORM = (("weight", "scale", False), ("bias", "bias", False))

# (Hugging Face's module, ours, its tensors); {} is the number of a layer.
MODULES = (
    ("bert.embeddings.word_embeddings", "bert/embeddings/word", _EMBEDDING),
    ("bert.embeddings.position_embeddings", "bert/embeddings/position", _EMBEDDING),
    ("bert.embeddings.token_type_embeddings", "bert/embeddings/type", _EMBEDDING),
    ("bert.embeddings.LayerNorm", "bert/embeddings/layer_norm", _NORM),
    ("bert.encoder.layer.{}.attention.self.query", "bert/layer_{}/attention/query", _DENSE),
    ("bert.encoder.layer.{}.attention.self.key", "bert/layer_{}/attention/key", _DENSE),
    ("bert.encoder.layer.{}.attention.self.value", "bert/layer_{}/attention/value", _DENSE),
    ("bert.encoder.layer.{}.attention.output.dense", "bert/layer_{}/attention/output", _DENSE),
    ("bert.encoder.layer.{}.attention.output.LayerNorm", "bert/layer_{}/attention/layer_norm", _NORM),
    ("bert.encoder.layer.{}.intermediate.dense", "bert/layer_{}/mlp/intermediate", _DENSE),
    ("bert.encoder.layer.{}.output.dense", "bert/layer_{}/mlp/output", _DENSE),
    ("bert.encoder.layer.{}.output.LayerNorm", "bert/layer_{}/mlp/layer_norm", _NORM),
    ("bert.pooler.dense", "pooler", _DENSE),
)
# The heads, each for the kinds of task that have it.
_CLASSIFIER = (("classifier", "head", _DENSE),)
_SPAN = (("qa_outputs", "head", _DENSE),)
_PRETRAINING = (
    ("cls.predictions.transform.dense", "mlm/transform", _DENSE),
    ("cls.predictions.transform.LayerNorm", "mlm/layer_norm", _NORM),
    ("cls.predictions", "mlm", (("bias", "bias", False),)),
    ("cls.seq_relationship", "nsp", _DENSE),
)


class Head(NamedTuple):
    """What Hugging Face calls one of our heads.

    Attributes:
      architecture: the class in `architectures` of config.json.
      modules: the head's own, as in MODULES.
      problem_type: of config.json, where the class has several.
      auto_class: the Auto class that loads it.
      pipeline: the hub's name for what it does.
    """

    architecture: str
    modules: tuple
    problem_type: str | None
    auto_class: str
    pipeline: str


_SEQUENCE = ("AutoModelForSequenceClassification", "text-classification")
HEADS: dict[str, Head] = {
    "classification": Head("BertForSequenceClassification", _CLASSIFIER, "single_label_classification",
                           *_SEQUENCE),
    "multi_label": Head("BertForSequenceClassification", _CLASSIFIER, "multi_label_classification", *_SEQUENCE),
    "regression": Head("BertForSequenceClassification", _CLASSIFIER, "regression", *_SEQUENCE),
    "choice": Head("BertForMultipleChoice", _CLASSIFIER, None, "AutoModelForMultipleChoice", "multiple-choice"),
    "token": Head("BertForTokenClassification", _CLASSIFIER, None, "AutoModelForTokenClassification",
                  "token-classification"),
    "span": Head("BertForQuestionAnswering", _SPAN, None, "AutoModelForQuestionAnswering",
                 "question-answering"),
    "pretraining": Head("BertForPreTraining", _PRETRAINING, None, "AutoModelForMaskedLM", "fill-mask"),
}
MASKED_ALONE = "BertForMaskedLM"  # the class of "pretraining" without a next sentence
# Other spellings of a name, put into the one above: no prefix (BertModel); TensorFlow's LayerNorm.
_SPELLINGS = ((r"^(?=embeddings\.|encoder\.|pooler\.)", "bert."), (r"LayerNorm\.gamma$", "LayerNorm.weight"),
              (r"LayerNorm\.beta$", "LayerNorm.bias"))
# Buffers, and a second name of the word embeddings and of a bias.
_REPEATED = re.compile(r"bert\.embeddings\.(position_ids|token_type_ids)|cls\.predictions\.decoder\.(weight|bias)")
_HEAD = re.compile(r"(classifier|qa_outputs|cls)\..*")

# Settings that another value of would make another model: (name, the value that we compute, meant where absent).
_COMPUTED = (("model_type", "bert"), ("position_embedding_type", "absolute"), ("is_decoder", False),
             ("add_cross_attention", False))
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_UNSAFE = ("*.bin", "*.ckpt*", "*.msgpack", "*.h5", "*.pt", "*.pth")
_HUB_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json", "vocab.txt",
              "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_CONVERT = ("python -c \"from transformers import AutoModel as M, AutoTokenizer as T; "
            "[c.from_pretrained('{name}').save_pretrained('FOLDER', safe_serialization=True) for c in (M, T)]\" "
            "(needs torch), then --model=FOLDER")
# What a call leaves behind in a tokenizer, and what is true of this machine only.
_LEFT_OVER = ("max_length", "pad_to_multiple_of", "pad_token_type_id", "stride", "truncation_strategy", "is_local",
              "local_files_only", "name_or_path", "vocab_file")


@dataclass(frozen=True)
class Pretrained:
    """A model to start from, or to predict with.

    Attributes:
      source: what was asked for, for messages and records.
      config: the encoder's shape.
      settings: the whole config.json of the model (id2label, problem_type, ...).
      params: nested dict of float32 numpy arrays: `bert`, and `pooler`, `head`, `mlm` and `nsp` where the source
        has them; empty where it has no weights, which the bundled model may not.
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


def kind_of(settings: Mapping[str, Any]) -> str:
    """The kind of task that a config.json speaks of: a key of HEADS; "" where it names another class, or none."""
    architecture = next(iter(settings.get("architectures") or ()), "")
    if architecture == MASKED_ALONE:
        return "pretraining"
    kinds = [kind for kind, head in HEADS.items() if head.architecture == architecture]
    if len(kinds) < 2:
        return kinds[0] if kinds else ""
    said = next((kind for kind in kinds if HEADS[kind].problem_type == settings.get("problem_type")), "")
    labels = settings.get("num_labels") or len(settings.get("id2label") or ())
    return said or ("regression" if labels == 1 else "classification")


def load(name: str, checkpoint: str = "best") -> Pretrained:
    """The model that `name` means.

    Args:
      name: `bundled`, a Hugging Face folder, one of our run directories, or a hub name.
      checkpoint: best or last, of a run.

    Raises:
      InputError: one line; everything missing, unexpected or of the wrong shape is in it at once.
    """
    one_of(checkpoint, checkpoints.WHICH, "--checkpoint")
    folder = _locate(name)
    run = folder
    if "settings" in _read_json(folder / "config.json"):
        folder = run / "model"
    settings = _read_json(folder / "config.json")
    config = _config(settings, folder)
    if folder != run:
        params, _ = checkpoints.load_params(run, checkpoint)
        outputs = np.size(params["head"]["bias"]) if "head" in params else 1
        _require(trees.mismatches(params, _shapes(config, params, outputs)), f"{run}/checkpoints")
    elif folder == BUNDLED and not _weight_files(folder):
        params = {}
    else:
        params = from_tensors(_read_tensors(folder, name), config, folder, kind_of(settings))
    return Pretrained(name, config, settings, params, load_tokenizer(folder, config))


def from_scratch(source: Pretrained, shape: Mapping[str, int], tokenizer: Any) -> Pretrained:
    """A model without weights: `source` in another shape, for another vocabulary.

    Args:
      source: gives what `shape` leaves open.
      shape: fields of `BertConfig`; with a new hidden_size, heads are of width 64 and the inner width is 4 times
        as large unless they are here too.
      tokenizer: gives vocab_size; that of `source` keeps it.

    Raises:
      InputError: a width that is no multiple of the number of heads.
    """
    derived = {}
    if "hidden_size" in shape:
        derived = {"num_attention_heads": max(1, shape["hidden_size"] // 64),
                   "intermediate_size": 4 * shape["hidden_size"]}
    if tokenizer is not source.tokenizer:
        derived |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    settings = {**source.settings, **derived, **shape}
    try:
        config = BertConfig.from_dict(settings)
    except InputError as error:
        raise InputError(f"--hidden_size, --num_attention_heads: {error}") from error
    tokenizer.model_max_length = config.max_position_embeddings
    return Pretrained(source.source, config, settings, {}, tokenizer)


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
    wanted = set(params) if reuse_head else set(params) - {"head"}
    missing = wanted - set(pretrained.params)
    lacks = f"has no {' and no '.join(sorted(missing))}"
    if reuse_head and missing:
        raise InputError(f"{pretrained.source}: {lacks} to reuse for this task")
    if missing:
        note(f"{pretrained.source}: {lacks}; starting at random, like any new head")
    merged = trees.merge(params, {k: pretrained.params[k] for k in wanted - missing})
    _require(trees.mismatches(merged, params), pretrained.source)
    return merged


def tensor_names(layers: int, kind: str = "classification") -> dict[str, tuple[str, bool]]:
    """Hugging Face's name -> (our name, transposed) of every parameter of an encoder and its heads.

    Args:
      layers: L.
      kind: of the task whose head it is, a key of HEADS; they call it by different names.
    """
    return {f"{theirs.format(i)}.{tensor}": (f"{ours.format(i)}/{leaf}", transposed)
            for theirs, ours, tensors in (*MODULES, *HEADS[kind].modules)
            for i in range(layers if "{}" in theirs else 1)
            for tensor, leaf, transposed in tensors}


def from_tensors(tensors: Mapping[str, np.ndarray], config: BertConfig, where: Any,
                 kind: str = "classification") -> dict[str, Any]:
    """Parameters from the tensors of a Hugging Face checkpoint: strict, but for buffers and other tasks' heads.

    Args:
      tensors: name -> array; with or without the prefix `bert.`, gamma and beta, pooler, heads.
      config: the encoder's shape.
      where: for messages.
      kind: of the task whose head it holds; "" where nothing tells.

    Raises:
      InputError: tensors missing, unexpected, twice, of another shape or no floats, all in one line.
    """
    names = tensor_names(config.num_hidden_layers, kind or "classification")
    found, other_heads, problems = {}, [], []
    for name, tensor in tensors.items():
        spelled = name
        for pattern, replacement in _SPELLINGS:
            spelled = re.sub(pattern, replacement, spelled)
        if _REPEATED.fullmatch(spelled):
            continue
        if _HEAD.fullmatch(spelled) and spelled not in names:
            other_heads.append(name)
        elif spelled in found:
            problems.append(f"{name} comes under two names")
        else:
            found[spelled] = tensor
            if tensor.dtype.name not in _FLOATS:
                problems.append(f"{name} is {tensor.dtype.name}; valid: {', '.join(_FLOATS)}")
    parts = {names[name][0].split("/")[0] for name in found if name in names}
    biases = [found[name] for name, (ours, _) in names.items() if ours == "head/bias" and name in found]
    outputs = np.size(biases[0]) if biases else 1
    shapes = trees.flatten(_shapes(config, parts, outputs))
    want = {name: jax.ShapeDtypeStruct(shapes[ours].shape[::-1] if transposed else shapes[ours].shape, np.float32)
            for name, (ours, transposed) in names.items() if ours in shapes}
    _require(problems + trees.mismatches(found, want), where)
    if other_heads:
        note(f"{where}: heads that are not used here: {', '.join(other_heads)}")
    return trees.unflatten({
        ours: np.ascontiguousarray(found[name].T if transposed else found[name], np.float32)
        for name, (ours, transposed) in names.items() if name in found})


def to_tensors(params: Mapping[str, Any], kind: str = "classification") -> dict[str, np.ndarray]:
    """The inverse of `from_tensors`, under the names of Hugging Face's class for this kind of task."""
    flat = trees.flatten(params)
    layers = sum(module.startswith("layer_") for module in params["bert"])
    return {name: np.ascontiguousarray(np.asarray(flat[ours]).T if transposed else flat[ours])
            for name, (ours, transposed) in tensor_names(layers, kind).items() if ours in flat}


def load_tokenizer(folder: Path, config: BertConfig) -> Any:
    """The fast tokenizer of a folder, without truncation or padding.

    Raises:
      InputError: none there, one that cannot be read, has no [CLS], [SEP], [PAD], or knows more tokens than
        the encoder has embeddings.
    """
    from transformers import AutoTokenizer  # takes seconds
    # Without these files transformers 5 makes a tokenizer of the five special tokens and says nothing.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(f"{folder}: has no tokenizer; tokenizer.json or vocab.txt expected")
    try:
        options = {} if any(folder.glob("tokenizer*.json")) else _options(folder / "vocab.txt")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False,
                                                  **options)
    except Exception as error:  # transformers and tokenizers raise bare Exception for damaged files
        raise InputError(f"{folder}: its tokenizer cannot be read ({_first_line(error)})") from error
    if not tokenizer.is_fast:
        raise InputError(f"{folder}: its tokenizer has no fast version; tokenizer.json or vocab.txt expected")
    special = {"[CLS]": tokenizer.cls_token_id, "[SEP]": tokenizer.sep_token_id, "[PAD]": tokenizer.pad_token_id}
    if None in special.values() or len(tokenizer) <= len(tokenizer.all_special_tokens):
        lacks = [token for token, number in special.items() if number is None] or ["every ordinary token"]
        raise InputError(f"{folder}: its tokenizer lacks {', '.join(lacks)}")
    if len(tokenizer) > config.vocab_size:
        raise InputError(f"{folder}: its tokenizer knows {len(tokenizer)} tokens, the encoder has embeddings for "
                         f"{config.vocab_size} (vocab_size in config.json)")
    tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
    return clean(tokenizer)


def clean(tokenizer: Any) -> Any:
    """The same tokenizer, with truncation and padding switched off: a checkpoint's, or the last call's."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for name in _LEFT_OVER:
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def _options(vocabulary: Path) -> dict[str, Any]:
    """For a bare vocab.txt, as Google publishes it: one that holds capitals is a cased one."""
    tokens = vocabulary.read_text("utf-8").splitlines()
    cased = any(token != token.lower() for token in tokens if not re.fullmatch(r"\[.*\]", token))
    return {"tokenizer_type": "bert", "do_lower_case": not cased}


def _locate(name: str) -> Path:
    """The folder that `name` means, downloaded from the hub if need be."""
    path = Path(name).expanduser()
    if name == "bundled":
        return BUNDLED
    if name and path.is_dir():
        return path
    if name and path.exists():
        raise InputError(f"{name}: is a file; give the folder that holds config.json and model.safetensors")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise InputError(f"{name!r}: no such folder, and no hub name either")
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except GatedRepoError as error:
        raise InputError(f"{name}: the hub asks for consent to its terms first; or give a local folder with "
                         "--model=FOLDER") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{name}: neither a folder here nor a public model on the hub; give a local folder with "
                         "--model=FOLDER") from error
    except Exception as error:  # kinds of huggingface_hub, httpx and the operating system
        raise InputError(f"{name}: no such folder here; asked the Hugging Face hub for its configuration, "
                         f"tokenizer and safetensors: no answer ({_first_line(error)}); give a local folder "
                         "with --model=FOLDER") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{file.parent}: has no {file.name}; neither a Hugging Face folder nor one of our runs"
                         ) from error
    except ValueError as error:
        raise InputError(f"{file}: no JSON ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: no JSON object")
    return content


def _config(settings: dict[str, Any], folder: Path) -> BertConfig:
    """The encoder's shape; refuses settings that would make it compute something else."""
    wrong = [f"{name} is {settings[name]!r}, only {value!r} is supported" for name, value in _COMPUTED
             if name in settings and settings[name] not in (value, None)]
    _require(wrong, folder / "config.json")
    try:
        return BertConfig.from_dict(settings)
    except (InputError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"{folder}/config.json: {_first_line(error)}") from error


def _weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index names."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    shards = _read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise InputError(f"{index}: no weight_map from names to files")
    files = [folder / Path(shard).name for shard in sorted(set(shards.values()))]
    _require([f"missing {file.name}" for file in files if not file.is_file()], index)
    return files


def _read_tensors(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Name -> array of every tensor in the safetensors of a folder; bfloat16 too, which JAX teaches numpy."""
    files = _weight_files(folder)
    if not files:
        unsafe = sorted(file.name for pattern in _UNSAFE for file in folder.glob(pattern))
        found = f"only {', '.join(unsafe)}, which may run code when read" if unsafe else "no weights"
        raise InputError(f"{folder}: {found}; model.safetensors expected. To convert a checkpoint: "
                         + _CONVERT.format(name=name))
    tensors = {}
    for file in files:
        try:
            with safe_open(file, "numpy") as content:
                tensors.update({key: content.get_tensor(key) for key in content.keys()})  # noqa: SIM118
        except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{file}: cannot be read as safetensors ({_first_line(error)})") from error
    return tensors


def _shapes(config: BertConfig, parts: Container[str], outputs: int) -> dict[str, Any]:
    """The parameters, as shapes, of an encoder with those of the heads that are in `parts`."""
    models = heads.PretrainingModel(config, 2), heads.SequenceModel(config, outputs)
    shapes = jax.eval_shape(lambda: heads.init(models[0], 0) | heads.init(models[1], 0))
    return {part: tree for part, tree in shapes.items() if part == "bert" or part in parts}


def _require(problems: list[str], where: Any) -> None:
    """Raises all problems as one line; of very many, the first and the last twenty."""
    if len(problems) > 41:
        problems = [*problems[:20], f"... {len(problems) - 40} more ...", *problems[-20:]]
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
