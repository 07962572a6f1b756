"""ε for tables of numbers and categories, from the transformer that prepared them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import (
    PCA,
    FactorAnalysis,
    FastICA,
    IncrementalPCA,
    KernelPCA,
    SparsePCA,
    TruncatedSVD,
)
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import MissingIndicator
from sklearn.impute._base import _BaseImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    LabelBinarizer,
    MaxAbsScaler,
    MinMaxScaler,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.base import BaseEstimator

    from sk_advbp._types import Floats

    Transformer: TypeAlias = BaseEstimator | str | None  # "passthrough" is one

__all__ = ["epsilon_of_columns"]

# What comes out of these stands for a category, whatever number it is.
ENCODERS = (
    Binarizer,
    KBinsDiscretizer,
    LabelBinarizer,
    MissingIndicator,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)
# A column in, the same column out: a number stays a number, and a category a category.
COLUMN_BY_COLUMN = (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SelectorMixin,
    StandardScaler,
    _BaseImputer,
)
# Columns that mix the columns they are given.
MIXTURES = (
    FactorAnalysis,
    FastICA,
    IncrementalPCA,
    KernelPCA,
    PCA,
    PolynomialFeatures,
    SparsePCA,
    SplineTransformer,
    TruncatedSVD,
)


def epsilon_of_columns(
    transformer: ColumnTransformer | Pipeline, epsilon: float | dict[str, float] = 1.0
) -> Floats:
    """Return one ε for each column that a fitted `ColumnTransformer` puts out.

    By default numbers move and categories stay: half a category does not exist.

    Parameters
    ----------
    transformer : ColumnTransformer, or Pipeline that ends in one
        Fitted.
    epsilon : float >= 0 or dict of str to float, default=1.0
        A number is the ε of all columns but those of scikit-learn's encoders of categories
        (``OneHotEncoder``, ``OrdinalEncoder``, ``TargetEncoder``, ``KBinsDiscretizer`` and the
        binarizers, alone or in a pipeline), and the indicators of an imputer, which get 0. It takes
        transformers that are known: these, scikit-learn's scalers, imputers, selectors,
        decompositions, polynomials and splines, and ``"passthrough"``. A dict has the ε of every
        transformer by its name, whatever it is, ``"remainder"`` too where it puts out columns.

    Returns
    -------
    epsilons : float64 ndarray of shape (n_columns,)
        In the units of the transformed columns. For ``epsilon`` of `AdvBPClassifier`; made
        with 1.0, for ``epsilon_unit``, of which `AdvBPClassifierCV` tries multiples.

    Raises
    ------
    TypeError
        Where `transformer` is none of these.
    sklearn.exceptions.NotFittedError
        Before it is fitted.
    ValueError
        For a negative ε; where the names of the dict are not those of the transformers; and for a
        number where it is not known whether the columns of a transformer are categories.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.preprocessing import OneHotEncoder, StandardScaler
    >>> from sk_advbp.tables import epsilon_of_columns
    >>> X = pd.DataFrame({"age": [30, 40, 50], "colour": ["red", "blue", "red"]})
    >>> columns = make_column_transformer(
    ...     (StandardScaler(), ["age"]), (OneHotEncoder(), ["colour"])
    ... )
    >>> epsilon_of_columns(columns.fit(X), 0.1)
    array([0.1, 0. , 0. ])
    """
    columns = transformer[-1] if isinstance(transformer, Pipeline) else transformer
    if not isinstance(columns, ColumnTransformer):
        raise TypeError(
            "transformer must be a fitted ColumnTransformer, or a pipeline that ends in one. "
            f"Got {transformer!r}."
        )
    check_is_fitted(columns)
    slices = {name: s for name, s in _outputs(columns) if s.stop > s.start}
    by_name = _by_transformer(columns, slices, epsilon)
    epsilons = np.zeros(max((s.stop for s in slices.values()), default=0))
    for name, place in slices.items():
        epsilons[place] = by_name[name]
    if not (np.isfinite(epsilons).all() and (epsilons >= 0).all()):
        raise ValueError(f"epsilon must be finite and >= 0. Got {epsilon!r}.")
    return epsilons


def _by_transformer(
    columns: ColumnTransformer, places: Mapping[str, slice], epsilon: float | dict[str, float]
) -> Mapping[str, float | Floats]:
    """Return the ε of each transformer, or of each of its columns, by its name."""
    if not isinstance(epsilon, dict):
        kinds = {name: fitted for name, fitted, _ in columns.transformers_}
        return {
            name: np.where(_categories(name, kinds[name], place.stop - place.start), 0.0, epsilon)
            for name, place in places.items()
        }
    known = {name for name, *_ in columns.transformers_}
    missing, unknown = set(places) - set(epsilon), set(epsilon) - known
    if missing or unknown:
        raise ValueError(
            f"epsilon must have the transformers {sorted(places)}. "
            f"Got {sorted(epsilon)}: {sorted(missing)} missing, {sorted(unknown)} unknown."
        )
    return epsilon


def _categories(name: str, transformer: Transformer, n_columns: int) -> NDArray[np.bool_]:
    """Return which of the columns of `transformer` stand for categories."""
    flags = np.zeros(n_columns, dtype=bool)  # indicators come last, and stay there
    for step in _steps(transformer):
        if isinstance(step, ENCODERS):
            return ~np.zeros(n_columns, dtype=bool)
        indicator = getattr(step, "indicator_", None)
        if indicator is not None:
            flags[n_columns - len(indicator.features_) :] = True
        elif isinstance(step, (*MIXTURES, SelectorMixin)) and flags.any():
            _refuse(name, step, "mixes numbers with indicators of gaps")
        elif not (_changes_nothing(step) or isinstance(step, (*COLUMN_BY_COLUMN, *MIXTURES))):
            _refuse(name, step, "may put out numbers or categories")
    return flags


def _steps(transformer: Transformer) -> Iterator[Transformer]:
    """Yield the transformers, of pipelines one by one."""
    if isinstance(transformer, Pipeline):
        for _, step in transformer.steps:
            yield from _steps(step)
    else:
        yield transformer


def _changes_nothing(step: Transformer) -> bool:
    return step in (None, "passthrough") or (
        isinstance(step, FunctionTransformer) and step.func is None
    )


def _refuse(name: str, step: Transformer, reason: str) -> NoReturn:
    raise ValueError(
        f"It is not known which columns of the transformer {name!r} may move: its "
        f"{type(step).__name__} {reason}. Give epsilon as a dict, with the ε of {name!r} among "
        "others."
    )


def _outputs(columns: ColumnTransformer) -> Iterable[tuple[str, slice]]:
    """Return (name, slice of the output) of each transformer; there are none without columns."""
    return getattr(columns, "output_indices_", {}).items()
