"""Scores that the outputs of a net say by themselves, so that stacks need no estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import r2_score

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from sk_advbp._types import Floats

__all__ = ["ScoreOfOutputs", "accuracy", "log_likelihood", "r_squared", "subset_accuracy"]


class ScoreOfOutputs:
    """A score that needs no estimator: the outputs of a net say it.

    Parameters
    ----------
    of : callable
        Maps (outputs of the net, encoded targets, weights or None) to a number; larger is better.
    """

    def __init__(self, of: Callable[[Tensor, NDArray[np.generic], Floats | None], float]) -> None:
        self._of = of

    def __call__(
        self, outputs: Tensor, target: NDArray[np.generic], weight: Floats | None
    ) -> float:
        """Return the score."""
        return float(self._of(outputs, target, weight))


@np.errstate(over="ignore", invalid="ignore")  # of outputs that have overflowed: no finite score
def log_likelihood(
    outputs: Tensor, target: NDArray[np.generic], weight: Floats | None, logistic: bool = False
) -> float:
    """Return the mean of log p at the labels, the negative of the log loss.

    Parameters
    ----------
    outputs : torch.Tensor of shape (n, n_classes)
    target : ndarray of shape (n,)
        Encoded labels.
    weight : ndarray of shape (n,) or None
    logistic : bool, default=False
        Whether there is one logistic unit a class, instead of a softmax.
    """
    scores = outputs.numpy().astype(np.float64)  # which not every device has
    log_p = log_softmax(-np.logaddexp(0, -scores) if logistic else scores, axis=1)
    return np.average(log_p[np.arange(len(target)), target], weights=weight)


def accuracy(outputs: Tensor, target: NDArray[np.generic], weight: Floats | None) -> float:
    """Return the share of rows whose largest output is that of their label."""
    return np.average(outputs.argmax(1).numpy() == target, weights=weight)


def subset_accuracy(outputs: Tensor, target: NDArray[np.generic], weight: Floats | None) -> float:
    """Return the share of rows of which all labels are right, for an indicator matrix."""
    return np.average(((outputs.numpy() > 0) == target).all(axis=1), weights=weight)


@np.errstate(over="ignore", invalid="ignore")
def r_squared(outputs: Tensor, target: NDArray[np.generic], weight: Floats | None) -> float:
    """Return R², the mean over the columns of `target`, of which the first outputs are the means.

    Behind them, a Gaussian has others, for the variance.
    """
    means = outputs[:, : target.shape[1]].numpy()
    return r2_score(target, means, sample_weight=weight)
