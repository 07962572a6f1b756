"""`AdversarialExamplesDisplay`: images beside what fools a net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sk_advbp.robustness.images import as_images, named, new_axes, on_screen
from sk_advbp.robustness.scores import adversarial_examples
from sk_advbp.training.batches import dense

if TYPE_CHECKING:
    from typing import Self

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from sk_advbp._types import AttackOptions, Classifier, Floats, NamedAttackOptions
    from sk_advbp.core.attacks import Attack

    class Options(NamedAttackOptions, total=False):
        epsilon: ArrayLike | None

    # What stands above an image, and whether it is right.
    Caption = tuple[str, bool]
    Captions = Sequence[Caption]

__all__ = ["AdversarialExamplesDisplay"]


class AdversarialExamplesDisplay:
    """Images, clean and moved, with the perturbation between and the predictions above.

    Made by `from_estimator`, `from_estimators` or `from_predictions`.

    Parameters
    ----------
    clean : ndarray of shape (n_samples, height, width) or (n_samples, height, width, 3)
    adversarial : sequence of n_estimators ndarrays of the shape of `clean`
    captions : sequence of n_estimators pairs of sequences of n_samples pairs (str, bool)
        What stands above each clean and each adversarial image, and whether it is right;
        what is not is red.
    names : sequence of n_estimators str
        What stands beside the rows.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (3 * n_estimators, n_samples)
        Rows clean, perturbation and adversarial for each estimator.
    ax_ : matplotlib.axes.Axes
        Whose place they take.
    figure_ : matplotlib.figure.Figure
    """

    def __init__(
        self,
        *,
        clean: Floats,
        adversarial: Sequence[Floats],
        captions: Sequence[Sequence[Captions]],
        names: Sequence[str],
    ) -> None:
        self.clean = clean
        self.adversarial = adversarial
        self.captions = captions
        self.names = names

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the images.

        Values beyond the range of the clean images are shown as its ends. Of a perturbation
        0 is white, or grey in colour, and the scale is its largest value.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Whose place the images take; None makes a new figure.

        Returns
        -------
        display : AdversarialExamplesDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            `ax` is not one of a grid.
        """
        shape = 3 * len(self.names), len(self.clean)
        if ax is None:
            size = 1.4 + 1.1 * shape[1], 1.4 * shape[0]
            ax = new_axes(type(self).__name__, figsize=size, layout="constrained")
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError("ax must be one of a grid, as plt.subplots() makes them.")
        self.ax_, self.figure_ = ax, ax.figure
        ax.set_axis_off()
        grid = place.subgridspec(*shape)
        self.axes_ = grid.subplots(squeeze=False)
        low, high = self.clean.min(), self.clean.max()
        for i, (name, moved, captions) in enumerate(
            zip(self.names, self.adversarial, self.captions, strict=True)
        ):
            change = moved - self.clean
            largest = np.abs(change).max() or 1
            for axes, kind, images, texts in zip(
                self.axes_[3 * i : 3 * i + 3],
                (f"{name}\nclean", "perturbation", "adversarial"),
                (
                    on_screen(self.clean, low, high),
                    on_screen(change, -largest, largest),
                    on_screen(moved, low, high),
                ),
                (captions[0], None, captions[1]),
                strict=True,
            ):
                draw_row(axes, kind, images, texts)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Classifier,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Self:
        """Attack one fitted estimator and draw the images.

        Parameters
        ----------
        estimator : fitted AdvBPClassifier, or pipeline whose last step is one
        X, y
            As of `from_estimators`.
        name : str or None, default=None
            What stands beside the rows; None: the name of the class.
        **options
            Others of `from_estimators`.

        Returns
        -------
        display : AdversarialExamplesDisplay
        """
        estimators = [estimator] if name is None else {name: estimator}
        return cls.from_estimators(estimators, X, y, **options)

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Classifier] | Sequence[Classifier],
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        epsilon: ArrayLike | None = None,
        attack: Attack = "fgsm",
        attack_options: AttackOptions | None = None,
        image_shape: tuple[int, ...] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Attack fitted estimators and draw the images of each.

        Parameters
        ----------
        estimators : dict of str to estimator, or sequence of estimators
            `AdvBPClassifier`, or pipelines whose last step is one and whose transformers can
            be inverted.
        X : array-like of shape (n_samples, ...)
            A handful of images, as the estimators take them.
        y : array-like of shape (n_samples,) or None, default=None
            True labels; None: those that are predicted of X.
        epsilon : float, array of the shape of one sample, or None, default=None
            In the units that the last step sees; None: that of the training.
        attack : {"fgsm", "pgd"}, default="fgsm"
        attack_options : dict or None, default=None
            Others of `sk_advbp.robustness.adversarial_examples`.
        image_shape : tuple of int or None, default=None
            (height, width), with 1 or 3 colours as the first or last axis; None takes that of
            the samples, and a square where they are rows.
        ax
            As of `plot`.

        Returns
        -------
        display : AdversarialExamplesDisplay

        Raises
        ------
        ValueError
            The samples are no images, or as of `sk_advbp.robustness.adversarial_examples`.
        """
        estimators = named(estimators)
        options: Options = {"epsilon": epsilon, "attack": attack, **(attack_options or {})}
        moved, captions = [], []
        for estimator in estimators.values():
            moved.append(adversarial_examples(estimator, X, y, **options))
            true = estimator.predict(X) if y is None else y
            captions.append(
                [
                    caption(estimator.predict(images), true, estimator.predict_proba(images))
                    for images in (X, moved[-1])
                ]
            )
        display = cls(
            clean=as_images(X, image_shape),
            adversarial=[as_images(images, image_shape) for images in moved],
            captions=captions,
            names=list(estimators),
        )
        return display.plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        X: ArrayLike,
        X_adversarial: ArrayLike,
        y_pred: ArrayLike,
        y_pred_adversarial: ArrayLike,
        *,
        y_true: ArrayLike | None = None,
        y_proba: ArrayLike | None = None,
        y_proba_adversarial: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        name: str = "net",
        ax: Axes | None = None,
    ) -> Self:
        """Draw images that were moved and predicted already, by any classifier.

        Parameters
        ----------
        X, X_adversarial : array-like of shape (n_samples, ...)
        y_pred, y_pred_adversarial : array-like of shape (n_samples,)
            What was predicted of them.
        y_true : array-like of shape (n_samples,) or None, default=None
            True labels; None: `y_pred`.
        y_proba, y_proba_adversarial : array-like of shape (n_samples, n_classes) or None
            Predicted probabilities, of which the largest is shown.
        image_shape, ax
            As of `from_estimators` and `plot`.
        name : str, default="net"
            What stands beside the rows.

        Returns
        -------
        display : AdversarialExamplesDisplay
        """
        y_true = y_pred if y_true is None else y_true
        captions = (
            caption(y_pred, y_true, y_proba),
            caption(y_pred_adversarial, y_true, y_proba_adversarial),
        )
        display = cls(
            clean=as_images(X, image_shape),
            adversarial=[as_images(X_adversarial, image_shape)],
            captions=[captions],
            names=[name],
        )
        return display.plot(ax=ax)


def caption(y_pred: ArrayLike, y_true: ArrayLike, proba: ArrayLike | None = None) -> list[Caption]:
    """Return, for each image, what stands above it and whether that is right."""
    y_pred, y_true = dense(y_pred), dense(y_true)
    if y_pred.ndim == 2:  # several labels an image, each with a probability of its own
        sets = (", ".join(map(str, np.flatnonzero(row))) or "none" for row in y_pred)
        return list(zip(sets, (y_pred == y_true).all(axis=1).tolist(), strict=True))
    shares = [""] * len(y_pred) if proba is None else [f" ({p:.0%})" for p in np.max(proba, axis=1)]
    return [
        (f"{label}{share}", bool(label == true))
        for label, share, true in zip(y_pred, shares, y_true, strict=True)
    ]


def draw_row(
    axes: NDArray[np.object_], title: str, images: Floats, captions: Captions | None = None
) -> None:
    """Draw `images` with values from 0 to 1 into a row of axes; grey is ink on paper."""
    axes[0].set_ylabel(title)
    for i, (ax, image) in enumerate(zip(axes, images, strict=True)):
        signed = captions is None
        ax.imshow(image, cmap="coolwarm" if signed else "gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        if captions is not None:
            text, right = captions[i]
            ax.set_title(text, color="black" if right else "red", fontsize="medium")
