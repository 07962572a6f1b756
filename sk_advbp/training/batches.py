"""Arrays as a dataset that lies on the device, and mini-batches cut from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import skorch.utils
import torch
from scipy import sparse
from skorch.dataset import Dataset
from torch import Generator, Tensor
from torch.utils.data import Subset

from sk_advbp.parameters import python_number

if TYPE_CHECKING:
    import torch.utils.data
    from numpy.typing import NDArray

    from sk_advbp._types import Floats, IsDataset, IsSparse, Matrix, MatrixLike

    # Samples as a batch has them, and targets.
    Batch = tuple["Tensor | WeightedInput", Tensor]
    Rows = int | np.integer | NDArray[np.integer] | slice | Tensor

__all__ = ["ArrayDataset", "Batches", "WeightedInput", "as_tensor"]


is_sparse: IsSparse = sparse.issparse
is_dataset: IsDataset = skorch.utils.is_dataset

# Share of a GPU's free memory that X may take; a larger one is sent piece by piece.
RESIDENT_SHARE = 0.5

# Size of the pieces in which rows are gathered: within the reach of a processor's caches.
CHUNK_BYTES = 2**22


class WeightedInput(NamedTuple):
    """The X side of a batch that has sample weights.

    The weights ride on the side of X, since skorch's splits and scoring callbacks take
    the y side for labels.
    """

    x: torch.Tensor
    weight: torch.Tensor


def as_tensor(
    array: NDArray[np.generic], device: str | torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Return `array` as a tensor on `device`; it shares memory with it where it can.

    Parameters
    ----------
    array : ndarray
    device : str or torch.device
    dtype : torch.dtype or None
        None keeps that of `array`.
    """
    # Cast first: a device may not have the dtype of the array.
    if array.flags.writeable:  # threads cannot each silence warnings
        return torch.from_numpy(array).to(dtype=dtype).to(device=device)
    with warnings.catch_warnings():
        # Read-only arrays come from joblib's memory maps. Nothing here writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array).to(dtype=dtype).to(device=device)


def dense(X: MatrixLike) -> NDArray[Any]:
    """Return `X`, sparse or not, as an array."""
    return X.toarray() if is_sparse(X) else np.asarray(X)


class ArrayDataset(Dataset):
    """Validated arrays, moved to the device once.

    To skorch and its callbacks it is a dataset of (x, y); `X` and `y` are the arrays as
    an estimator's ``predict`` and ``score`` take them.

    Parameters
    ----------
    X : ndarray of shape (n, ...) or CSR matrix of shape (n, n_features)
        Of the dtype of the weights. A CSR matrix stays in memory, and its rows are made
        dense a batch at a time.
    target : ndarray of shape (n,) or (n, n_outputs) or None, default=None
        What the loss takes: encoded labels, for instance. None for prediction.
    sample_weight : ndarray of shape (n,) or None, default=None
    y : callable or None, default=None
        Maps `target` back to the user's y.
    device : str or torch.device, default="cpu"
    """

    def __init__(
        self,
        X: Matrix,
        target: NDArray[np.number] | None = None,
        sample_weight: Floats | None = None,
        y: Callable[[NDArray[np.number]], NDArray[np.generic]] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.X = X
        self.target = target
        self.sample_weight = sample_weight
        self._decode = y
        self.device = torch.device(device)
        self._x: Tensor | sparse.csr_array = (
            X if sparse.issparse(X) else as_tensor(X, self._home_of(X))
        )
        self._target = None if target is None else as_tensor(target, device)
        self._weight = None if sample_weight is None else as_tensor(sample_weight, device)

    def _home_of(self, X: Floats) -> torch.device:
        """Return the device, or the CPU for an X that would take too much of its memory."""
        if self.device.type != "cuda":
            return self.device
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.device if X.nbytes <= RESIDENT_SHARE * free else torch.device("cpu")

    @property
    def home(self) -> torch.device:
        """The device on which rows are gathered."""
        return self._x.device if torch.is_tensor(self._x) else torch.device("cpu")

    @property
    def row_bytes(self) -> int:
        """Memory of one dense row of X."""
        return max(1, math.prod(self.X.shape[1:]) * self.X.dtype.itemsize)

    @property
    def y(self) -> NDArray[np.generic] | None:
        """The user's y, decoded; dense, since skorch takes no sparse one."""
        if self._decode is None or self.target is None:
            return self.target
        return dense(self._decode(self.target))

    def __len__(self) -> int:
        return self.X.shape[0]

    def __getitem__(self, rows: Rows) -> Batch:
        """Return the sample or samples `rows`, an int, array, slice or index tensor."""
        if isinstance(rows, (int, np.integer)):
            x, target = self[np.asarray([rows])]
            first = WeightedInput(*(t[0] for t in x)) if isinstance(x, WeightedInput) else x[0]
            return first, target[0]
        if torch.is_tensor(self._x):
            x = selected(self._x, rows)
        else:
            dense = self._x[rows.numpy() if torch.is_tensor(rows) else rows].toarray()
            x = torch.from_numpy(dense)
        if x.device.type != self.device.type:  # "cuda" is not equal to the "cuda:0" of a tensor
            # From pinned memory, so that the copy goes on while the processor goes on.
            pinned = x.pin_memory() if self.device.type == "cuda" else x
            x = pinned.to(self.device, non_blocking=True)
        # skorch's DataLoader cannot collate None.
        target = x.new_zeros(len(x)) if self._target is None else selected(self._target, rows)
        if self._weight is None:
            return x, target
        return WeightedInput(x, selected(self._weight, rows)), target


def selected(tensor: Tensor, rows: NDArray[np.integer] | slice | Tensor) -> Tensor:
    """Return ``tensor[rows]``, by the quicker way where `rows` is a tensor of indices."""
    if torch.is_tensor(rows):
        return tensor.index_select(0, rows.to(tensor.device))
    return tensor[rows]


def unwrap_subset(dataset: Dataset) -> tuple[Dataset, Tensor | None]:
    """Return (dataset, rows) of nested ``torch.utils.data.Subset``s; rows None for all.

    A subclass may do more than to choose rows: it is not unwrapped.
    """
    rows = None
    while type(dataset) is Subset:
        indices = torch.from_numpy(np.array(dataset.indices, dtype=np.int64))
        rows = indices if rows is None else indices[rows]
        dataset = dataset.dataset
    return dataset, rows


class Batches:
    """Cut mini-batches from an `ArrayDataset`: one shuffled index an epoch, no collating.

    It takes the place of ``torch.utils.data.DataLoader``.

    Parameters
    ----------
    dataset : ArrayDataset or torch.utils.data.Subset of one
    batch_size : int, default=128
    shuffle : bool, default=False
        Whether each pass over the batches has an order of its own.
    drop_last : bool, default=False
        Whether a last batch that is not full is left out.
    generator : torch.Generator or None, default=None
        A generator on the CPU, so that the order does not depend on the device.
    """

    def __init__(
        self,
        dataset: ArrayDataset | Subset[Batch],
        batch_size: int = 128,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1. Got {batch_size!r}.")
        self.dataset = dataset
        self.batch_size = python_number(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator
        self._arrays, self._rows = unwrap_subset(dataset)

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        n, size = len(self.dataset), self.batch_size
        n = len(self) * size if self.drop_last else n
        order = self._rows
        if self.shuffle:
            order = torch.randperm(len(self.dataset), generator=self.generator, device="cpu")
            order = order if self._rows is None else self._rows[order]
        if order is not None:
            order = order.to(self._arrays.home)
        # Rows are gathered for several batches at once, which then are views: on small
        # batches each further operation costs as much as its work.
        in_chunk = size * max(1, CHUNK_BYTES // (size * self._arrays.row_bytes))
        for start in range(0, n, in_chunk):
            rows = slice(start, min(start + in_chunk, n))
            yield from _split(self._arrays[rows if order is None else order[rows]], size)


def _split(chunk: Batch, size: int) -> Iterator[Batch]:
    """Cut the (x, target) of many rows into mini-batches of `size` rows."""
    x, target = chunk
    parts: Iterable[Tensor | WeightedInput]
    if isinstance(x, WeightedInput):
        parts = map(WeightedInput, x.x.split(size), x.weight.split(size))
    else:
        parts = x.split(size)
    return zip(parts, target.split(size), strict=True)
