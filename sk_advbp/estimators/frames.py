"""What users have for arrays: tensors, slices of datasets, frames of pandas, polars, pyarrow."""

from collections.abc import Mapping

import narwhals.stable.v2 as nw
import numpy as np
import torch
from scipy import sparse
from skorch.helper import SliceDataset
from skorch.utils import to_numpy

__all__ = ["array_of", "as_array_like", "frame_like", "in_float64", "is_frame", "refuse_lazy"]


def is_frame(X):
    """Return whether X is a data frame, or table, whose values are there."""
    return nw.dependencies.is_into_dataframe(X)


def refuse_lazy(X):
    """Raise ValueError for a frame or column whose values are yet to be computed."""
    library = type(X).__module__.partition(".")[0]
    named = hasattr(type(X), "columns") or hasattr(type(X), "name")  # arrays are not
    for lazy, method in (("dask", "compute"), ("polars", "collect")):
        if library == lazy and named and hasattr(type(X), method):
            raise ValueError(
                f"X and y must be in memory. Got a {library} {type(X).__name__}, whose values are "
                f"yet to be computed: give X.{method}(), or y.{method}()."
            )


def as_array_like(given):
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


def array_of(X):
    """Return an array-like, sparse or a frame, as an array."""
    if sparse.issparse(X):
        return X.toarray()
    return np.asarray(nw.from_native(X).to_numpy() if is_frame(X) else X)


def frame_like(X, values):
    """Return `values` as a frame of the kind, the names and the index of the frame X."""
    if nw.dependencies.is_pandas_dataframe(X):
        return type(X)(values, index=X.index, columns=X.columns)
    frame = nw.from_native(X)
    columns = dict(zip(frame.columns, np.asarray(values).T, strict=True))
    return nw.from_dict(columns, backend=frame.implementation).to_native()


def in_float64(X):
    """Return X with its floating point numbers in float64, where it is an array or a frame.

    Far from zero float32 has fewer digits than a small perturbation needs.
    """
    if nw.dependencies.is_pandas_dataframe(X):
        narrow = [dtype in (np.float32, np.float16) for dtype in X.dtypes]
        return X.astype(dict.fromkeys(X.columns[narrow], np.float64)) if any(narrow) else X
    if is_frame(X):
        frame = nw.from_native(X)
        narrow = [name for name, dtype in frame.schema.items() if dtype == nw.Float32]
        return frame.with_columns(nw.col(*narrow).cast(nw.Float64)).to_native() if narrow else X
    is_array = isinstance(X, np.ndarray) or sparse.issparse(X)
    return X.astype(np.float64) if is_array and X.dtype.kind == "f" else X
