"""What predicts at the end of a pipeline or a search, and what X goes through before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

if TYPE_CHECKING:
    from sklearn.base import TransformerMixin

    from sk_advbp._types import MatrixLike, Predictor, Samples

    S = TypeVar("S", MatrixLike, Samples)
    Steps = Sequence[tuple[str, TransformerMixin]]

__all__ = ["last_step", "transformed"]


def last_step(estimator: Predictor) -> tuple[list[tuple[str, TransformerMixin]], Predictor]:
    """Return the transformers before what predicts, and that.

    Parameters
    ----------
    estimator : fitted estimator, pipeline or search
        Or any of them in another.

    Returns
    -------
    steps : list of (name, fitted transformer)
        From the outside inwards, those of inner pipelines one by one; empty without a pipeline.
    last : fitted estimator
    """
    steps: list[tuple[str, TransformerMixin]] = []
    last: Any = estimator
    while True:
        if isinstance(last, Pipeline):
            steps += transformers_of(last.steps[:-1])
            last = last[-1]
        elif hasattr(last, "best_estimator_"):
            last = last.best_estimator_
        elif isinstance(last, FrozenEstimator):
            last = last.estimator
        else:
            return steps, last


def transformers_of(steps: Iterable[tuple[str, Any]]) -> list[tuple[str, TransformerMixin]]:
    """Return the (name, transformer) that act when a pipeline of `steps` predicts."""
    acting: list[tuple[str, TransformerMixin]] = []
    for name, step in steps:
        while isinstance(step, FrozenEstimator):
            step = step.estimator
        if isinstance(step, Pipeline):
            acting += transformers_of(step.steps)
        # Samplers, as imbalanced-learn has them, choose rows in fit and do nothing later.
        elif step not in (None, "passthrough") and not hasattr(step, "fit_resample"):
            acting.append((name, step))
    return acting


def transformed(steps: Steps, X: S) -> S:
    """Return X as the last step sees it."""
    for _, transformer in steps:
        X = transformer.transform(X)
    return X
