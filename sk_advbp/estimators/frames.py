"""What users have for arrays: tensors, slices of datasets, frames of pandas, polars, pyarrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import narwhals.stable.v2 as nw
import numpy as np
import torch
from scipy import sparse
from skorch.helper import SliceDataset
from skorch.utils import to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sk_advbp._types import Floats

T = TypeVar("T")

__all__ = ["array_of", "as_array_like", "frame_like", "in_float64", "is_frame", "refuse_lazy"]


def is_frame(X: object) -> bool:
    """Return whether X is a data frame, or table, whose values are there."""
    return nw.dependencies.is_into_dataframe(X)


def refuse_lazy(X: object) -> None:
    """Raise ValueError for a frame or column whose values are yet to be computed."""
    library = type(X).__module__.partition(".")[0]
    named = hasattr(type(X), "columns") or hasattr(type(X), "name")  # arrays are not
    for lazy, method in (("dask", "compute"), ("polars", "collect")):
        if library == lazy and named and hasattr(type(X), method):
            raise ValueError(
                f"X and y must be in memory. Got a {library} {type(X).__name__}, whose values are "
                f"yet to be computed: give X.{method}(), or y.{method}()."
            )


def as_array_like(given: T) -> T | NDArray[np.generic]:
    """Return `given` in a form that scikit-learn validates: tensors and slices are arrays."""
    if torch.is_tensor(given):
        return given.numpy(force=True)
    refuse_lazy(given)
    if isinstance(given, SliceDataset):
        return np.stack([to_numpy(torch.as_tensor(row)) for row in given])
    if isinstance(given, Mapping):
        raise ValueError(
            "X must be one array: the adversarial gradient is of one input. Got a "
            f"{type(given).__name__} of {sorted(map(str, given))}; a module that needs several "
            "inputs can cut them from the columns of X."
        )
    return given


def array_of(X: object) -> Floats:
    """Return an array-like, sparse or a frame, as an array."""
    given: Any = X
    if sparse.issparse(given):
        return given.toarray()
    return np.asarray(nw.from_native(given).to_numpy() if is_frame(given) else given)


def frame_like(X: T, values: object) -> T:
    """Return `values` as a frame of the kind, the names and the index of the frame X."""
    given: Any = X
    if nw.dependencies.is_pandas_dataframe(given):
        return type(given)(values, index=given.index, columns=given.columns)
    frame = nw.from_native(given)
    columns = dict(zip(frame.columns, np.asarray(values).T, strict=True))
    return nw.from_dict(columns, backend=frame.implementation).to_native()


def in_float64(X: T) -> T:
    """Return X with its floating point numbers in float64, where it is an array or a frame.

    Far from zero float32 has fewer digits than a small perturbation needs.
    """
    given: Any = X
    if nw.dependencies.is_pandas_dataframe(given):
        narrow = [dtype in (np.float32, np.float16) for dtype in given.dtypes]
        return (
            given.astype(dict.fromkeys(given.columns[narrow], np.float64)) if any(narrow) else given
        )
    if is_frame(given):
        frame = nw.from_native(given)
        names = [name for name, dtype in frame.schema.items() if dtype == nw.Float32]
        return frame.with_columns(nw.col(*names).cast(nw.Float64)).to_native() if names else given
    is_array = isinstance(given, np.ndarray) or sparse.issparse(given)
    return given.astype(np.float64) if is_array and given.dtype.kind == "f" else given
