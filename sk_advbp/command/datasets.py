"""Labelled data for the command line, as a training and a test part.

Three sources: scikit-learn's digits, MNIST from OpenML, and the user's own ``.npz`` file.
"""

from __future__ import annotations

import zipfile
import zlib
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import type_of_target

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from numpy.typing import NDArray

    from sk_advbp._types import Floats, Labels

__all__ = ["TrainTest", "load_data"]

# The names of training and test data, ours and those of others: Keras, MedMNIST.
PARTS = (
    ("X_train", "y_train", "X_test", "y_test"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("train_data", "train_labels", "test_data", "test_labels"),
)
WHOLES = (("X", "y"), ("x", "y"), ("images", "labels"), ("data", "labels"), ("data", "target"))
ACCEPTED = "X_train, y_train, X_test and y_test, or X and y, or names of Keras or MedMNIST"


class TrainTest(NamedTuple):
    """A training and a test part of one data set.

    Attributes
    ----------
    X_train, X_test : ndarray of shape (n_samples, n_features)
        Images lie flattened in their rows.
    y_train, y_test : ndarray of shape (n_samples,)
        Class labels, numbers or strings.
    image_shape : tuple of int or None
        Shape of one sample before it was flattened; None where rows are all that is known.
    """

    X_train: Floats
    X_test: Floats
    y_train: Labels
    y_test: Labels
    image_shape: tuple[int, ...] | None


def load_data(name_or_path: str | PathLike[str]) -> TrainTest:
    """Load labelled data and divide it into a training and a test part.

    Parameters
    ----------
    name_or_path : str or path
        ``"digits"``: the 8×8 digits that come with scikit-learn, scaled to [0, 1].
        ``"mnist"``: all of MNIST through `sklearn.datasets.fetch_openml`, which downloads it
        once and keeps it; 60,000 training and 10,000 test images.
        Else the path of a NumPy ``.npz`` file with the arrays ``X_train``, ``y_train``,
        ``X_test`` and ``y_test``, or with ``X`` and ``y``; ``x_train``, as in Keras's files, and
        ``train_images``, ``train_labels``, …, as in MedMNIST's, whose validation part is left
        alone, do as well. Labels may be a column. The first axis counts the samples;
        the others, if more than one, are flattened. uint8 values are taken as pixels and
        divided by 255; other integers and booleans become float32 with their values, floating
        point numbers stay as they are.

    Returns
    -------
    data : TrainTest
        Data without a test part of their own are split 75 : 25, stratified by class and the
        same way each time.

    Raises
    ------
    OSError
        The file cannot be opened, or MNIST cannot be downloaded.
    ValueError
        The name is unknown, the file is no ``.npz`` file, or its arrays do not make a
        classification task; the message says which file and what is accepted.

    Examples
    --------
    >>> from sk_advbp.command import load_data
    >>> data = load_data("digits")
    >>> data.X_train.shape, data.X_test.shape, data.image_shape
    ((1347, 64), (450, 64), (8, 8))
    """
    name = str(name_or_path)
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return _split((X / 16).astype(np.float32), y, (8, 8))
    if name == "mnist":
        return _mnist_from_openml()
    if not name.endswith(".npz"):
        raise ValueError(
            f"unknown data {name!r}: accepted are 'digits', 'mnist' and the path of a .npz file"
        )
    try:
        return _from_arrays(*_read_npz(name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _split(X: Floats, y: Labels, image_shape: tuple[int, ...] | None) -> TrainTest:
    """Hold out a quarter of the rows, in each class the same share."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=0
    )
    return TrainTest(X_train, X_test, y_train, y_test, image_shape)


def _mnist_from_openml() -> TrainTest:
    """Return MNIST in its standard order: the first 60,000 images are for training."""
    try:
        # The faster parser needs pandas, which is none of this package's requirements.
        X, y = fetch_openml(
            "mnist_784", version=1, as_frame=False, parser="liac-arff", return_X_y=True
        )
    except (OSError, HTTPException) as error:
        raise OSError(
            f"MNIST cannot be downloaded from OpenML ({error}); a .npz file with "
            f"{ACCEPTED} does as well"
        ) from error
    X, y = (X / 255).astype(np.float32), y.astype(np.int64)
    return TrainTest(X[:60000], X[60000:], y[:60000], y[60000:], (28, 28))


def _read_npz(path: str) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the names of all arrays in the file, and those of one accepted set of names."""
    try:
        # Opened here, as np.load leaves a damaged file open.
        with open(path, "rb") as file:
            # Unpickling would run whatever code the file contains.
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a lone array")
            wanted = _accepted_names(archive.files)
            return archive.files, {name: archive[name] for name in wanted}
    except OSError as error:
        raise OSError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            "is damaged, is no .npz file, or holds Python objects, which are never loaded"
        ) from error


def _accepted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first of the accepted sets of names that all are among `names`; else none."""
    return next((wanted for wanted in (*PARTS, *WHOLES) if set(wanted) <= set(names)), ())


def _from_arrays(names: Iterable[str], arrays: dict[str, NDArray[Any]]) -> TrainTest:
    """Check the arrays of a file and make them a training and a test part."""
    if not arrays:
        found = ", ".join(names) or "no array"
        raise ValueError(f"accepted are the arrays {ACCEPTED}; found: {found}")
    pairs = tuple(arrays)
    if len(pairs) == 2:
        X, y = _samples(arrays, *pairs)
        return _split(_rows(X), y, _image_shape(X))
    X_train, y_train = _samples(arrays, *pairs[:2])
    X_test, y_test = _samples(arrays, *pairs[2:])
    if X_train.shape[1:] != X_test.shape[1:]:
        raise ValueError(
            f"samples of {pairs[0]} have shape {X_train.shape[1:]}, of {pairs[2]} "
            f"{X_test.shape[1:]}"
        )
    unseen = np.setdiff1d(y_test, y_train)
    if unseen.size:
        raise ValueError(f"{pairs[3]} has labels that {pairs[1]} has not: {unseen[:5].tolist()}")
    return TrainTest(_rows(X_train), _rows(X_test), y_train, y_test, _image_shape(X_train))


def _samples(
    arrays: dict[str, NDArray[Any]], X_name: str, y_name: str
) -> tuple[NDArray[Any], Labels]:
    """Return two of the arrays, once they are known to be samples and their labels."""
    X, y = arrays[X_name], arrays[y_name]
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if X.dtype.kind not in "buif" or X.ndim < 2 or X.size == 0:
        raise ValueError(
            f"{X_name} has dtype {X.dtype} and shape {X.shape}; accepted are numbers of shape "
            "(n_samples, n_features) or (n_samples, height, width)"
        )
    if not np.isfinite(X).all():
        raise ValueError(f"{X_name} contains NaN or infinite values")
    if y.shape != X.shape[:1]:
        raise ValueError(
            f"{y_name} has shape {y.shape}; accepted is {X.shape[:1]}, one label a sample"
        )
    if y.dtype.kind not in "biufU" or type_of_target(y) not in ("binary", "multiclass"):
        raise ValueError(
            f"{y_name} has dtype {y.dtype} and no class labels; accepted are whole numbers and "
            "strings"
        )
    return X, y


def _rows(X: NDArray[Any]) -> Floats:
    """Flatten each sample to a row of floating point numbers, pixels to [0, 1]."""
    X = X.reshape(len(X), -1)
    if X.dtype == np.uint8:
        return X.astype(np.float32) / 255
    return X if X.dtype.kind == "f" else X.astype(np.float32)


def _image_shape(X: NDArray[Any]) -> tuple[int, ...] | None:
    """Shape of one sample, where `X` still shows it."""
    return X.shape[1:] if X.ndim > 2 else None
