"""Plain values as JSON, beside the arrays that they contain, and back.

Numbers, strings, None and lists are themselves in JSON. Everything else is an object of one key
that says what it is: ``{"dict": {key: value, ...}}``, ``{"array": name}`` with the array under
that name beside it, ``{"known": name}`` for an object that both sides have under a name,
``{"float": "nan"}`` or an infinity, and those of `DECODERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["decoded", "encoded"]

Arrays: TypeAlias = dict[str, NDArray[Any]]
NOTHING: Mapping[str, object] = {}

# What safetensors has.
NUMBERS = "biuf"


def encoded(
    value: object, name: str, arrays: Arrays, known: Mapping[str, object] = NOTHING
) -> object:
    """Return `value` as what JSON can hold, and put its arrays into `arrays`.

    Parameters
    ----------
    value : object
    name : str
        Of the value, for errors and for the names of arrays.
    arrays : dict of str to ndarray
        Arrays are added to it.
    known : dict of str to object, default={}
        Objects that are written as a name.

    Raises
    ------
    TypeError
        For a value that is not plain; it says which.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        values = [encoded(v, f"{name}.{i}", arrays, known) for i, v in enumerate(value)]
        return values if type(value) is list else {"tuple": values}
    if type(value) is dict:
        values = [encoded(v, f"{name}.{k}", arrays, known) for k, v in value.items()]
        if all(type(k) is str for k in value):
            return {"dict": dict(zip(value, values, strict=True))}
        keys = [encoded(k, f"a key of {name}", arrays, known) for k in value]
        return {"items": list(map(list, zip(keys, values, strict=True)))}
    if isinstance(value, np.generic):
        return {"scalar": [encoded(np.asarray(value), name, arrays, known)]}
    if isinstance(value, np.ma.MaskedArray):
        parts = [np.asarray(value.data), np.ma.getmaskarray(value)]
        return {"masked": [encoded(part, name, arrays, known) for part in parts]}
    if isinstance(value, np.ndarray):
        return _encoded_array(value, name, arrays, known)
    for known_name, thing in known.items():
        if value is thing:
            return {"known": known_name}
    raise TypeError(f"{name} cannot be written to a file: {value!r}")


def _encoded_array(
    value: NDArray[Any], name: str, arrays: Arrays, known: Mapping[str, object]
) -> object:
    dtype, shape = value.dtype, list(value.shape)
    if dtype.kind in NUMBERS and dtype.itemsize <= 8:
        while name in arrays:
            name += "'"
        arrays[name] = value
        return {"array": name}
    if dtype.kind in "mM":
        return {"time": [dtype.str, encoded(value.view("i8"), name, arrays)]}
    if dtype.kind == "U":
        width, strings = dtype.itemsize // 4, value.ravel().tolist()
        _text(width, shape, strings)
        return {"text": [width, shape, strings]}
    if dtype.kind == "O":
        return {"objects": [shape, encoded(list(value.ravel()), name, arrays, known)]}
    raise TypeError(f"{name} cannot be written to a file: an array of dtype {dtype}.")


def _text(width: int, shape: list[int], values: list[str]) -> NDArray[np.str_]:
    """Return an array of strings, of no more memory than they warrant."""
    if not all(type(v) is str for v in values) or not 0 <= width:
        raise ValueError(f"{values[:5]} are no strings")
    if width * len(values) > 4096 + 100 * sum(map(len, values)):
        raise ValueError(f"strings of {width} characters are far longer than these")
    return np.array(values, dtype=f"U{width}").reshape(shape)


def _objects(shape: list[int], values: list[object]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def _time(code: str, numbers: NDArray[np.int64]) -> NDArray[Any]:
    if np.dtype(code).kind not in "mM":
        raise ValueError(f"{code!r} is no dtype of times")
    return numbers.view(code)


# By the kind of value: what makes it of the decoded parts.
DECODERS: dict[str, Callable[..., object]] = {
    "tuple": lambda *values: values,
    "items": lambda *items: dict(items),
    "scalar": lambda array: array[()],
    "masked": np.ma.MaskedArray,
    "objects": _objects,
    "text": _text,
    "time": _time,
}


def decoded(tree: object, arrays: Arrays, known: Mapping[str, object] = NOTHING) -> object:
    """Return the value that `encoded` has made `tree` of.

    Parameters
    ----------
    tree : object
        What JSON had.
    arrays : dict of str to ndarray
        Those that the value has are taken out of it.
    known : dict of str to object, default={}

    Raises
    ------
    ValueError
        For a tree that `encoded` cannot have made.
    """
    if isinstance(tree, list):
        return [decoded(part, arrays, known) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1:
        raise ValueError(f"{list(tree)[:5]} is no kind of value")
    kind: str
    content: Any
    ((kind, content),) = tree.items()
    if kind == "dict":
        return {key: decoded(part, arrays, known) for key, part in content.items()}
    if kind == "array":
        if content not in arrays:
            raise ValueError(f"there is no array {content!r}, or it is there for two values")
        return arrays.pop(content)
    if kind == "known":
        if content not in known:
            raise ValueError(f"{content!r} is no name that this version knows")
        return known[content]
    if kind == "float":
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]
    if kind not in DECODERS:
        raise ValueError(f"{kind!r} is no kind of value")
    return DECODERS[kind](*(decoded(part, arrays, known) for part in content))
