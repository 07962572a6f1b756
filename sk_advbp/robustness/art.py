"""The bridge to the Adversarial Robustness Toolbox (ART), imported only when it is crossed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Literal

from sklearn.base import is_classifier
from torch import Tensor, nn

from sk_advbp.robustness.pipelines import attacked_net
from sk_advbp.training.outputs import first_output

if TYPE_CHECKING:
    from art.estimators.classification import PyTorchClassifier

    from sk_advbp._types import Clip, Predictor

__all__ = ["to_art"]


class ReducedLoss:
    """A criterion with one loss a row, under the `reduction` that ART sets it to."""

    def __init__(self, criterion: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.reduction = "mean"
        self._criterion = criterion

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of `logits`; `target` are labels, or one-hot rows of them."""
        losses = self._criterion(logits, target.argmax(1) if target.ndim == 2 else target)
        return losses if self.reduction == "none" else getattr(losses, self.reduction)()


class InFloat32(nn.Module):
    """A module that takes what attacks hand over, float64 too, and leaves it as it is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        return first_output(self.module(x.float().clone()))


def to_art(
    estimator: Predictor,
    clip_values: Clip | Literal["same"] | None = "same",
    image_shape: tuple[int, ...] | None = None,
) -> PyTorchClassifier:
    """Return the Adversarial Robustness Toolbox's classifier over a fitted net.

    Its attacks (APGD, Square and many more) then run on our nets. It takes float arrays, which
    it computes with in float32, in the units that the net itself sees.

    Parameters
    ----------
    estimator : AdvBPClassifier, or a pipeline or search whose last step is one
        Fitted. Of a pipeline the last step alone is wrapped: transform the data first.
    clip_values : tuple (low, high), None or "same", default="same"
        Bounds of the data, numbers or arrays of the shape of one sample. ``"same"``: the
        estimator's `clip`. Beware: ART pulls values from outside into them, which our
        `clip`, as a bound of the perturbation, never does.
    image_shape : tuple of int or None, default=None
        Shape in which the classifier takes its samples, for the attacks that are for images
        alone, such as Square: (channels, height, width). None: that of ``fit``.

    Returns
    -------
    classifier : art.estimators.classification.PyTorchClassifier
        Over a float32 copy of ``module_``, with the loss of the training and on the device
        of the estimator. Its labels are the indices of ``classes_``.

    Raises
    ------
    ImportError
        The Adversarial Robustness Toolbox is not installed.
    TypeError
        There is no classifier of this package at the end of `estimator`.
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    ValueError
        It was fitted to several labels a row.

    References
    ----------
    Maria-Irina Nicolae et al., "Adversarial Robustness Toolbox v1.0.0", arXiv:1807.01069.
    """
    try:
        from art.estimators.classification import PyTorchClassifier
    except ImportError as error:
        raise ImportError(
            "to_art needs the Adversarial Robustness Toolbox, which comes with the extra "
            "'attacks': python -m pip install -c constraints.txt -e \".[attacks]\""
        ) from error
    _, net = attacked_net(estimator)
    if not is_classifier(net):
        raise TypeError(f"to_art wraps classifiers. Got {net!r}.")
    net.check_is_fitted()
    if net._kind_of_output() == "multilabel":
        raise ValueError("to_art is for one label a row: ART's attacks know no indicator matrix.")
    loss = deepcopy(net.criterion_).float()
    if type(loss) is nn.CrossEntropyLoss:
        loss.reduction = "mean"  # ART knows it, and that it takes labels
    else:
        loss = ReducedLoss(loss)
    module: nn.Module = InFloat32(deepcopy(net.module_).float())
    if image_shape is not None:
        module = nn.Sequential(nn.Flatten(), nn.Unflatten(1, net.sample_shape_), module)
    return PyTorchClassifier(
        model=module.eval(),
        loss=loss,
        input_shape=image_shape or net.sample_shape_,
        nb_classes=net._targets.n_outputs,
        clip_values=net._reach.clip if isinstance(clip_values, str) else clip_values,
        device_type="gpu" if net.device_.startswith("cuda") else "cpu",
    )
