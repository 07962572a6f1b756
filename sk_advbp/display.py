"""Pictures of what the nets see. Needs matplotlib, which is imported only to draw."""

import math

import numpy as np

__all__ = ["draw_examples", "drawable_shape"]


def drawable_shape(n_features, image_shape=None):
    """Return the shape in which rows of `n_features` values can be drawn.

    Parameters
    ----------
    n_features : int
    image_shape : tuple of int or None, default=None
        Shape of one image; None takes a square.

    Returns
    -------
    shape : (height, width) or (height, width, 3)

    Raises
    ------
    ValueError
        The rows are no such images.

    Examples
    --------
    >>> from sk_advbp.display import drawable_shape
    >>> drawable_shape(64)
    (8, 8)
    """
    side = math.isqrt(n_features)
    shape = tuple(image_shape or (side, side))
    grey = shape[:2] if shape[2:] in ((), (1,)) else None
    shape = shape if shape[2:] == (3,) else grey
    if shape is None or math.prod(shape) != n_features:
        raise ValueError(
            "only images of shape (height, width) or (height, width, 3) can be drawn; "
            f"a sample here has shape {image_shape or (n_features,)}"
        )
    return shape


def draw_examples(nets, X, y, *, epsilon, image_shape=None):
    """Draw images, clean and moved against each net, with what the net takes them for.

    Parameters
    ----------
    nets : dict of str to fitted AdvBPClassifier
        The names stand beside the rows of the picture.
    X : ndarray of shape (n_samples, n_features)
        A handful of images, one a column of the picture.
    y : ndarray of shape (n_samples,)
        Their true labels. A prediction that differs is shown in red.
    epsilon : float
        Size of the perturbation (FGSM), in the units of `X`.
    image_shape : tuple of int or None, default=None
        As in `drawable_shape`.

    Returns
    -------
    figure : matplotlib.figure.Figure
        One row of clean and one of adversarial images for each net. Values beyond the range
        of `X` are shown as its ends.
    """
    from matplotlib.figure import Figure

    shape = drawable_shape(X.shape[1], image_shape)
    rows = []
    for name, net in nets.items():
        moved = net.adversarial_examples(X, y, epsilon=epsilon, attack="fgsm")
        rows += [(f"{name} net\nclean", net, X), (f"{name} net\nunder FGSM", net, moved)]
    figure = Figure(figsize=(1.2 + 1.1 * len(X), 1.35 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(X), squeeze=False)
    low, high = X.min(), X.max()
    for axes, (title, net, images) in zip(grid, rows, strict=True):
        axes[0].set_ylabel(title)
        shown = (np.clip(images, low, high) - low) / ((high - low) or 1)
        for ax, image, label, true in zip(axes, shown, net.predict(images), y, strict=True):
            ax.imshow(image.reshape(shape), cmap="gray_r", vmin=0, vmax=1)
            ax.set_title(str(label), color="black" if label == true else "red")
            ax.set(xticks=[], yticks=[])
    figure.suptitle(f"epsilon = {epsilon:g}; above each image the prediction, red when wrong")
    return figure
