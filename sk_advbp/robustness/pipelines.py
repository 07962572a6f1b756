"""A net at the end of a pipeline: what stands before it, and the way back, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.impute._base import _BaseImputer

from sk_advbp.estimators.base import AdversarialEstimator
from sk_advbp.estimators.frames import array_of, frame_like, in_float64, is_frame
from sk_advbp.estimators.pipelines import last_step

if TYPE_CHECKING:
    from sklearn.base import TransformerMixin

    from sk_advbp._types import Floats, MatrixLike, Predictor
    from sk_advbp.estimators.pipelines import Steps

__all__ = ["attacked_net", "original_units", "views"]


def attacked_net(
    estimator: Predictor,
) -> tuple[list[tuple[str, TransformerMixin]], AdversarialEstimator]:
    """Return the transformers before the net, and the net.

    Parameters
    ----------
    estimator : AdvBPClassifier, pipeline or search

    Returns
    -------
    steps : list of (name, fitted transformer)
        From the outside inwards, those of inner pipelines one by one; empty without a pipeline.
    net : AdvBPClassifier

    Raises
    ------
    TypeError
        There is no such net at the end.
    """
    steps, last = last_step(estimator)
    if not isinstance(last, AdversarialEstimator):
        raise TypeError(
            "only an AdvBPClassifier, a pipeline whose last step is one, or a fitted search "
            f"over them can be attacked. Got {estimator!r}."
        )
    return steps, last


def views(steps: Steps, X: MatrixLike) -> list[MatrixLike]:
    """Return X as each of the `steps` sees it, and as the net does, in float64."""
    seen = [in_float64(X)]
    for _, transformer in steps:
        seen.append(in_float64(transformer.transform(seen[-1])))
    return seen


def original_units(steps: Steps, seen: Sequence[MatrixLike], moved: Floats) -> Floats:
    """Return the points that the `steps` map to `moved`.

    Parameters
    ----------
    steps : list of (name, transformer)
    seen : list of array-like
        From `views`: the clean points before each step, and those before the net.
    moved : array-like of shape (n, n_features)
        What the last of `seen` is moved to.

    Returns
    -------
    points : array-like of shape (n, n_features)
        In the form of the first of `seen`, dense.

    Raises
    ------
    ValueError
        A step cannot be inverted; the message names it.
    """
    for (name, step), before, after in zip(reversed(steps), seen[-2::-1], seen[:0:-1], strict=True):
        try:
            points = before_step(step, before, after, moved)
            check_reached(*map(array_of, (step.transform(points), after, moved)))
        except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(
                f"The step {name!r} ({type(step).__name__}) cannot be inverted, so the "
                "adversarial examples cannot be given in the original units: "
                f"{str(error).rstrip('.')}. In the net's own units they are "
                "pipeline[-1].adversarial_examples(pipeline[:-1].transform(X), y)."
            ) from error
        moved = points
    return moved


def before_step(
    step: TransformerMixin, before: MatrixLike, after: MatrixLike, moved: Floats
) -> Floats:
    """Return the points that `step` maps to `moved`, having mapped `before` to `after`."""
    # An imputer changes gaps alone, and has filled them when the net sees them.
    back = array_of if isinstance(step, _BaseImputer) else step.inverse_transform
    original = array_of(before)
    if original.dtype.kind not in "buif" and not is_frame(before):
        raise ValueError(f"it is given {original.dtype} instead of numbers")
    original = original.astype(np.float64)
    inverse, base = (array_of(back(x)) for x in (moved, after))
    if inverse.shape != original.shape:
        raise ValueError(
            f"it makes {array_of(after).shape[1]} columns of {original.shape[1]}, and back of them "
            f"{inverse.shape[-1]}"
        )
    points = np.where(np.isnan(original), inverse, original + (inverse - base))
    like: Any = before
    return frame_like(like, points) if is_frame(like) else points


def check_reached(reached: Floats, clean: Floats, moved: Floats) -> None:
    """Raise ValueError where a step maps the points elsewhere than to `moved`."""
    size = np.nanmax(np.abs(moved - clean), initial=0.0)  # gaps that a later step fills
    error = np.abs(reached - moved).max(initial=0.0)
    if not error <= 1e-3 * size + 1e-6 * np.abs(moved).max(initial=0.0):
        raise ValueError(
            f"of the perturbation, up to {size:g}, it returns another one, off by {error:g}. Where "
            "it clips, give the attack the same bounds as clip=(low, high)"
        )
