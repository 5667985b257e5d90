"""Files of arrays of which one is large and filled piece by piece, without being in memory."""

import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxbert import disk_cache
from flaxbert.disk_cache import ArrayFile

# What safetensors calls the types.
_SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "int64": "I64"}


def _save_safetensors(path: Path, shape: tuple[int, ...], dtype: str, others: Mapping[str, np.ndarray],
                      about: Mapping[str, Any], fill: Callable[[ArrayFile], None]) -> None:
    """Writes the format itself: its own library wants all of it in memory (github.com/huggingface/safetensors)."""
    header: dict[str, Any] = {"__metadata__": {name: str(value) for name, value in about.items()}}
    end = 0
    for name, of, kind in (*((name, x.shape, x.dtype.name) for name, x in others.items()),
                           ("features", shape, dtype)):
        begin, end = end, end + disk_cache.size_of(of, kind)
        header[name] = {"dtype": _SAFETENSORS[kind], "shape": of, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in others.values():
            file.write(array.tobytes())
        fill(ArrayFile(file, shape, dtype, file.tell()))


def _save_npz(path: Path, shape: tuple[int, ...], dtype: str, others: Mapping[str, np.ndarray],
              about: Mapping[str, Any], fill: Callable[[ArrayFile], None]) -> None:
    """The features first as a file of their own, since a member of an archive is written from begin to end."""
    features = path.with_suffix(".npy")
    try:
        with features.open("wb") as file:
            np.lib.format.write_array_header_2_0(file, {
                "descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
            fill(ArrayFile(file, shape, dtype, file.tell()))
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(features, "features.npy")
            for name, array in others.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array)
    finally:
        features.unlink(missing_ok=True)


class Format(NamedTuple):
    """How a file is written.

    Attributes:
      write: (path, shape and type of `features`, the other arrays, what else is told, what fills `features`).
      copies: of `features` on the disk while that goes on.
    """

    write: Callable[..., None]
    copies: int


FORMATS: dict[str, Format] = {".safetensors": Format(_save_safetensors, 1), ".npz": Format(_save_npz, 2)}
