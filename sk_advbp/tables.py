"""ε for tables of numbers and categories, from the transformer that prepared them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, TargetEncoder
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from sk_advbp._types import Floats

__all__ = ["epsilon_of_columns"]

# What comes out of these stands for a category, whatever number it is.
ENCODERS = (OneHotEncoder, OrdinalEncoder, TargetEncoder, KBinsDiscretizer)


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
        (``OneHotEncoder``, ``OrdinalEncoder``, ``TargetEncoder`` and ``KBinsDiscretizer``,
        alone or at the end of a pipeline), which get 0. A dict has the ε of every transformer
        by its name, ``"remainder"`` too where it puts out columns.

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
        For a negative ε, and where the names of the dict are not those of the transformers.

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
    columns: ColumnTransformer, names: Iterable[str], epsilon: float | dict[str, float]
) -> dict[str, float]:
    """Return the ε of each transformer of the `names`."""
    if not isinstance(epsilon, dict):
        kinds = {name: fitted for name, fitted, _ in columns.transformers_}
        return {name: 0.0 if _encodes(kinds[name]) else float(epsilon) for name in names}
    known = {name for name, *_ in columns.transformers_}
    missing, unknown = set(names) - set(epsilon), set(epsilon) - known
    if missing or unknown:
        raise ValueError(
            f"epsilon must have the transformers {sorted(names)}. "
            f"Got {sorted(epsilon)}: {sorted(missing)} missing, {sorted(unknown)} unknown."
        )
    return epsilon


def _encodes(transformer: BaseEstimator) -> bool:
    """Return whether the columns of `transformer` stand for categories."""
    while isinstance(transformer, Pipeline):
        transformer = transformer[-1]
    return isinstance(transformer, ENCODERS)


def _outputs(columns: ColumnTransformer) -> Iterable[tuple[str, slice]]:
    """Return (name, slice of the output) of each transformer; there are none without columns."""
    return getattr(columns, "output_indices_", {}).items()
