"""The multilayer perceptron, one net or several: layers, initialisation, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from sk_advbp.core.mixture import Output, mixture

__all__ = ["ACTIVATIONS", "MultilayerPerceptron"]

Activation = Literal["identity", "logistic", "tanh", "relu"]

# Modules, so that tools which hook into a net see what its units put out.
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
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


class StackedLinear(nn.Module):
    """The affine maps of K nets, each with weights of its own.

    Parameters
    ----------
    n_nets, in_features, out_features : int
    dtype : torch.dtype or None, default=None

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (K, out, in)
    bias : torch.nn.Parameter of shape (K, out)
        Both not initialised.

    Examples
    --------
    >>> import torch
    >>> from sk_advbp.core.mlp import StackedLinear
    >>> StackedLinear(5, 4, 3)(torch.zeros(2, 4)).shape
    torch.Size([5, 2, 3])
    """

    def __init__(
        self, n_nets: int, in_features: int, out_features: int, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.n_nets, self.in_features, self.out_features = n_nets, in_features, out_features
        self.weight = nn.Parameter(torch.empty(n_nets, out_features, in_features, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(n_nets, out_features, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b of each net.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_features) or (K, n, in_features)
            Without the axis K it serves all nets, by one product.

        Returns
        -------
        a : torch.Tensor of shape (K, n, out_features)
        """
        if x.ndim == 2:
            a = linear(x, self.weight.flatten(0, 1), self.bias.flatten())
            return a.view(len(x), self.n_nets, self.out_features).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)

    def extra_repr(self) -> str:
        """Return the sizes, for ``repr``."""
        return f"{self.n_nets}, {self.in_features}, {self.out_features}"


class MultilayerPerceptron(nn.Module):
    """A fully connected feed-forward network that returns logits, or several that answer as one.

    Parameters
    ----------
    in_features : int
        Number of features of X.
    out_features : int
        Number of outputs: one a class, or as many as `output` needs.
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
    n_nets : int or None, default=None
        K nets with weights of their own, drawn one net after the other. None: one, without the
        axis of nets.
    output : {"softmax", "logistic", "multilabel", "identity", "gaussian"}, default="softmax"
        What the outputs stand for, which decides how those of several nets become one.

    Attributes
    ----------
    layers : torch.nn.ModuleList of torch.nn.Linear
        Weights (out, in), initially uniform with a bound that fits `activation` (Glorot
        for ``"tanh"`` and ``"identity"``, four times Glorot for ``"logistic"``, He for
        ``"relu"``; Glorot for the output layer), and biases (out,), initially uniform in
        ±1/√in_features (±1 for ``"tanh"``), zero in the output layer. Of K nets weights
        (K, out, in) and biases (K, out).
    activations : torch.nn.ModuleList
        One module after each hidden layer.

    Notes
    -----
    With a = W h + b the input of a layer of units and f the activation, h' = f(a), and
    the last a are the logits.

    Of several nets, in training mode x is (n, in_features) or (K, n, in_features) and the logits
    are those of all nets, (K, n, out_features). In evaluation mode they are one output
    (n, out_features) that stands for the mean of their probabilities: see
    `sk_advbp.core.mixture`.

    Examples
    --------
    >>> import torch
    >>> from sk_advbp.core import MultilayerPerceptron
    >>> MultilayerPerceptron(4, 3, (8,))(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    >>> several = MultilayerPerceptron(4, 3, (8,), n_nets=5)
    >>> several(torch.zeros(2, 4)).shape, several.eval()(torch.zeros(2, 4)).shape
    (torch.Size([5, 2, 3]), torch.Size([2, 3]))
    """

    layers: Sequence[nn.Linear | StackedLinear]
    activations: Sequence[nn.Module]

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
        n_nets: int | None = None,
        output: Output = "softmax",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.generator = generator
        self.n_nets = n_nets
        self.output = output
        sizes = [in_features, *hidden_layer_sizes, out_features]
        self.layers = nn.ModuleList(  # type: ignore[assignment]  # which does not say what of
            # nn.Linear would draw its weights from the global generator.
            nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=dtype)
            if n_nets is None
            else StackedLinear(n_nets, fan_in, fan_out, dtype=dtype)
            for fan_in, fan_out in pairwise(sizes)
        )
        self.activations = nn.ModuleList(  # type: ignore[assignment]
            ACTIVATIONS[activation]() for _ in hidden_layer_sizes
        )
        self.reset_parameters()

    @classmethod
    def from_nets(cls, nets: Sequence[MultilayerPerceptron]) -> MultilayerPerceptron:
        """Return one perceptron of several nets, from single ones.

        Parameters
        ----------
        nets : sequence of MultilayerPerceptron
            With the same layers; their weights are copied.

        Returns
        -------
        several : MultilayerPerceptron
        """
        first = nets[0]
        sizes = [layer.in_features for layer in first.layers]
        stacked = cls(
            sizes[0],
            first.layers[-1].out_features,
            sizes[1:],
            first.activation,
            first.dropout,
            first.input_dropout,
            generator=Generator(),  # what it draws is overwritten
            n_nets=len(nets),
            output=first.output,
        )
        states = [net.state_dict() for net in nets]
        state = {name: torch.stack([s[name] for s in states]) for name in states[0]}
        stacked.load_state_dict(state, assign=True)
        return stacked

    def nets(self) -> list[MultilayerPerceptron]:
        """Return each net as a perceptron of its own.

        Returns
        -------
        singles : list of MultilayerPerceptron
            With copies of the weights.
        """
        if self.n_nets is None:
            return [self]
        sizes = [layer.in_features for layer in self.layers]
        singles = []
        for k in range(self.n_nets):
            single = MultilayerPerceptron(
                sizes[0],
                self.layers[-1].out_features,
                sizes[1:],
                self.activation,
                self.dropout,
                self.input_dropout,
                generator=Generator(),
                output=self.output,
            )
            state = {name: value[k].clone() for name, value in self.state_dict().items()}
            single.load_state_dict(state, assign=True)
            singles.append(single.train(self.training))
        return singles

    @torch.no_grad()
    def reset_parameters(self, generators: Sequence[Generator | None] | None = None) -> None:
        """Draw weights and biases anew, of one net after the other.

        Parameters
        ----------
        generators : sequence of K torch.Generator, or None, default=None
            One for each net; None: `generator` for all.
        """
        generators = generators or [self.generator] * (self.n_nets or 1)
        for k, generator in enumerate(generators):
            for layer in self.layers:
                of_net = layer.weight, layer.bias
                weight, bias = of_net if self.n_nets is None else (p[k] for p in of_net)
                self._draw(layer, weight, bias, generator)

    def _draw(
        self,
        layer: nn.Linear | StackedLinear,
        weight: Tensor,
        bias: Tensor,
        generator: Generator | None,
    ) -> None:
        """Draw the initial `weight` and `bias` of one net in a layer."""
        is_output = layer is self.layers[-1]
        bound_of = glorot if is_output else INITIAL_BOUNDS[self.activation]
        bound = bound_of(layer.in_features, layer.out_features)
        weight.uniform_(-bound, bound, generator=generator)
        if is_output:
            bias.zero_()
        else:
            # The author's later code has ±1/√fan_in. With biases near zero a net of tanh
            # units begins as an odd function, and is slow to learn anything else.
            bound = 1 if self.activation == "tanh" else 1 / math.sqrt(layer.in_features)
            bias.uniform_(-bound, bound, generator=generator)

    def dropout_masks(self, x: Tensor) -> list[Tensor | None]:
        """Draw one mask for the input of each layer; None where nothing is dropped.

        Parameters
        ----------
        x : torch.Tensor of shape ([K,] n, in_features)
            Gives the number of rows, dtype and device.

        Returns
        -------
        masks : list of (torch.Tensor of shape ([K,] n, in_features of the layer) or None)
            Of several nets each has its own.
        """
        if not self.training:
            return [None] * len(self.layers)
        rates = [self.input_dropout] + [self.dropout] * (len(self.layers) - 1)
        rows = (x.shape[-2],) if self.n_nets is None else (self.n_nets, x.shape[-2])
        return [
            dropout_mask(x.new_empty(()).expand(*rows, layer.in_features), rate, self.generator)
            for layer, rate in zip(self.layers, rates, strict=True)
        ]

    def outputs(self, x: Tensor) -> Tensor:
        """Return the logits of every net, in training and evaluation mode.

        Parameters
        ----------
        x : torch.Tensor of shape ([K,] n, in_features)

        Returns
        -------
        logits : torch.Tensor of shape ([K,] n, out_features)
        """
        masks = self.dropout_masks(x)
        # Looked up once: on a few rows to find `layers[-1]` takes as long as to multiply by it.
        layers = list(self.layers)
        h = x
        for layer, f, mask in zip(layers, self.activations, masks, strict=False):
            h = f(layer(dropped(h, mask)))
        logits: Tensor = layers[-1](dropped(h, masks[-1]))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`; of several nets in evaluation mode those of the mixture.

        Parameters
        ----------
        x : torch.Tensor of shape ([K,] n, in_features)

        Returns
        -------
        logits : torch.Tensor of shape ([K,] n, out_features)
        """
        logits = self.outputs(x)
        if self.n_nets is None or self.training:
            return logits
        return mixture(logits, self.output)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": None}
