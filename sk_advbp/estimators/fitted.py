"""What a fitted estimator tells of itself under the names that scikit-learn's perceptrons have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sk_advbp.core.mlp import MultilayerPerceptron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from sk_advbp._types import Floats
    from sk_advbp.core.mlp import StackedLinear
    from sk_advbp.training.net import AdversarialNet as Net
else:  # a mixin of such a net
    Net = object

__all__ = ["FittedAttributes"]


class FittedAttributes(Net):
    """The fitted attributes of `sklearn.neural_network.MLPClassifier`, as a mixin."""

    @property
    def loss_(self) -> float | None:
        """Mean of the minimised loss in the last epoch."""
        self.check_is_fitted_attribute("loss_")
        return self.loss_curve_[-1] if self.history else None

    @property
    def best_loss_(self) -> float | None:
        """Smallest of `loss_curve_`; None where data were held out, as in scikit-learn."""
        self.check_is_fitted_attribute("best_loss_")
        if self.validation_scores_ or not self.history:
            return None
        return min(self.loss_curve_)

    @property
    def best_validation_score_(self) -> float | None:
        """Largest of `validation_scores_`; None where nothing was held out."""
        self.check_is_fitted_attribute("best_validation_score_")
        return max(self.validation_scores_) if self.validation_scores_ else None

    @property
    def validation_loss_curve_(self) -> list[float] | None:
        """Loss on the held-out data after each epoch; None where nothing was held out."""
        self.check_is_fitted_attribute("validation_loss_curve_")
        return [row["valid_loss"] for row in self.history if "valid_loss" in row] or None

    @property
    def n_outputs_(self) -> int:
        """Number of outputs of the net: one a class, two at least; one a column of y."""
        self.check_is_fitted_attribute("n_outputs_")
        return self._targets.n_outputs

    @property
    def out_activation_(self) -> str:
        """What turns logits into predictions.

        ``"softmax"``, ``"logistic"``, ``"identity"`` or ``"gaussian"``.
        """
        self.check_is_fitted_attribute("out_activation_")
        kind = self._kind_of_output()
        return "logistic" if kind == "multilabel" else kind

    @property
    def n_layers_(self) -> int:
        """Number of layers of the package's perceptron, with input and output."""
        return len(self._layers("n_layers_")) + 1

    @property
    def coefs_(self) -> list[Floats]:
        """Copies of the weights of the package's perceptron, (in, out) layer by layer."""
        return [layer.weight.mT.numpy(force=True).copy() for layer in self._layers("coefs_")]

    @property
    def intercepts_(self) -> list[Floats]:
        """Copies of the biases of the package's perceptron, (out,) layer by layer."""
        return [layer.bias.numpy(force=True).copy() for layer in self._layers("intercepts_")]

    def _layers(self, name: str) -> Sequence[nn.Linear | StackedLinear]:
        """Return the layers of the perceptron; a module of the user's has no such attribute."""
        self.check_is_fitted_attribute(name)
        if not isinstance(self.module_, MultilayerPerceptron):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: its module is a "
                f"{type(self.module_).__name__}"
            )
        return self.module_.layers
