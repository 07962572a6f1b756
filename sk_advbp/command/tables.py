"""A table of the user's own: read, prepared, ε by cross-validation, compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.multiclass import type_of_target

from sk_advbp.command.datasets import TrainTest
from sk_advbp.command.measures import measure, table
from sk_advbp.estimators import AdvBPClassifier, AdvBPClassifierCV

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from os import PathLike

    import pandas as pd

    from sk_advbp._types import Floats, Labels
    from sk_advbp.command.measures import Row

__all__ = ["compared_on_table", "is_table", "prepared", "read_table"]

SUFFIXES = (".csv", ".parquet")

# One-hot columns of one column at most: the rarer categories share one.
MOST_CATEGORIES = 50

# The radius of the attacks where cross-validation prefers plain back-propagation.
SMALL_EPSILON = 0.1


def is_table(path: str | PathLike[str]) -> bool:
    """Return whether the name of the file says that it is a table."""
    return Path(path).suffix.lower() in SUFFIXES


def read_table(path: str | PathLike[str], target: str) -> tuple[pd.DataFrame, Labels]:
    """Read a table and take its labels out.

    Parameters
    ----------
    path : str or path
        Of a ``.csv`` or ``.parquet`` file.
    target : str
        Name of the column with the labels.

    Returns
    -------
    X : pandas.DataFrame of shape (n_rows, n_columns)
        Without columns that are empty.
    y : ndarray of shape (n_rows,)

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no table, has no such column, or no labels in it; the message has one line.
    """
    frame = _frame(path)
    if target not in frame.columns:
        known = ", ".join(map(str, frame.columns[:20]))
        raise ValueError(f"{path}: has no column {target!r}; its columns are: {known}")
    if not len(frame):
        raise ValueError(f"{path}: has no rows")
    y, X = frame[target], frame.drop(columns=target).dropna(axis=1, how="all")
    if y.isna().any():
        raise ValueError(f"{path}: column {target!r} has {y.isna().sum()} gaps; labels have none")
    y = y.astype(str).to_numpy(dtype=str) if y.dtype.kind not in "biuf" else y.to_numpy()
    if type_of_target(y) not in ("binary", "multiclass"):
        raise ValueError(f"{path}: column {target!r} has numbers with fractions instead of labels")
    rarest = np.unique(y, return_counts=True)[1].min()
    if len(np.unique(y)) < 2 or rarest < 4:
        raise ValueError(
            f"{path}: column {target!r} has {len(np.unique(y))} different labels, the rarest in "
            f"{rarest} rows; accepted are two or more labels, each in four rows or more"
        )
    for name, dtype in X.dtypes.items():
        if dtype.kind in "Mm":
            raise ValueError(f"{path}: column {name!r} has {dtype}, neither number nor category")
    if X.shape[1] == 0:
        raise ValueError(f"{path}: has no other column than {target!r}")
    return X, y


def _frame(path: str | PathLike[str]) -> pd.DataFrame:
    """Return the file as a frame of pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ValueError(f"{path}: a table needs pandas: python -m pip install pandas") from error
    reader = pd.read_csv if Path(path).suffix.lower() == ".csv" else pd.read_parquet
    try:
        return reader(path)
    except OSError as error:
        raise OSError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ImportError as error:
        raise ValueError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    except Exception as error:  # of any kind, as there are parsers
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: is no table that pandas can read: {reason}") from error


def prepared(X: pd.DataFrame) -> ColumnTransformer:
    """Return the transformer that makes numbers of the columns of X.

    Parameters
    ----------
    X : pandas.DataFrame

    Returns
    -------
    transformer : ColumnTransformer
        ``"numbers"`` are standardised, their gaps filled with the median; ``"flags"``, numbers of
        at most two values, are standardised, too, their gaps filled with the more frequent one;
        ``"categories"`` become one column a value, their gaps a value of their own.
    """
    numeric = [name for name in X.columns if X[name].dtype.kind in "biuf"]
    flags = [name for name in numeric if X[name].nunique() <= 2]
    numbers = [name for name in numeric if name not in flags]
    categories = [name for name in X.columns if name not in numeric]
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=MOST_CATEGORIES,
        sparse_output=False,
    )
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "flags",
                make_pipeline(SimpleImputer(strategy="most_frequent"), StandardScaler()),
                flags,
            ),
            ("categories", encoder, categories),
        ]
    )


def plain_kinds(X: pd.DataFrame) -> pd.DataFrame:
    """Return X with numbers as float64, and categories as strings with gaps as None."""
    numeric = X.select_dtypes(["number", "bool"]).columns
    columns = {
        name: X[name].astype(np.float64)
        if name in numeric
        else X[name].astype(object).map(str, na_action="ignore").where(X[name].notna(), None)
        for name in X.columns
    }
    return type(X)(columns)


def compared_on_table(options: Namespace) -> str:
    """Compare plain and adversarial back-propagation on a table; return what to print.

    Parameters
    ----------
    options : argparse.Namespace
        ``data`` (the path), ``target``, and others of the command line.
    """
    X, y = read_table(options.data, options.target)
    X = plain_kinds(X)
    *frames, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    transformer = prepared(X).fit(frames[0])
    X_train, X_test = (transformer.transform(part).astype(np.float64) for part in frames)
    data = TrainTest(X_train, X_test, y_train, y_test, None)
    unit = np.zeros(X_train.shape[1])
    unit[transformer.output_indices_["numbers"]] = 1
    given: dict[str, Any] = {"hidden_layer_sizes": options.hidden, "max_epochs": options.epochs}
    given = {name: value for name, value in given.items() if value is not None}
    given |= {"activation": options.activation, "device": options.device}
    searches = [
        AdvBPClassifierCV(epsilon_unit=unit, random_state=seed, **given).fit(X_train, data.y_train)
        for seed in range(options.seeds)
    ]
    chosen = [search.epsilon_ for search in searches]
    radius = options.epsilon or max(chosen) or SMALL_EPSILON
    rows: dict[str, list[Row]] = {"plain": [], "adversarial": []}
    for seed, search in enumerate(searches):
        # The net of the search once more, and its like without a perturbation.
        given |= {"n_nets": search._n_asked, "max_epochs": search.max_epochs_}
        for method, epsilon in (("plain", 0.0), ("adversarial", search.epsilon_)):
            net = AdvBPClassifier(epsilon=epsilon, epsilon_unit=unit, random_state=seed, **given)
            rows[method].append(measure(net, data, radius * unit))
    lines = [_settings(options, data, X, unit, searches), _choice(chosen, radius), table(rows)]
    if options.keep:
        kinds = FunctionTransformer(plain_kinds)
        joblib.dump(make_pipeline(kinds, transformer, searches[0]), options.keep)
        lines.append(f"{options.keep} has the pipeline: joblib.load it, predict takes a frame")
    return "\n\n".join(lines)


def _settings(
    options: Namespace,
    data: TrainTest,
    X: pd.DataFrame,
    unit: Floats,
    searches: Sequence[AdvBPClassifierCV],
) -> str:
    net = searches[0]
    epochs = " or ".join(map(str, sorted({search.max_epochs_ for search in searches})))
    sizes = ", ".join(map(str, np.atleast_1d(net.hidden_layer_sizes)))
    return (
        f"{options.data}: {len(data.X_train)} training and {len(data.X_test)} test rows, "
        f"{X.shape[1]} columns, as {len(unit)} features of which {int(unit.sum())} move\n"
        f"hidden layers {sizes} ({options.activation}), {epochs} epochs, "
        f"{net._n_asked} nets that answer as one, "
        f"{options.seeds} seed{'s' if options.seeds > 1 else ''}, {net.device_}"
    )


def _choice(chosen: Sequence[float], radius: float) -> str:
    values = ", ".join(f"{epsilon:g}" for epsilon in sorted(set(chosen)))
    return f"epsilon by cross-validation: {values}; attacks with {radius:g}, in standard deviations"
