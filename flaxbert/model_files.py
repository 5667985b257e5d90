"""The files of a model in a Hugging Face folder: where they are, and config.json, weights and tokenizer read."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from flaxbert.bert import BertConfig
from flaxbert.errors import InputError, refuse

BUNDLED = Path(__file__).parent / "assets" / "bundled"

# Settings that another value of would make another model: (name, the value that we compute, meant where absent).
_COMPUTED = (("model_type", "bert"), ("position_embedding_type", "absolute"), ("is_decoder", False),
             ("add_cross_attention", False))
_UNSAFE = ("*.bin", "*.ckpt*", "*.msgpack", "*.h5", "*.pt", "*.pth")
_HUB_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json", "vocab.txt",
              "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_CONVERT = ("python -c \"from transformers import AutoModel as M, AutoTokenizer as T; "
            "[c.from_pretrained('{name}').save_pretrained('FOLDER', safe_serialization=True) for c in (M, T)]\" "
            "(needs torch), then --model=FOLDER")
# What a call leaves behind in a tokenizer, and what is true of this machine only.
_LEFT_OVER = ("max_length", "pad_to_multiple_of", "pad_token_type_id", "stride", "truncation_strategy", "is_local",
              "local_files_only", "name_or_path", "vocab_file")


def locate(name: str, revision: str = "") -> Path:
    """The folder that `name` means, downloaded from the hub if need be; there it may have many revisions."""
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
        which = {"revision": revision} if revision else {}
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_HUB_FILES), **which))
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


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file; raises `InputError` where there is none."""
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


def read_config(settings: dict[str, Any], folder: Path) -> BertConfig:
    """The encoder's shape; refuses settings that would make it compute something else."""
    wrong = [f"{name} is {settings[name]!r}, only {value!r} is supported" for name, value in _COMPUTED
             if name in settings and settings[name] not in (value, None)]
    refuse(wrong, folder / "config.json")
    try:
        return BertConfig.from_dict(settings)
    except (InputError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"{folder}/config.json: {_first_line(error)}") from error


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index names."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise InputError(f"{index}: no weight_map from names to files")
    files = [folder / Path(shard).name for shard in sorted(set(shards.values()))]
    refuse([f"missing {file.name}" for file in files if not file.is_file()], index)
    return files


def read_tensors(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Name -> array of every tensor in the safetensors of a folder; bfloat16 too, which JAX teaches numpy."""
    files = weight_files(folder)
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


def load_tokenizer(folder: Path, config: BertConfig) -> Any:
    """The fast tokenizer of a folder, without truncation or padding.

    Raises:
      InputError: none there, one that cannot be read, has no [CLS], [SEP], [PAD], or knows more tokens than
        the encoder has embeddings.
    """
    # Without these files transformers 5 makes a tokenizer of the five special tokens and says nothing.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(f"{folder}: has no tokenizer; tokenizer.json or vocab.txt expected")
    try:
        options = {} if any(folder.glob("tokenizer*.json")) else _options(folder / "vocab.txt")
        read = _tokenizer_class(folder).from_pretrained
        tokenizer = read(folder, local_files_only=True, trust_remote_code=False, **options)
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


def _tokenizer_class(folder: Path) -> Any:
    """BERT's own where tokenizer_config.json names it: `AutoTokenizer` takes seconds more to import."""
    named = json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("tokenizer_class") \
        if (folder / "tokenizer_config.json").is_file() else None
    if named in ("BertTokenizer", "BertTokenizerFast"):
        from transformers import BertTokenizer
        return BertTokenizer
    from transformers import AutoTokenizer
    return AutoTokenizer


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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
