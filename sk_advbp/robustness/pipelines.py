"""A net at the end of a pipeline: what stands before it, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.pipeline import Pipeline

from sk_advbp.estimators.base import AdversarialEstimator
from sk_advbp.training.batches import dense

if TYPE_CHECKING:
    from sklearn.base import TransformerMixin

    from sk_advbp._types import Floats, MatrixLike, Predictor, Samples

    S = TypeVar("S", MatrixLike, Samples)

__all__ = ["attacked_net", "original_units", "transformed"]


def attacked_net(estimator: Predictor) -> tuple[list[TransformerMixin], AdversarialEstimator]:
    """Return the transformers before the net, and the net.

    Parameters
    ----------
    estimator : AdvBPClassifier, pipeline or search

    Returns
    -------
    transformers : list of fitted transformers
        From the outside inwards; empty without a pipeline.
    net : AdvBPClassifier

    Raises
    ------
    TypeError
        There is no such net at the end.
    """
    transformers: list[TransformerMixin] = []
    last = estimator
    while not isinstance(last, AdversarialEstimator):
        if isinstance(last, Pipeline):
            transformers += [last[:-1]] if len(last) > 1 else []
            last = last[-1]
        elif hasattr(last, "best_estimator_"):
            last = last.best_estimator_
        else:
            raise TypeError(
                "only an AdvBPClassifier, a pipeline whose last step is one, or a fitted search "
                f"over them can be attacked. Got {estimator!r}."
            )
    return transformers, last


def transformed(transformers: Sequence[TransformerMixin], X: S) -> S:
    """Return X as the net sees it."""
    for transformer in transformers:
        X = transformer.transform(X)
    return X


def original_units(
    transformers: Sequence[TransformerMixin], X: MatrixLike, clean: MatrixLike, moved: Floats
) -> Floats:
    """Return the points that the `transformers` map to `moved`, having mapped X to `clean`."""
    points, base = moved, clean
    try:
        for transformer in reversed(transformers):
            points, base = map(transformer.inverse_transform, (points, base))
    except AttributeError as error:
        raise ValueError(
            "The transformers before the net have no inverse_transform, so the adversarial "
            "examples cannot be given in the original units. In the net's own they are "
            "pipeline[-1].adversarial_examples(pipeline[:-1].transform(X), y)."
        ) from error
    points = dense(X).astype(float) + (dense(points) - dense(base))
    as_given = points
    if hasattr(X, "columns") and hasattr(X, "iloc"):
        frame: Any = X
        as_given = type(frame)(points, index=frame.index, columns=frame.columns)
    reached, moved = dense(transformed(transformers, as_given)), np.asarray(moved)
    size = np.abs(moved - dense(clean)).max(initial=0.0)
    off = np.abs(reached - moved).max(initial=0.0)
    if off > 1e-3 * size + 1e-6 * np.abs(moved).max(initial=0.0):
        raise ValueError(
            f"The transformers cannot be inverted: of the perturbation, up to {size:g}, they "
            f"return another one, off by {off:g}. Where they clip, give the attack the same "
            "bounds as clip=(low, high)."
        )
    return as_given
