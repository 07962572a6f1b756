"""Entries of a docstring that several classes share, written once."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import TypeVar

__all__ = ["shares_parameters"]

C = TypeVar("C", bound=type)


def shares_parameters(*sources: type) -> Callable[[C], C]:
    """Return a decorator that puts entries of the docstrings of `sources` into that of a class.

    The parameters are named in the order of the signature, and a line ``{norm, clip}`` stands
    where those of the sources belong.

    Parameters
    ----------
    *sources : class
        Their docstrings have the entries, in the format of numpydoc; of a name that several have
        the first one's counts.
    """

    def decorated(cls: C) -> C:
        entries: dict[str, list[str]] = {}
        for source in reversed(sources):
            entries |= _entries(cleandoc(source.__doc__ or "").splitlines())
        lines = cleandoc(cls.__doc__ or "").splitlines()
        cls.__doc__ = "\n".join(line for given in lines for line in _filled(given, entries))
        return cls

    return decorated


def _entries(lines: list[str]) -> dict[str, list[str]]:
    """Return {name: lines} of the parameters and attributes in a numpydoc docstring.

    An entry of several names goes by the first.
    """
    entries: dict[str, list[str]] = {}
    name = None
    for line in lines[lines.index("Parameters") : lines.index("See Also")]:
        if line[:1].strip():
            name = line.split(" : ")[0].split(",")[0] if " : " in line else None
        if name:
            entries.setdefault(name, []).append(line)
    for of_name in entries.values():
        while not of_name[-1]:
            of_name.pop()
    return entries


def _filled(line: str, entries: dict[str, list[str]]) -> list[str]:
    """Return the lines that `line` stands for: itself, or the entries that it names."""
    if not (line.startswith("{") and line.endswith("}")):
        return [line]
    names = [name.strip() for name in line[1:-1].split(",")]
    return [entry for name in names for entry in entries[name]]
