"""One safetensors file: named arrays and JSON, with a SHA-256 over all of it.

The format is that of https://huggingface.co/docs/safetensors: eight bytes with the length of the
header, the header, a JSON object that says where each array lies, and the arrays. It is written
and read here, not by that project's library, since what a reader has to refuse is most of the
work, and so that a model can be saved without another package.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from sk_advbp.keeping.plain import Arrays

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["read_file", "write_file"]

DTYPES = {"BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8", "U8": "u1", "I8": "i1"}
DTYPES |= {f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "UI" for bits in (16, 32, 64)}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}

# The header begins with the digest, of which each digit is zero while it is computed.
BEGIN, ZEROS = b'{"__metadata__":{"sha256":"', b"0" * 64

# That of safetensors' own library.
MOST_HEADER_BYTES = 100_000_000


def write_file(path: str | os.PathLike[str], content: Mapping[str, object], arrays: Arrays) -> None:
    """Write `content` and `arrays` to a file, whole or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        A file that is there already is replaced when the new one is complete.
    content : dict
        What JSON can hold.
    arrays : dict of str to ndarray
        Numbers and booleans of the dtypes in `NAMES`.
    """
    arrays = {name: np.asarray(a, a.dtype.newbyteorder("<")) for name, a in arrays.items()}
    # Wide numbers first, so that each array begins at a multiple of its numbers' size.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    entries: dict[str, dict[str, object]] = {}
    end = 0
    for name in names:
        array, begin = arrays[name], end
        end += array.nbytes
        dtype = NAMES[array.dtype]
        entries[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
    # The values of the format's metadata are strings.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    metadata: dict[str, object] = {"__metadata__": {"sha256": ZEROS.decode(), "sk_advbp": text}}
    header = json.dumps(metadata | entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MOST_HEADER_BYTES:
        raise ValueError(f"The header would have {len(header):,} bytes: the history is too long.")
    parts = [len(header).to_bytes(8, "little"), header]
    parts += [arrays[name].tobytes() for name in names]
    parts[1] = header.replace(ZEROS, digest(parts), 1)
    _write_whole(Path(path), parts)


def digest(parts: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of some bytes one after the other, in hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest().encode()


def _write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write the bytes beside `path`, then give them its name."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        with open(unfinished, "xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def read_file(
    path: str | os.PathLike[str] | BinaryIO,
) -> tuple[dict[str, object], Arrays]:
    """Return the content and the arrays of a file that `write_file` has written.

    Parameters
    ----------
    path : str, os.PathLike or binary file

    Returns
    -------
    content : dict
    arrays : dict of str to ndarray

    Raises
    ------
    ValueError
        For a file that is none of these, is not complete, or has been altered.
    OSError
        Where it cannot be read.
    """
    opened = open(path, "rb") if isinstance(path, (str, os.PathLike)) else nullcontext(path)
    with opened as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        length = file.read(8)
        n = int.from_bytes(length, "little")
        # Before anything is read into memory that the file's size does not warrant.
        if len(length) < 8 or n > min(size - 8, MOST_HEADER_BYTES):
            raise ValueError("it has no header of a safetensors file, or not all of it")
        header, data = file.read(n), file.read(size - 8 - n)
    found = header[len(BEGIN) : len(BEGIN) + len(ZEROS)]
    if not header.startswith(BEGIN):
        raise ValueError("save_model has not written it")
    if digest([length, BEGIN, ZEROS, header[len(BEGIN) + len(ZEROS) :], data]) != found:
        raise ValueError("it is damaged: its SHA-256 is not the one that was written")
    entries = parsed(header.decode())
    return parsed(entries.pop("__metadata__")["sk_advbp"]), _arrays(entries, memoryview(data))


def parsed(text: str) -> Any:
    """Return what a JSON text has, strictly: no key twice, no NaN, no depth without bound."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"a key is there twice among {[key for key, _ in pairs][:20]}")
        return dict(pairs)

    def refused(name: str) -> None:
        raise ValueError(f"{name} is not a number of JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refused)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def _arrays(entries: dict[str, Any], data: memoryview) -> dict[str, NDArray[Any]]:
    """Return the arrays that the header describes; they have to cover `data` exactly."""
    arrays: dict[str, NDArray[Any]] = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        (begin, after), shape = entry["data_offsets"], entry["shape"]
        dtype = np.dtype(DTYPES[entry["dtype"]])
        sizes_fit = all(type(n) is int and 0 <= n < 2**62 for n in (*shape, begin, after))
        if not sizes_fit or begin != end or after - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} of shape {shape} does not lie where the header says")
        array = np.frombuffer(data[begin:after], "u1" if dtype.kind == "b" else dtype).reshape(
            shape
        )
        if dtype.kind == "b" and array.size and array.max() > 1:
            raise ValueError(f"{name} has bytes that are no booleans")
        arrays[name], end = array.astype(dtype), after
    if end != len(data):
        raise ValueError(f"it has {len(data) - end} bytes that belong to no array")
    return arrays
