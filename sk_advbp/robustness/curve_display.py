"""Pictures of robustness, in the manner of scikit-learn's displays.

They need matplotlib, the extra ``plot``, which is imported only to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import accuracy_score

from sk_advbp.robustness.images import named, new_axes
from sk_advbp.robustness.scores import robustness_curve

if TYPE_CHECKING:
    from typing import Self

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from sk_advbp._types import (
        Epsilons,
        Labels,
        MatrixLike,
        Predictor,
        ScoreOptions,
    )
    from sk_advbp.core.attacks import Attack

__all__ = ["RobustnessCurveDisplay"]


class RobustnessCurveDisplay:
    """Accuracy under attack over the size of the perturbation.

    Made by `from_estimator`, `from_estimators` or `from_predictions`.

    Parameters
    ----------
    epsilons : array-like of shape (n_epsilons,)
        Sizes of the perturbation.
    accuracies : array-like of shape (n_epsilons,) or (n_curves, n_epsilons)
        In [0, 1].
    names : str, sequence of n_curves str, or None, default=None
        What the legend says; None draws none.

    Attributes
    ----------
    lines_ : list of matplotlib.lines.Line2D
        One a curve.
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    sk_advbp.robustness.robustness_curve : The figures alone.

    Examples
    --------
    >>> from sk_advbp.robustness import RobustnessCurveDisplay
    >>> display = RobustnessCurveDisplay(epsilons=[0, 0.1], accuracies=[0.98, 0.61], names="net")
    >>> display.accuracies.shape
    (1, 2)
    """

    def __init__(
        self,
        *,
        epsilons: ArrayLike,
        accuracies: ArrayLike,
        names: str | Sequence[str] | None = None,
    ) -> None:
        self.epsilons = np.asarray(epsilons)
        self.accuracies = np.atleast_2d(accuracies)
        self.names = [names] if isinstance(names, str) else names

    def plot(self, *, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where; None makes a new figure.
        **kwargs
            To ``Axes.plot``, for every curve.

        Returns
        -------
        display : RobustnessCurveDisplay

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        self.ax_ = new_axes(type(self).__name__) if ax is None else ax
        self.figure_ = self.ax_.figure
        names: Sequence[str | None] = self.names or [None] * len(self.accuracies)
        self.lines_ = [
            self.ax_.plot(self.epsilons, accuracies, **{"marker": ".", "label": name} | kwargs)[0]
            for name, accuracies in zip(names, self.accuracies, strict=True)
        ]
        self.ax_.set(xlabel="ε", ylabel="Accuracy under attack", ylim=(-0.02, 1.02))
        if self.names or "label" in kwargs:
            self.ax_.legend()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Predictor,
        X: MatrixLike,
        y: MatrixLike,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Self:
        """Attack one fitted estimator and draw its curve.

        Parameters
        ----------
        estimator : fitted AdvBPClassifier, or pipeline whose last step is one
        X, y
            As of `from_estimators`.
        name : str or None, default=None
            What the legend says; None: the name of the class.
        **options
            Others of `from_estimators`.

        Returns
        -------
        display : RobustnessCurveDisplay
        """
        estimators = [estimator] if name is None else {name: estimator}
        return cls.from_estimators(estimators, X, y, **options)

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Predictor] | Sequence[Predictor],
        X: MatrixLike,
        y: MatrixLike,
        *,
        epsilons: Epsilons,
        attack: Attack = "pgd",
        attack_options: ScoreOptions | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Attack fitted estimators and draw a curve for each.

        Parameters
        ----------
        estimators : dict of str to estimator, or sequence of estimators
            `AdvBPClassifier`, or pipelines whose last step is one. Their names go to the
            legend; a sequence is named by the classes.
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), or indicator matrix (n_samples, n_labels)
            True labels.
        epsilons : sequence of float
            In the units that the last step sees.
        attack : {"pgd", "fgsm"}, default="pgd"
        attack_options : dict or None, default=None
            Others of `sk_advbp.robustness.adversarial_accuracy_score`.
        ax, **kwargs
            As of `plot`.

        Returns
        -------
        display : RobustnessCurveDisplay
        """
        estimators = named(estimators)
        options: ScoreOptions = {"attack": attack, **(attack_options or {})}
        curves = [robustness_curve(e, X, y, epsilons, **options) for e in estimators.values()]
        display = cls(epsilons=epsilons, accuracies=curves, names=list(estimators))
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: Sequence[ArrayLike] | Labels,
        *,
        epsilons: Epsilons,
        sample_weight: ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curve of predictions that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
        y_pred : array-like of shape (n_epsilons, n_samples)
            What was predicted under the attack of each ε.
        epsilons : sequence of float
        sample_weight : array-like of shape (n_samples,) or None, default=None
        name : str or None, default=None
        ax, **kwargs
            As of `plot`.

        Returns
        -------
        display : RobustnessCurveDisplay
        """
        accuracies = [accuracy_score(y_true, y, sample_weight=sample_weight) for y in y_pred]
        return cls(epsilons=epsilons, accuracies=accuracies, names=name).plot(ax=ax, **kwargs)
