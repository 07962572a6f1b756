"""The log likelihood of numbers, for regressors that predict a Gaussian."""

from __future__ import annotations

import math
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
)

from sk_advbp.core import gaussian
from sk_advbp.estimators.pipelines import last_step, transformed
from sk_advbp.parameters import scaled_weight

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from sk_advbp._types import Floats, Predictor, Samples

__all__ = ["likelihood_of_outputs", "log_likelihood_score"]


def log_likelihood_score(
    estimator: Predictor,
    X: Samples,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the mean log likelihood of y under the Gaussians that a regressor predicts.

    It looks at the error and at what the regressor says of it: a larger standard deviation than
    the errors have costs, a smaller one costs more.

    Parameters
    ----------
    estimator : fitted regressor, pipeline or search
        One whose ``predict`` takes ``return_std=True``: an `AdvBPRegressor` with
        ``output="gaussian"`` or with several nets, or scikit-learn's
        ``GaussianProcessRegressor``, ``BayesianRidge`` and ``ARDRegression``.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True values.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights >= 0.

    Returns
    -------
    score : float
        In nats for a number of y, the mean over rows and outputs; larger is better. It depends on
        the unit of y: in millimetres it is smaller than in metres, by log 1000.

    Raises
    ------
    TypeError
        For an estimator whose ``predict`` has no ``return_std``.
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    ValueError
        As of its ``predict``, or for X, y and weights of different lengths.

    Notes
    -----
    With mean μ and standard deviation σ of a number y::

        log p(y) = -(log 2π + 2 log σ + (y - μ)² / σ²) / 2

    A scorer by itself, for `AdvBPRegressorCV`, ``GridSearchCV`` and ``cross_val_score``:
    ``scoring=log_likelihood_score``. scikit-learn hands a function no weights; `AdvBPRegressorCV`
    does.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_advbp import AdvBPRegressor, log_likelihood_score
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, size=(300, 1))
    >>> y = 5 * X[:, 0] + rng.normal(size=300)
    >>> net = AdvBPRegressor(output="gaussian", random_state=0).fit(X, y)
    >>> log_likelihood_score(net, X, y) > -1.5
    True
    """
    check_is_fitted(estimator)
    regressor: Any
    steps, regressor = last_step(estimator)
    if "return_std" not in signature(regressor.predict).parameters:
        raise TypeError(
            "log_likelihood_score needs a regressor whose predict takes return_std=True. "
            f"Got {estimator!r}."
        )
    mean, deviation = regressor.predict(transformed(steps, X), return_std=True)
    y = np.asarray(y, dtype=np.float64)
    check_consistent_length(y, mean)
    weight = None
    if sample_weight is not None:
        weight = scaled_weight(_check_sample_weight(sample_weight, y, ensure_non_negative=True))
    # Nets that agree exactly have a deviation of zero, which nothing else is likely under.
    deviation = np.maximum(deviation, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        squares = np.square((y.reshape(mean.shape) - mean) / deviation)
        log_p = -0.5 * (math.log(2 * math.pi) + squares) - np.log(deviation)
    return mean_over_rows(log_p.reshape(len(y), -1).mean(axis=1), weight)


def mean_over_rows(values: Floats, weight: Floats | None) -> float:
    """Return the weighted mean; what a row of weight zero has makes no difference."""
    if weight is None:
        return float(values.mean())
    return float(np.average(values[weight > 0], weights=weight[weight > 0]))


@np.errstate(over="ignore", invalid="ignore")  # of outputs that have overflowed: no finite score
def likelihood_of_outputs(
    outputs: Tensor, target: NDArray[np.generic], weight: Floats | None, scale: Floats
) -> float:
    """Return the same from the outputs of a net, which are in the units of the scaled y.

    Parameters
    ----------
    outputs : torch.Tensor of shape (n, 2 · n_outputs)
        As `sk_advbp.core.gaussian` has them.
    target : ndarray of shape (n, n_outputs)
        Centred and scaled y.
    weight : ndarray of shape (n,) or None
    scale : ndarray of shape (n_outputs,)
        What one of `target` is in the units of y.
    """
    mean, variance = gaussian.mean_and_variance(outputs.double())
    losses = gaussian.loss(mean, variance, mean.new_tensor(target)).numpy() + np.log(scale)
    return -mean_over_rows(losses.mean(axis=1), weight)
