"""The multilayer perceptron: layers, activations, initialisation, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

__all__ = ["ACTIVATIONS", "MultilayerPerceptron"]

Activation = Literal["identity", "logistic", "tanh", "relu"]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "identity": lambda a: a,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}


def glorot(fan_in: int, fan_out: int) -> float:
    """Return the bound of Glorot & Bengio 2010."""
    return math.sqrt(6 / (fan_in + fan_out))


# Bounds of the uniform initialisation, as functions of (fan_in, fan_out), that keep the
# variance of activations and deltas about the same from layer to layer.
INITIAL_BOUNDS: dict[Activation, Callable[[int, int], float]] = {
    # Glorot & Bengio 2010: four times wider for the logistic function, whose slope at
    # zero is a quarter of that of tanh.
    "logistic": lambda fan_in, fan_out: 4 * glorot(fan_in, fan_out),
    "tanh": glorot,
    "identity": glorot,
    # He et al. 2015: a rectifier passes on half of the variance.
    "relu": lambda fan_in, fan_out: math.sqrt(6 / fan_in),
}


def dropout_mask(
    shape_like: Tensor, rate: float, generator: Generator | None = None
) -> Tensor | None:
    """Return a mask that is 0 with probability `rate`, else 1 / (1 - rate).

    Parameters
    ----------
    shape_like : torch.Tensor
        Gives shape, dtype and device.
    rate : float in [0, 1)
    generator : torch.Generator or None

    Returns
    -------
    mask : torch.Tensor of the shape of `shape_like`; None where `rate` is 0
    """
    if not rate:
        return None
    mask = torch.empty_like(shape_like, memory_format=torch.contiguous_format)
    # On the processor bernoulli_ takes three times as long.
    return mask.uniform_(generator=generator).ge_(rate).div_(1 - rate)


def dropped(h: Tensor, mask: Tensor | None) -> Tensor:
    """Return `h` under the mask; None drops nothing."""
    return h if mask is None else h * mask


class MultilayerPerceptron(nn.Module):
    """A fully connected feed-forward network that returns logits.

    Parameters
    ----------
    in_features : int
        Number of features of X.
    out_features : int
        Number of outputs: one a class.
    hidden_layer_sizes : sequence of int, default=(100,)
        Number of units of each hidden layer. Empty: a linear model.
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        Of the hidden layers.
    dropout : float in [0, 1), default=0.0
        Rate at which hidden units are dropped in training mode.
    input_dropout : float in [0, 1), default=0.0
        The same for the features.
    generator : torch.Generator or None, default=None
        Source of the initial weights and of the dropout masks; None is torch's global one.
        It is not part of a copy or pickle of the module.
    dtype : torch.dtype or None, default=None
        Of the weights; None is torch's default.

    Attributes
    ----------
    layers : torch.nn.ModuleList of torch.nn.Linear
        Weights (out, in), initially uniform with a bound that fits `activation` (Glorot
        for ``"tanh"`` and ``"identity"``, four times Glorot for ``"logistic"``, He for
        ``"relu"``; Glorot for the output layer), and biases (out,), initially uniform in
        ±1/√in_features (±1 for ``"tanh"``), zero in the output layer.

    Notes
    -----
    With a = W h + b the input of a layer of units and f the activation, h' = f(a), and
    the last a are the logits.

    Examples
    --------
    >>> import torch
    >>> from sk_advbp.core import MultilayerPerceptron
    >>> MultilayerPerceptron(4, 3, (8,))(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    layers: Sequence[nn.Linear]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_layer_sizes: Sequence[int] = (100,),
        activation: Activation = "relu",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.generator = generator
        sizes = [in_features, *hidden_layer_sizes, out_features]
        # nn.Linear would draw its weights from the global generator.
        self.layers = nn.ModuleList(  # type: ignore[assignment]  # which does not say what of
            nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=dtype)
            for fan_in, fan_out in pairwise(sizes)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases anew."""
        output = self.layers[-1]
        for layer in self.layers:
            bound_of = glorot if layer is output else INITIAL_BOUNDS[self.activation]
            bound = bound_of(layer.in_features, layer.out_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=self.generator)
            if layer is output:
                nn.init.zeros_(layer.bias)
            else:
                # The author's later code has ±1/√fan_in. With biases near zero a net of tanh
                # units begins as an odd function, and is slow to learn anything else.
                bound = 1 if self.activation == "tanh" else 1 / math.sqrt(layer.in_features)
                nn.init.uniform_(layer.bias, -bound, bound, generator=self.generator)

    def dropout_masks(self, x: Tensor) -> list[Tensor | None]:
        """Draw one mask for the input of each layer; None where nothing is dropped.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_features)
            Gives the number of rows, dtype and device.

        Returns
        -------
        masks : list of (torch.Tensor of shape (n, in_features of the layer) or None)
        """
        if not self.training:
            return [None] * len(self.layers)
        rates = [self.input_dropout] + [self.dropout] * (len(self.layers) - 1)
        return [
            dropout_mask(x.new_empty(()).expand(len(x), layer.in_features), rate, self.generator)
            for layer, rate in zip(self.layers, rates, strict=True)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_features)

        Returns
        -------
        logits : torch.Tensor of shape (n, out_features)
        """
        f = ACTIVATIONS[self.activation]
        *hidden, output = zip(self.layers, self.dropout_masks(x), strict=True)
        h = x
        for layer, mask in hidden:
            h = f(layer(dropped(h, mask)))
        layer, mask = output
        logits: Tensor = layer(dropped(h, mask))
        return logits

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None}
