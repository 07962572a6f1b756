"""What the user hands in becomes what the net trains on: arrays, weights, datasets, splits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import torch
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_sample_weight, validate_data
from skorch.dataset import Dataset
from torch.utils.data import DataLoader, Subset, TensorDataset

from sk_advbp.estimators.frames import as_array_like
from sk_advbp.estimators.targets import EncodedDataset
from sk_advbp.parameters import check_epsilon_unit, has_float64, scaled_weight
from sk_advbp.training.batches import ArrayDataset, is_dataset, unwrap_subset
from sk_advbp.training.streams import StackedBatches

if TYPE_CHECKING:
    import torch.utils.data
    from numpy.typing import ArrayLike, NDArray

    from sk_advbp._types import Floats, Matrix, MatrixLike
    from sk_advbp.training.net import AdversarialNet as Net

    Data = torch.utils.data.Dataset[object]
else:  # a mixin of such a net
    Net = object

__all__ = ["Rows", "Samples", "TrainingData"]

# dtype="auto" keeps float64 input in float64 while X has no more values than this. There a fit
# takes about a sixth longer than in float32; beyond, a third to a half (benchmarks/speed/dtype.py).
FLOAT64_VALUES = 25_000

# Fewer held-out rows than this say nothing about when to stop.
MIN_VALIDATION_ROWS = 10


def arrays_of(dataset: Data) -> tuple[Any, ...]:
    """Return the X and y of a dataset whose samples are their rows, (None, None) of any other.

    A subclass of these classes may do more to a sample than to cut it from X.
    """
    inner, rows = unwrap_subset(dataset)
    if type(inner) is TensorDataset and len(inner.tensors) == 2:
        arrays = tuple(tensor.numpy(force=True) for tensor in inner.tensors)
    elif type(inner) in (Dataset, ArrayDataset):
        arrays = inner.X, inner.y
    else:
        return None, None
    if rows is None or arrays[1] is None:
        return arrays
    return tuple(_safe_indexing(array, rows.numpy()) for array in arrays)


class Rows(NamedTuple):
    """Training data that scikit-learn has let in, y encoded.

    Attributes
    ----------
    X : ndarray of shape (n, ...) or CSR matrix of shape (n, n_features)
        Of the dtype of the weights.
    target : ndarray of shape (n,) or (n, n_outputs)
        What the loss takes.
    weight : ndarray of shape (n,) or None
        The user's sample weights; None for all 1.
    """

    X: Any  # a Matrix, or the numbers of its rows
    target: NDArray[Any]
    weight: Floats | None = None

    def weighted(self, weight: Floats | None) -> Rows:
        """Return the rows with their weights times `weight`, without those of weight zero.

        Such rows must not take a place in a mini-batch.
        """
        if weight is None:
            return self
        weight = scaled_weight(weight if self.weight is None else self.weight * weight)
        if weight.all():
            return self._replace(weight=weight)
        if not weight.any():
            raise ValueError("Every row has weight zero, by sample_weight or class_weight.")
        rows = np.flatnonzero(weight)
        return Rows(self.X[rows], self.target[rows], weight[rows])


class Samples(NamedTuple):
    """Training data that come one by one, from a torch Dataset of the user's.

    Attributes
    ----------
    dataset : torch.utils.data.Dataset
        Of (x, y), y as the loss takes it.
    target : ndarray of shape (n,) or (n, n_outputs)
        All the y.
    """

    dataset: Data
    target: NDArray[np.number]


class TrainingData(Net):
    """The part of `AdversarialEstimator` that checks, encodes and holds out data, as a mixin.

    A subclass says what its targets are, as `AdversarialEstimator` has it.
    """

    _float64_values = FLOAT64_VALUES

    @overload
    def _validated(self, X: MatrixLike, *, reset: bool) -> Matrix: ...

    @overload
    def _validated(
        self, X: MatrixLike, y: MatrixLike | None, *, reset: bool
    ) -> tuple[Matrix, NDArray[np.generic]]: ...

    @np.errstate(over="ignore", invalid="ignore")  # of values that are refused in a sentence
    def _validated(
        self, X: object, y: object = "no_validation", *, reset: bool
    ) -> Matrix | tuple[Matrix, NDArray[np.generic]]:
        """Return X, or (X, y), as scikit-learn validates them; sets `n_features_in_`."""
        X, y = map(as_array_like, (X, y))
        data = validate_data(
            self,
            X,
            y,
            reset=reset,
            accept_sparse="csr",
            dtype="numeric",
            order="C",
            allow_nd=not self._has_own_module,
            **({} if isinstance(y, str) else self._target_checks),
        )
        array = data[0] if isinstance(data, tuple) else data
        if reset:
            self.sample_shape_ = array.shape[1:]
            # A net that was initialized before has one.
            self.__dict__.setdefault("dtype_", self._resolved_dtype(array))
        elif array.shape[1:] != self.sample_shape_:
            raise ValueError(
                f"X has samples of shape {array.shape[1:]}, but {type(self).__name__} is "
                f"expecting samples of shape {self.sample_shape_}."
            )
        array = self._as_dtype(array)
        return (array, data[1]) if isinstance(data, tuple) else array

    def _resolved_dtype(self, X: Matrix) -> str:
        if self.dtype != "auto":
            return self.dtype
        large = math.prod(X.shape) > self._float64_values
        if large or self.amp or not self._has_own_module or X.dtype in (np.float16, np.float32):
            return "float32"
        return "float64" if has_float64(self.device_) else "float32"

    def _as_dtype(self, X: Matrix) -> Matrix:
        """Return `X` in the dtype of the weights, without a copy where it has it already."""
        if X.dtype == self.dtype_:
            return X
        with np.errstate(over="ignore"):
            X = X.astype(self.dtype_)
        if not np.isfinite(X.data if sparse.issparse(X) else X).all():
            raise ValueError(f"X contains values too large for dtype({self.dtype_!r}).")
        return X

    @np.errstate(over="ignore", invalid="ignore")
    def _let_in(
        self,
        X: Any,
        y: MatrixLike | None,
        sample_weight: ArrayLike | None,
        *,
        fresh: bool,
        **announced: Any,
    ) -> Rows | Samples:
        """Return what the user gave to ``fit`` as `Rows`, or as `Samples`.

        Where `fresh`, the encoding of y and the unit of ε are found, once for all later data.
        """
        if is_dataset(X):
            dataset = X
            X, own_y = arrays_of(dataset)
            if X is None:
                return self._let_in_samples(dataset, sample_weight, fresh=fresh, **announced)
            y = y if own_y is None else own_y
        X, y = self._validated(X, y, reset=fresh)
        y, weight = self._checked_targets(y), None
        if sample_weight is not None:
            weight = scaled_weight(
                _check_sample_weight(
                    as_array_like(sample_weight), X, dtype=np.float64, ensure_non_negative=True
                )
            )
        self._settle_targets(y, weight, fresh=fresh, **announced)
        if fresh:
            self.epsilon_unit_ = check_epsilon_unit(self.epsilon_unit, X, weight)
        return Rows(X, self._targets.encode(y), weight)

    def _dataset_of(self, data: Rows | Samples) -> tuple[Data, NDArray[np.number]]:
        """Return the dataset on the device of `Rows` or `Samples`, and its target."""
        if isinstance(data, Samples):
            return data
        X, target, weight = self._class_weighted(data)
        return self._array_dataset(X, target, weight), target

    def _class_weighted(self, rows: Rows) -> Rows:
        """Return the `rows` that take part in training, with the weights of their classes."""
        rows = Rows(rows.X, rows.target).weighted(rows.weight)
        rows = rows.weighted(self._class_weights(rows.target, rows.weight))
        if rows.weight is None:
            return rows
        # What vanishes beside the largest weight must not make a mini-batch without a loss.
        held = rows.weight >= np.finfo(self.dtype_).tiny
        return rows if held.all() else rows._replace(weight=None).weighted(rows.weight * held)

    def get_dataset(self, X: object, y: MatrixLike | None = None) -> Data:
        """Return X and y as a dataset on the device: X as ``predict`` takes it, y as ``fit``.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset
            A Dataset is returned as it is.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None, default=None

        Returns
        -------
        dataset : torch.utils.data.Dataset
        """
        given: Any = X
        if is_dataset(given):
            return given
        self.check_is_fitted()
        if y is None:
            return ArrayDataset(self._validated(given, reset=False), device=self.device_)
        X, y = self._validated(given, y, reset=False)
        return self._array_dataset(X, self._targets.encode(self._checked_targets(y)))

    def _array_dataset(
        self, X: Matrix, target: NDArray[np.number] | None = None, weight: Floats | None = None
    ) -> ArrayDataset:
        weight = None if weight is None else weight.astype(self.dtype_)
        decode = self._targets.decode
        return ArrayDataset(X, target, weight, y=decode, device=self.device_)

    def _let_in_samples(
        self, dataset: Any, sample_weight: ArrayLike | None, *, fresh: bool, **announced: Any
    ) -> Samples:
        """Return `Samples` of a torch Dataset that hands them out one by one."""
        if sample_weight is not None:
            raise ValueError("sample_weight needs X and y as arrays. Got a torch Dataset as X.")
        if not len(dataset):
            raise ValueError("The Dataset given as X is empty.")
        with torch.random.fork_rng([]):  # what it draws here is not used
            x, _ = dataset[0]
            if not getattr(x, "shape", ()):
                raise ValueError(
                    "The samples of a torch Dataset must be (x, y), x an array of some axes. "
                    f"Got {type(x).__name__} as the first x."
                )
            # With a generator, or it would draw from torch's global one.
            loader = DataLoader(dataset, batch_size=1024, generator=torch.Generator())
            y = np.concatenate([np.asarray(yi) for _, yi in loader])
        shape = tuple(x.shape)
        if fresh:
            self.sample_shape_, self.n_features_in_ = shape, shape[0]
            self.__dict__.setdefault("dtype_", "float32" if self.dtype == "auto" else self.dtype)
            self.epsilon_unit_ = check_epsilon_unit(self.epsilon_unit, None, shape=shape)
        elif shape != self.sample_shape_:
            raise ValueError(f"Samples have shape {shape}. Expected {self.sample_shape_}.")
        y = self._checked_targets(y)
        self._settle_targets(y, None, fresh=fresh, **announced)
        return Samples(*self._targets.of_samples(dataset, y))

    def get_split_datasets(
        self, X: Data, y: NDArray[np.number] | None = None, **fit_params: Any
    ) -> tuple[Data, Data | None]:
        """Return (training, validation) datasets; the latter None where nothing is held out."""
        if not isinstance(X, StackedBatches):
            X = self.get_dataset(X, y)
        if self._incremental:
            return X, None
        if self.train_split is not None:
            train, valid = super().get_split_datasets(X, y, **fit_params)
            return train, self._encoded_dataset(valid)
        if not self.early_stopping:
            return X, None
        train, valid = self._held_out(len(X), y)  # type: ignore[arg-type]  # this one has a length
        # Arrays do as indices.
        return (Subset(X, train), Subset(X, valid)) if len(valid) else (X, None)  # type: ignore[arg-type]

    def _held_out(
        self, n: int, target: NDArray[np.number] | None
    ) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Return the rows to train and to validate on, stratified where that is possible."""
        n_valid = int(np.ceil(float(self.validation_fraction) * n))
        smaller_part = min(n_valid, n - n_valid)
        if smaller_part < MIN_VALIDATION_ROWS:
            return np.arange(n), np.arange(0)
        seed = int(torch.randint(2**31, (), generator=self.generator_, device="cpu"))
        strata = self._targets.strata(target, smaller_part)
        return train_test_split(np.arange(n), test_size=n_valid, random_state=seed, stratify=strata)

    def _encoded_dataset(self, dataset: Data | None) -> Data | None:
        """Return a validation set that a `train_split` made of the user's own data, encoded."""
        if dataset is None or isinstance(unwrap_subset(dataset)[0], (ArrayDataset, EncodedDataset)):
            return dataset
        X, y = arrays_of(dataset)
        if y is None:
            return self._targets.validation_samples(dataset)
        X, y = self._validated(X, y, reset=False)
        return self._array_dataset(X, self._targets.encode(self._checked_targets(y)))
