"""What Hugging Face calls things: the tensors of a BERT, its heads, and what config.json says of them.

Letters: D width, C outputs, L layers.
"""

import re
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxbert import heads, trees
from flaxbert.bert import BertConfig
from flaxbert.errors import note, refuse

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
_FLOATS = ("float16", "bfloat16", "float32", "float64")


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
    ours_have = trees.flatten(shapes(config, parts, outputs))
    want = {name: jax.ShapeDtypeStruct(ours_have[ours].shape[::-1 if transposed else 1], np.float32)
            for name, (ours, transposed) in names.items() if ours in ours_have}
    refuse(problems + trees.mismatches(found, want), where)
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


def shapes(config: BertConfig, parts: Container[str], outputs: int) -> dict[str, Any]:
    """The parameters, as shapes, of an encoder with those of the heads that are in `parts`."""
    every = heads.shapes(heads.PretrainingModel(config, 2)) | heads.shapes(heads.SequenceModel(config, outputs))
    return {part: tree for part, tree in every.items() if part == "bert" or part in parts}
