"""What the displays share: samples as images, axes to draw into, names of estimators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sk_advbp.robustness.pipelines import attacked_net

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from sk_advbp._types import Floats, Predictor

    P = TypeVar("P", bound=Predictor)

__all__ = ["as_images", "drawable_shape", "named", "new_axes", "on_screen"]


def drawable_shape(
    sample_shape: int | tuple[int, ...], image_shape: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the shape in which samples can be drawn.

    Parameters
    ----------
    sample_shape : int or tuple of int
        Shape of a sample; the number of its features where it is a row.
    image_shape : tuple of int or None, default=None
        Shape of one image; None takes `sample_shape`, and a square where that is a row.

    Returns
    -------
    shape : (height, width), (height, width, 1 or 3) or (1 or 3, height, width)

    Raises
    ------
    ValueError
        The samples are no such images.

    Examples
    --------
    >>> from sk_advbp.robustness.images import drawable_shape
    >>> drawable_shape(64)
    (8, 8)
    >>> drawable_shape((3, 32, 32))
    (3, 32, 32)
    """
    sample_shape = tuple(np.atleast_1d(sample_shape).tolist())
    n_values = math.prod(sample_shape)
    shape = tuple(image_shape or sample_shape)
    if len(shape) == 1:
        shape = (math.isqrt(n_values),) * 2
    coloured = len(shape) == 3 and (shape[-1] in (1, 3) or shape[0] in (1, 3))
    if not (len(shape) == 2 or coloured) or math.prod(shape) != n_values:
        raise ValueError(
            "only images of shape (height, width), with 1 or 3 colours as the first or last axis, "
            f"can be drawn; a sample here has shape {tuple(image_shape or sample_shape)}"
        )
    return shape


def as_images(X: ArrayLike, image_shape: tuple[int, ...] | None = None) -> Floats:
    """Return samples as images of shape (height, width) or (height, width, 3).

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
    image_shape : tuple of int or None, default=None
        As in `drawable_shape`.

    Returns
    -------
    images : ndarray of shape (n_samples, height, width) or (n_samples, height, width, 3)
    """
    X = np.asarray(X)
    shape = drawable_shape(X.shape[1:], image_shape)
    images = X.reshape(-1, *shape)
    if len(shape) == 3 and shape[-1] not in (1, 3):
        images = np.moveaxis(images, 1, -1)
    return images[..., 0] if images.shape[3:] == (1,) else images


def on_screen(images: Floats, low: float, high: float) -> Floats:
    """Return `images` with the values from `low` to `high` as 0 to 1; others as the ends."""
    return (np.clip(images, low, high) - low) / ((high - low) or 1)


def new_axes(caller: str, **figure_options: Any) -> Axes:
    """Return the axes of a new figure of pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib, which comes with the extra 'plot': "
            'python -m pip install -c constraints.txt -e ".[plot]"'
        ) from error
    return pyplot.subplots(**figure_options)[1]


def named(estimators: Mapping[str, P] | Sequence[P]) -> Mapping[str, P]:
    """Return a dict of name to estimator; a sequence is named by its classes and places."""
    if isinstance(estimators, Mapping):
        return estimators
    names = [type(attacked_net(estimator)[1]).__name__ for estimator in estimators]
    if len(set(names)) < len(names):
        names = [f"{name} {i}" for i, name in enumerate(names, 1)]
    return dict(zip(names, estimators, strict=True))
