"""The file, its guards, and what is written in it."""

import io
import json
import math
import os
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file

from sk_advbp.keeping import decoded, encoded, read_file, safetensors, write_file

ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flags": np.array([True, False, True]),
    "none": np.zeros((0, 4)),
    "number": np.array(3, dtype=np.int64),
    "ö": np.array([1, 2], dtype=np.uint16),
    "big-endian": np.array([1.5, 2.5], dtype=">f8"),
    "transposed": np.arange(6.0).reshape(2, 3).T,
}


def written(path, content=None, arrays=ARRAYS):
    write_file(path, {"a": [1, 2.5, None]} if content is None else content, arrays)
    return path


def with_digest(file):
    """The bytes of a file that somebody has put together, with the digest that they have."""
    at = 8 + len(safetensors.BEGIN)
    cleared = file[:at] + safetensors.ZEROS + file[at + 64 :]
    return file[:at] + safetensors.digest([cleared]) + file[at + 64 :]


def put_together(header, data=b"", begin=safetensors.BEGIN + safetensors.ZEROS):
    header = begin + header
    return with_digest(len(header).to_bytes(8, "little") + header + data)


def test_it_reads_what_it_has_written_and_so_does_the_library(tmp_path):
    path = written(tmp_path / "file")
    content, arrays = read_file(path)
    assert content == {"a": [1, 2.5, None]}
    for read in (arrays, load_file(path)):
        assert read.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert read[name].dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(read[name], array)


def test_every_byte_counts(tmp_path):
    """Flipped, cut off or added."""
    path = written(tmp_path / "file")
    whole = path.read_bytes()
    for i in range(len(whole)):
        flipped = whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :]
        for damaged in (flipped, whole[:i]):
            with pytest.raises(ValueError):
                read_file(io.BytesIO(damaged))
    with pytest.raises(ValueError, match="damaged"):
        read_file(io.BytesIO(whole + b"\0"))
    read_file(io.BytesIO(whole))


TEXT = b'","sk_advbp":"{}"}'


def entry(dtype="F32", shape=(1,), offsets=(0, 4), name="a"):
    described = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    return f',"{name}":{json.dumps(described)}'.encode()


FOUR = b"\0\0\0\0"
MISFITS = {
    "twice": (TEXT + entry() + entry(offsets=(4, 8)) + b"}", FOUR * 2),
    "twice inside": (TEXT + b',"a":{"dtype":"F32","dtype":"F32"}}', FOUR),
    "NaN": (TEXT + b',"a":NaN}', b""),
    "twice in the content": (b'","sk_advbp":"{\\"b\\":1,\\"b\\":2}"}}', b""),
    "NaN in the content": (b'","sk_advbp":"{\\"b\\":NaN}"}}', b""),
    "overlap": (TEXT + entry() + entry(name="b") + b"}", FOUR),
    "gap": (TEXT + entry(offsets=(4, 8)) + b"}", FOUR * 2),
    "beyond": (TEXT + entry(shape=(2,), offsets=(0, 8)) + b"}", FOUR),
    "left over": (TEXT + entry() + b"}", FOUR * 2),
    "huge": (TEXT + entry(shape=(10**15,)) + b"}", FOUR),
    "huge and empty": (TEXT + entry(shape=(0, 10**30), offsets=(0, 0)) + b"}", b""),
    "negative": (TEXT + entry(shape=(-1, -1)) + b"}", FOUR),
    "no number": (TEXT + entry(shape=(1.0,)) + b"}", FOUR),
    "many axes": (TEXT + entry(shape=(1,) * 100) + b"}", FOUR),
    "half booleans": (TEXT + entry("BOOL", offsets=(0, 1)) + b"}", b"\2"),
    "deep": (TEXT + b',"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}", b""),
}
MISFITS = {name: put_together(*parts) for name, parts in MISFITS.items()} | {
    "header of gigabytes": (2**34).to_bytes(8, "little") + b"{" * 100,
    "header of exabytes": b"\xff" * 8 + b"{" * 100,
    "another's": put_together(b'}{"__metadata__":{}', begin=b"{}"),
    "empty": b"",
    "seven bytes": b"\0" * 7,
}


@pytest.mark.parametrize("file", MISFITS.values(), ids=MISFITS)
def test_misfits_are_refused_without_much_memory(tmp_path, file):
    path = tmp_path / "file"
    path.write_bytes(file)
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, LookupError)):
            read_file(path)
        assert tracemalloc.get_traced_memory()[1] < 50 * len(file) + 10**6
    finally:
        tracemalloc.stop()


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = written(tmp_path / "file")
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        written(path, {"b": 2})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    written(path, {"b": 2})
    assert read_file(path)[0] == {"b": 2} and list(tmp_path.iterdir()) == [path]


# ---- values ------------------------------------------------------------------------------

CONSTANT = object()
KNOWN = {"the constant": CONSTANT}
VALUES = [
    [None, True, 3, 2**70, "ü", 0.1, (1, (2,)), {}, {"a": {"b": ()}}],
    {1: "int", "two": [2], None: 3.5},
    [math.inf, -math.inf],
    CONSTANT,
    np.float32(0.1),
    np.str_("label"),
    np.array(["ant", "bee"], dtype="<U9"),
    np.array([["a", 1], [None, 2.5]], dtype=object),
    np.array(["2020-01-01", "2021-05-05"], dtype="datetime64[D]"),
    np.ma.MaskedArray([1.0, 2.0], mask=[False, True]),
    {"array": np.eye(2), "array.": {"": np.eye(3)}, "x": {"y": np.eye(1)}, "x.y": np.eye(4)},
]


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, (np.ndarray, np.generic)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:30])
def test_values_come_back(tmp_path, value):
    arrays = {}
    tree = encoded(value, "value", arrays, KNOWN)
    tree, arrays = read_file(written(tmp_path / "file", {"tree": tree}, arrays))
    assert_same(decoded(tree["tree"], arrays, KNOWN), value)
    assert not arrays


def test_what_is_not_plain_is_named():
    with pytest.raises(TypeError, match=r"lr\.0\.x cannot be written to a file: <function"):
        encoded([{"x": assert_same}], "lr", {})
    with pytest.raises(TypeError, match="y cannot be written to a file: an array of dtype complex"):
        encoded(np.zeros(2, complex), "y", {})


@pytest.mark.parametrize(
    "tree",
    [
        {"array": "none"},
        {"known": "os.system"},
        {"call": []},
        {"tuple": [], "dict": {}},
        {},
        {"text": [10**9, [2], ["a", "b"]]},
        {"text": [1, [2], ["a", 3]]},
        {"time": ["O", {"array": "a"}]},
        {"objects": [[10**9], [1]]},
    ],
    ids=str,
)
def test_trees_that_nobody_has_written(tree):
    with pytest.raises(ValueError):
        decoded(tree, {"a": np.zeros(1, np.int64)}, KNOWN)
