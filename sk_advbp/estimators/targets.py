"""y as the loss takes it, and the way back: labels as indices, numbers centred and scaled."""

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch.utils.data import Dataset

from sk_advbp.parameters import standard_deviation

__all__ = ["EncodedDataset", "Labels", "Numbers"]


def kind_of(labels):
    """Return whether labels are numbers or strings, which do not compare."""
    if labels.dtype.kind == "O":
        kinds = {"string" if isinstance(label, str) else "number" for label in labels.flat}
        return kinds.pop() if len(kinds) == 1 else "both"
    return "string" if labels.dtype.kind in "SUT" else "number"


class Labels:
    """Class labels as their indices in the sorted `classes`.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted and unique.
    """

    def __init__(self, classes):
        self.classes = classes

    @staticmethod
    @np.errstate(over="ignore", invalid="ignore")
    def checked(y):
        """Return y as an array of labels; raise ValueError where it is none."""
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return y

    @property
    def n_outputs(self):
        """Number of outputs of the net: one class alone is trained as one of two."""
        return max(2, len(self.classes))

    def known(self, y):
        """Return (index, whether it is among the classes) of each label.

        Raises
        ------
        ValueError
            Where y has labels of another kind, such as strings where the classes are numbers.
        """
        y = np.asarray(y)
        if kind_of(y) != kind_of(self.classes):
            self._refuse(y)
        target = np.searchsorted(self.classes, y).clip(max=len(self.classes) - 1)
        return target, self.classes[target] == y

    def encode(self, y):
        """Return the index of each label; raise ValueError for one that is not among them."""
        target, known = self.known(y)
        if not known.all():
            self._refuse(np.asarray(y)[~known])
        return target

    def _refuse(self, unknown):
        # As Python's, since labels of several kinds have no order.
        some = list(dict.fromkeys(np.ravel(unknown).tolist()))[:10]
        raise ValueError(
            f"y contains labels that are not among the classes {self.classes.tolist()}: {some}."
        )

    def decode(self, target):
        """Return the labels at the indices `target`."""
        return self.classes[target]

    def strata(self, target, smaller_part):
        """Return the classes, where each can be in both parts of the data, else None."""
        counts = np.bincount(target)
        counts = counts[counts > 0]
        return target if counts.min() >= 2 and len(counts) <= smaller_part else None

    def of_samples(self, dataset, y):
        """Return (dataset, target) for samples that come one by one, with labels as they are."""
        target = self.encode(y)
        if not np.array_equal(target, y):
            raise ValueError(
                "The labels of a torch Dataset must be 0, 1, ..., n_classes - 1. "
                f"Got {self.classes!r}: give X and y as arrays instead."
            )
        return dataset, target

    def validation_samples(self, dataset):
        """Return the `dataset` itself: labels that come one by one are what the loss takes."""
        return dataset


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

    def __init__(self, mean, scale, shape, dtype):
        self.mean, self.scale, self.shape, self.dtype = mean, scale, shape, dtype

    @classmethod
    def of(cls, y, sample_weight, dtype):
        """Return the encoding that gives `y` weighted means of 0 and deviations of 1."""
        rows = y.reshape(len(y), -1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(rows, axis=0, weights=sample_weight)
            deviation = standard_deviation(rows, sample_weight)
        if not np.isfinite(deviation).all():
            raise ValueError("y contains values too large: their squares are not finite.")
        return cls(mean, np.where(deviation > 0, deviation, 1.0), y.shape[1:], dtype)

    @staticmethod
    def checked(y):
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
    def n_outputs(self):
        """Number of outputs of the net."""
        return len(self.mean)

    def encode(self, y):
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

    def decode(self, target):
        """Return what `target` is in the units and the shape of y."""
        with np.errstate(over="ignore"):  # of huge y, what is beyond float64 is infinite
            y = target.astype(np.float64) * self.scale + self.mean
        return y.reshape(len(y), *self.shape)

    def strata(self, target, smaller_part):
        """Return None: numbers have no strata."""

    def of_samples(self, dataset, y):
        """Return (dataset, target) for samples that come one by one, encoded as they come."""
        return EncodedDataset(dataset, self.encode), self.encode(y)

    def validation_samples(self, dataset):
        """Return the samples of `dataset`, encoded as they come."""
        return EncodedDataset(dataset, self.encode)


class EncodedDataset(Dataset):
    """The user's torch Dataset, with each y as the net takes it."""

    def __init__(self, dataset, encode):
        self.dataset = dataset
        self._encode = encode

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        x, y = self.dataset[i]
        return x, self._encode(np.asarray(y)[None])[0]
