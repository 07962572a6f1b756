"""y as the loss takes it, and the way back: labels, indicator matrices, numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch.utils.data import Dataset

from sk_advbp.parameters import standard_deviation
from sk_advbp.training.batches import dense

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from sk_advbp._types import Floats, MatrixLike

__all__ = ["EncodedDataset", "LabelMatrix", "Labels", "Numbers", "checked_classes"]


def kind_of(labels: NDArray[np.generic]) -> Literal["string", "number", "both"]:
    """Return whether labels are numbers or strings, which do not compare."""
    if labels.dtype.kind == "O":
        are_strings = {isinstance(label, str) for label in labels.flat}
        if len(are_strings) != 1:
            return "both"
        return "string" if are_strings.pop() else "number"
    return "string" if labels.dtype.kind in "SUT" else "number"


class Labels:
    """Class labels as their indices in the sorted `classes`.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted and unique.
    """

    def __init__(self, classes: NDArray[np.generic]) -> None:
        self.classes = classes

    @staticmethod
    @np.errstate(over="ignore", invalid="ignore")
    def checked(y: MatrixLike) -> NDArray[np.generic]:
        """Return y as an array of labels; raise ValueError where it is none."""
        labels: NDArray[np.generic] = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        return labels

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the net: one class alone is trained as one of two."""
        return max(2, len(self.classes))

    def known(self, y: NDArray[np.generic]) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """Return (index, whether it is among the classes) of each label.

        Raises
        ------
        ValueError
            Where y has several columns, or labels of another kind, such as strings where the
            classes are numbers.
        """
        if np.ndim(y) != 1:  # of a sparse matrix, too
            raise ValueError(f"y has shape {np.shape(y)}. Expected one label a row, as before.")
        y = np.asarray(y)
        if kind_of(y) != kind_of(self.classes):
            self._refuse(y)
        target = np.searchsorted(self.classes, y).clip(max=len(self.classes) - 1)
        return target, self.classes[target] == y

    def encode(self, y: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the index of each label; raise ValueError for one that is not among them."""
        target, known = self.known(y)
        if not known.all():
            self._refuse(np.asarray(y)[~known])
        return target

    def _refuse(self, unknown: NDArray[np.generic]) -> NoReturn:
        # As Python's, since labels of several kinds have no order.
        some = list(dict.fromkeys(np.ravel(unknown).tolist()))[:10]
        raise ValueError(
            f"y contains labels that are not among the classes {self.classes.tolist()}: {some}."
        )

    def decode(self, target: NDArray[np.integer]) -> NDArray[np.generic]:
        """Return the labels at the indices `target`; of one class alone it is that."""
        return self.classes[target.clip(max=len(self.classes) - 1)]

    def strata(self, target: NDArray[np.integer], smaller_part: int) -> NDArray[np.integer] | None:
        """Return the classes, where each can be in both parts of the data, else None."""
        counts = np.bincount(target)
        counts = counts[counts > 0]
        return target if counts.min() >= 2 and len(counts) <= smaller_part else None

    def of_samples(
        self, dataset: Dataset[object], y: NDArray[np.generic]
    ) -> tuple[Dataset[object], NDArray[np.integer]]:
        """Return (dataset, target) for samples that come one by one, with labels as they are."""
        target = self.encode(y)
        if not np.array_equal(target, y):
            raise ValueError(
                "The labels of a torch Dataset must be 0, 1, ..., n_classes - 1. "
                f"Got {self.classes!r}: give X and y as arrays instead."
            )
        return dataset, target

    def validation_samples(self, dataset: Dataset[object]) -> Dataset[object]:
        """Return the `dataset` itself: labels that come one by one are what the loss takes."""
        return dataset


class LabelMatrix:
    """Several labels a row, as an indicator matrix: 1 where a row has the label, else 0.

    Parameters
    ----------
    n_labels : int
    dtype : str
        Of what the loss takes.
    is_sparse : bool, default=False
        Whether the user has a sparse matrix.
    """

    def __init__(self, n_labels: int, dtype: str, is_sparse: bool = False) -> None:
        self.n_outputs, self.dtype, self.is_sparse = n_labels, dtype, is_sparse

    @staticmethod
    def checked(y: MatrixLike) -> NDArray[np.generic] | sparse.csr_matrix:
        """Return y as an array or a CSR matrix; raise ValueError for other values than 0 and 1."""
        matrix: Any = sparse.csr_matrix(y, copy=True) if sparse.issparse(y) else np.asarray(y)
        values = matrix
        if sparse.issparse(matrix):
            matrix.sum_duplicates()
            values = matrix.data
        numeric = values.dtype.kind in "buif"
        others = values[(values != 0) & (values != 1)] if numeric else values.ravel()
        if len(others):
            raise ValueError(
                "y must have one column of labels, or columns of 0 and 1, one for each label that "
                f"a row may have. Got {others.tolist()[0]!r} in {matrix.shape[1]} columns of dtype "
                f"{matrix.dtype}."
            )
        return matrix

    def known(self, y: NDArray[np.generic] | sparse.csr_matrix) -> tuple[Floats, NDArray[np.bool_]]:
        """Return (target, whether all is known) of each row; of columns of 0 and 1 all is."""
        target = self.encode(y)
        return target, np.ones(len(target), dtype=bool)

    def encode(self, y: NDArray[np.generic] | sparse.csr_matrix) -> Floats:
        """Return y in the dtype of the loss, dense; raise ValueError for other labels."""
        if y.shape[1:] != (self.n_outputs,):
            raise ValueError(
                f"y has shape {y.shape}. Expected an indicator matrix of {self.n_outputs} columns, "
                "as before."
            )
        return dense(y).astype(self.dtype)

    def decode(self, target: NDArray[np.number]) -> NDArray[np.int64] | sparse.csr_matrix:
        """Return `target` as an indicator matrix of integers, dense or sparse as the user's."""
        y = target.astype(np.int64)
        return sparse.csr_matrix(y) if self.is_sparse else y

    def strata(self, target: Floats, smaller_part: int) -> None:
        """Return None: there are too many combinations of labels."""

    def of_samples(self, dataset: Dataset[object], y: Floats) -> tuple[Dataset[object], Floats]:
        """Return (dataset, target) for samples that come one by one, encoded as they come."""
        return EncodedDataset(dataset, self.encode), self.encode(y)

    def validation_samples(self, dataset: Dataset[object]) -> Dataset[object]:
        """Return the samples of `dataset`, encoded as they come."""
        return EncodedDataset(dataset, self.encode)


def checked_classes(y: MatrixLike) -> NDArray[np.generic] | sparse.csr_matrix:
    """Return y as an array of labels, or as an indicator matrix where it has several columns."""
    shape = np.shape(y)  # of a sparse matrix, too
    return LabelMatrix.checked(y) if len(shape) == 2 and shape[1] > 1 else Labels.checked(y)


class Numbers:
    """Numbers (y - mean) / scale, a column an output.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_outputs,)
    shape : tuple of int
        Of one y, as the user has it: () or (n_outputs,).
    dtype : str
        Of what the loss takes.
    """

    def __init__(self, mean: Floats, scale: Floats, shape: tuple[int, ...], dtype: str) -> None:
        self.mean, self.scale, self.shape, self.dtype = mean, scale, shape, dtype

    @classmethod
    def of(cls, y: Floats, sample_weight: Floats | None, dtype: str) -> Numbers:
        """Return the encoding that gives `y` weighted means of 0 and deviations of 1."""
        rows = y.reshape(len(y), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(rows, axis=0, weights=sample_weight)
            deviation = standard_deviation(rows, sample_weight)
        if not np.isfinite(deviation).all():
            raise ValueError("y contains values too large: their squares are not finite.")
        return cls(mean, np.where(deviation > 0, deviation, 1.0), y.shape[1:], dtype)

    @staticmethod
    def checked(y: ArrayLike) -> NDArray[np.float64]:
        """Return y as float64; raise ValueError where it has anything but finite numbers."""
        if sparse.issparse(y):
            raise ValueError("y must be dense. Got a sparse matrix.")
        y = np.asarray(y)
        if y.ndim > 2 or y.dtype.kind not in "buif" or not np.isfinite(y).all():
            raise ValueError(
                "y must have finite numbers, of shape (n_samples,) or (n_samples, n_outputs). "
                f"Got dtype {y.dtype} and shape {y.shape}."
            )
        return y.astype(np.float64)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the net."""
        return len(self.mean)

    def encode(self, y: Floats) -> Floats:
        """Return y centred and scaled, of shape (n, n_outputs)."""
        rows = y.reshape(len(y), -1)
        if rows.shape[1] != self.n_outputs:
            raise ValueError(f"y has {rows.shape[1]} outputs. Expected {self.n_outputs}.")
        with np.errstate(over="ignore"):
            target = ((rows - self.mean) / self.scale).astype(self.dtype)
        if not np.isfinite(target).all():
            raise ValueError(
                f"y contains values too large for dtype({self.dtype!r}), in units of y_scale_."
            )
        return target

    def decode(self, target: Floats) -> NDArray[np.float64]:
        """Return what `target` is in the units and the shape of y."""
        with np.errstate(over="ignore"):  # of huge y, what is beyond float64 is infinite
            y = target.astype(np.float64) * self.scale + self.mean
        return y.reshape(len(y), *self.shape)

    def decode_deviation(self, deviation: Floats) -> NDArray[np.float64]:
        """Return what standard deviations of the target are in the units and the shape of y."""
        with np.errstate(over="ignore"):
            return (deviation * self.scale).reshape(len(deviation), *self.shape)

    def strata(self, target: Floats, smaller_part: int) -> None:
        """Return None: numbers have no strata."""

    def of_samples(self, dataset: Dataset[object], y: Floats) -> tuple[Dataset[object], Floats]:
        """Return (dataset, target) for samples that come one by one, encoded as they come."""
        return EncodedDataset(dataset, self.encode), self.encode(y)

    def validation_samples(self, dataset: Dataset[object]) -> Dataset[object]:
        """Return the samples of `dataset`, encoded as they come."""
        return EncodedDataset(dataset, self.encode)


class EncodedDataset(Dataset[object]):
    """The user's torch Dataset, with each y as the net takes it."""

    def __init__(self, dataset: Dataset[object], encode: Callable[[Floats], Floats]) -> None:
        self.dataset: Dataset[Any] = dataset
        self._encode = encode

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # not every Dataset has a length

    def __getitem__(self, i: int) -> tuple[object, Floats]:
        x, y = self.dataset[i]
        return x, self._encode(np.asarray(y)[None])[0]
