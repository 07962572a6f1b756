"""Adversarial back-propagation of the multilayer perceptron, in closed form.

The paper's step as matrix algebra: no graph is recorded, and the first pass stops at the
input without a gradient of the parameters. Pure functions of tensors; nothing that they
are given is changed.

Notes
-----
With a₀ = m₀ ⊙ xᵀ, f the activation, mᵢ the dropout masks, J the loss::

    hᵢ = f(Wᵢ aᵢ₋₁ + bᵢ)                aᵢ = mᵢ ⊙ hᵢ                     forward
    δ_L = ∂J/∂z                         z = W_L a_{L-1} + b_L            loss_and_delta
    δᵢ = f'(hᵢ) ⊙ mᵢ ⊙ Wᵢ₊₁ᵀ δᵢ₊₁                                        deltas
    ∇ₓJ = m₀ ⊙ δ₁ᵀ W₁                                                    input_gradient
    ∂J/∂Wᵢ = δᵢ aᵢ₋₁ᵀ                   ∂J/∂bᵢ = δᵢ 1                    parameter_gradients

As in these equations, a *sample is a column* in every function but `adversarial_gradients`,
which takes and returns rows. It is more than notation: a softmax down the columns of a
(10, 128) matrix is vectorised over the samples and takes a tenth of the time of one along
the rows of (128, 10), and the products with Wᵢᵀ and aᵀ get the faster layouts.

Every tensor may carry a leading axis of K models, with one loss a model.

References
----------
Arild Nøkland, "Improving Back-Propagation by Adding an Adversarial Gradient",
arXiv:1510.04189.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sk_advbp.core import gaussian
from sk_advbp.core.mixture import OF_MATRICES, Output
from sk_advbp.core.mlp import Activation
from sk_advbp.core.perturbation import Gradient

__all__ = ["adversarial_gradients"]

Network = tuple[Sequence[Tensor], Sequence[Tensor]]
Masks = Sequence[Tensor | None]
Gradients = tuple[Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]]
Pass = tuple[Tensor | None, Tensor, list[Tensor], Iterable[Tensor]]

_aten = torch.ops.aten

# Classes up to which an identity is kept, for the targets: 64 kB in float32.
MOST_CACHED = 128

# name: (f in place, δ ⊙ f'(h) written over δ); every f' here is a function of h = f(z).
ACTIVATIONS: dict[
    Activation, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]
] = {
    "identity": (lambda z: z, lambda delta, h: delta),
    "logistic": (
        torch.sigmoid_,
        lambda delta, h: _aten.sigmoid_backward.grad_input(delta, h, grad_input=delta),
    ),
    "tanh": (
        torch.tanh_,
        lambda delta, h: _aten.tanh_backward.grad_input(delta, h, grad_input=delta),
    ),
    "relu": (
        torch.relu_,
        lambda delta, h: _aten.threshold_backward.grad_input(delta, h, 0, grad_input=delta),
    ),
}


def affine(bias: Tensor, weight: Tensor, h: Tensor) -> Tensor:
    """Return W h + b; what all nets take in alike goes through one product.

    Parameters
    ----------
    bias : torch.Tensor of shape ([K,] out, 1)
    weight : torch.Tensor of shape ([K,] out, in)
    h : torch.Tensor of shape (in, n) or (K, in, n)
    """
    if weight.ndim == 2:
        return torch.addmm(bias, weight, h)
    if h.ndim == 2:
        a = torch.addmm(bias.flatten(0, 1), weight.flatten(0, 1), h)
        return a.view(*weight.shape[:2], -1)
    return torch.baddbmm(bias, weight, h)


def forward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: Activation,
    masks: Masks | None = None,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return what each layer takes in, what the hidden units put out, and the logits.

    Parameters
    ----------
    x : torch.Tensor of shape ([K,] d, n)
        Samples as columns.
    weights : sequence of torch.Tensor of shape ([K,] out, in)
    biases : sequence of torch.Tensor of shape ([K,] out, 1)
    activation : {"identity", "logistic", "tanh", "relu"}
    masks : sequence of torch.Tensor of shape ([K,] in, n) or None, default=None
        Dropout masks of what each layer takes in, scaled by 1/(1 - p); None, alone or in
        the sequence, drops nothing.

    Returns
    -------
    inputs : list of torch.Tensor of shape ([K,] in, n)
        a₀ … a_{L-1}.
    hidden : list of torch.Tensor of shape ([K,] out, n)
        h₁ … h_{L-1}, before the masks.
    logits : torch.Tensor of shape ([K,] m, n)
    """
    f, _ = ACTIVATIONS[activation]
    inputs, hidden = [], []
    h = x
    for i, weight in enumerate(weights):
        if i:
            h = f(h)
            hidden.append(h)
        mask = None if masks is None else masks[i]
        if mask is not None:
            h = in_dtype(h * mask, weight.dtype)
        inputs.append(h)
        h = affine(biases[i], weight, h)
    return inputs, hidden, h


@lru_cache(maxsize=16)
def scaled_identity(m: int, scale: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return scale · I."""
    return torch.eye(m, dtype=dtype, device=device).mul_(scale)


def one_hot(y: Tensor, m: int, scale: float, dtype: torch.dtype) -> Tensor:
    """Return ([K,] m, n), with `scale` in row y of each column and 0 elsewhere.

    Parameters
    ----------
    y : torch.Tensor of shape ([K,] n) of integers
    m : int
    scale : float
    dtype : torch.dtype
    """
    # What is compiled has no cache to look into.
    if m > MOST_CACHED or torch.compiler.is_compiling():
        shape = (*y.shape[:-1], m, y.shape[-1])
        return torch.zeros(shape, dtype=dtype, device=y.device).scatter_(-2, y.unsqueeze(-2), scale)
    # Columns of an identity are cheaper than zeros and a scatter.
    identity = scaled_identity(m, scale, dtype, y.device)
    if y.ndim == 2:
        return identity[:, y].transpose(0, 1).contiguous()
    return identity.index_select(1, y)


def targets(
    y: Tensor,
    sample_weight: Tensor | None,
    output: Output,
    logits_shape: tuple[int, ...],
    dtype: torch.dtype,
) -> tuple[Tensor, float | Tensor]:
    """Return what `loss_and_delta` compares the logits with: prepared once, for both passes.

    Parameters
    ----------
    y : torch.Tensor of shape ([K,] n) of integers
        ([K,] n, m) for ``"multilabel"`` and ``"identity"``, ([K,] n, m/2) for ``"gaussian"``.
    sample_weight : torch.Tensor of shape ([K,] n) or None
    output : {"softmax", "logistic", "multilabel", "identity", "gaussian"}
    logits_shape : tuple ([K,] m, n)
    dtype : torch.dtype

    Returns
    -------
    target : torch.Tensor of shape ([K,] m, n), or ([K,] m/2, n) for ``"gaussian"``
        ``"softmax"``: ∂J/∂(log p), which is -w/Σw at the true class and 0 elsewhere.
        ``"logistic"``: one-hot. ``"multilabel"``, ``"identity"``, ``"gaussian"``: yᵀ.
    weight : float or torch.Tensor of shape ([K,] 1, n)
        w/Σw; zero for a model whose weights are all zero.
    """
    share = 1 / max(logits_shape[-1], 1)
    weight: float | Tensor = share
    if sample_weight is not None:
        total = sample_weight.sum(-1, keepdim=True)
        weight = (sample_weight / total.masked_fill(total == 0, 1)).to(dtype).unsqueeze(-2)
    if output in OF_MATRICES:
        return in_dtype(y.mT, dtype).expand(*logits_shape[:-2], -1, -1), weight
    softmax = output == "softmax"
    scale = 1.0 if not softmax else -share if sample_weight is None else -1.0
    target = one_hot(y, logits_shape[-2], scale, dtype)
    if softmax and sample_weight is not None:
        target = target * weight
    if target.ndim < len(logits_shape):
        target = target.expand(logits_shape)
    return target, weight


def loss_and_delta(
    logits: Tensor,
    target: Tensor,
    weight: float | Tensor,
    output: Output,
    with_loss: bool = True,
) -> tuple[Tensor | None, Tensor]:
    """Return the loss J = Σ w ℓ / Σ w and δ = ∂J/∂logits.

    Parameters
    ----------
    logits : torch.Tensor of shape ([K,] m, n)
    target, weight
        From `targets`.
    output : {"softmax", "logistic", "multilabel", "identity", "gaussian"}
        ℓ is the cross-entropy; the binary cross-entropy summed over the classes, or over the
        labels; the squared error, or the negative log likelihood of a Gaussian, averaged over
        the numbers.
    with_loss : bool, default=True
        False returns None for the loss, which the first pass has no use for.

    Returns
    -------
    loss : torch.Tensor of shape () or (K,), or None
    delta : torch.Tensor of shape ([K,] m, n)
    """
    losses = None
    if output == "softmax":
        log_p = logits.log_softmax(-2)
        delta = torch._log_softmax_backward_data(target, log_p, logits.ndim - 2, logits.dtype)
        if with_loss:
            losses = log_p.mul_(target)
    elif output in ("logistic", "multilabel"):
        delta = logits.sigmoid().sub_(target).mul_(weight)
        if with_loss:
            losses = binary_cross_entropy_with_logits(logits, target, reduction="none")
            losses = losses.mul_(weight)
    elif output == "gaussian":
        share = weight * (1 / target.shape[-2])
        moments = gaussian.mean_and_variance(logits, -2)
        delta = gaussian.delta(logits, *moments, target).mul_(share)
        if with_loss:
            losses = gaussian.loss(*moments, target).mul_(share)
    else:
        residual = logits - target
        delta = residual * (weight * (2 / logits.shape[-2]))
        if with_loss:
            losses = residual.mul_(delta).mul_(0.5)
    return (None if losses is None else losses.sum((-2, -1))), delta


def deltas(
    delta: Tensor,
    weights: Sequence[Tensor],
    hidden: Sequence[Tensor],
    activation: Activation,
    masks: Masks | None = None,
) -> Iterator[Tensor]:
    """Yield δ_L, δ_{L-1}, … δ₁, from the output down.

    Parameters
    ----------
    delta : torch.Tensor of shape ([K,] m, n)
        δ_L, from `loss_and_delta`.
    weights, activation, masks
        As `forward` got them.
    hidden : list of torch.Tensor
        From `forward`.
    """
    _, times_derivative = ACTIVATIONS[activation]
    yield delta
    for i in range(len(weights) - 1, 0, -1):
        delta = weights[i].mT @ delta
        mask = None if masks is None else masks[i]
        if mask is not None:
            delta.mul_(mask)
        delta = times_derivative(delta, hidden[i - 1])
        yield delta


def input_gradient(
    deltas: Iterable[Tensor], weights: Sequence[Tensor], masks: Masks | None = None
) -> Tensor:
    """Return ∇ₓJ with samples as rows, ([K,] n, d), from the `deltas` of a pass."""
    *_, delta = deltas
    gradient = delta.mT @ weights[0]
    if masks is not None and masks[0] is not None:
        gradient.mul_(masks[0].mT)
    return gradient


def parameter_gradients(
    deltas: Iterable[Tensor], inputs: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the lists ∂J/∂Wᵢ, ([K,] out, in), and ∂J/∂bᵢ, ([K,] out), first layer first."""
    weight_gradients, bias_gradients = [], []
    for delta, a in zip(deltas, reversed(inputs), strict=True):
        weight_gradients.append(delta @ a.mT)
        bias_gradients.append(delta.sum(-1))
    return weight_gradients[::-1], bias_gradients[::-1]


def in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``tensor.to(dtype)``; on small nets the call costs too much where it does nothing."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)


def propagate(
    x: Tensor,
    network: Network,
    activation: Activation,
    objective: tuple[Tensor, float | Tensor, Output],
    masks: Masks | None = None,
    with_loss: bool = True,
) -> Pass:
    """Go forward and prepare to go back, in the dtype of `network`, from rows.

    The loss is taken in the dtype of the target: only matrix products and hidden units
    need be of low precision.

    Parameters
    ----------
    x : torch.Tensor of shape ([K,] n, d)
    network : tuple (weights, biases)
        As `forward` takes them.
    activation, masks
        As `forward` takes them.
    objective : tuple (target, weight, output)
        As `loss_and_delta` takes them.
    with_loss : bool, default=True

    Returns
    -------
    loss : torch.Tensor or None
    logits : torch.Tensor of shape ([K,] m, n)
    inputs : list of torch.Tensor
        From `forward`.
    descent : generator
        `deltas`, not yet computed.
    """
    weights, _ = network
    dtype = weights[0].dtype
    inputs, hidden, logits = forward(in_dtype(x.mT, dtype), *network, activation, masks)
    logits = in_dtype(logits, objective[0].dtype)
    loss, delta = loss_and_delta(logits, *objective, with_loss=with_loss)
    delta = in_dtype(delta, dtype)
    return loss, logits, inputs, deltas(delta, weights, hidden, activation, masks)


def cast(network: Network, dtype: torch.dtype | None) -> Network:
    """Return `network` with its weights and biases in `dtype`; None leaves it as it is."""
    if dtype is None:
        return network
    weights, biases = network
    return [w.to(dtype) for w in weights], [b.to(dtype) for b in biases]


def columns(masks: Masks | None) -> Masks | None:
    """Return the `masks` of `adversarial_gradients` with samples as columns."""
    return masks and [mask if mask is None else mask.mT for mask in masks]


def mixed(adversarial: Gradients, clean: Gradients, clean_weight: float) -> Gradients:
    """Return loss and gradients (1 - c) · adversarial + c · clean, logits of the first."""
    loss, logits, weight_gradients, bias_gradients = adversarial
    clean_loss, _, *clean_gradients = clean
    for ours, theirs in zip((weight_gradients, bias_gradients), clean_gradients, strict=True):
        for g, clean_g in zip(ours, theirs, strict=True):
            g.lerp_(clean_g, clean_weight)
    return loss.lerp(clean_loss, clean_weight), logits, weight_gradients, bias_gradients


@torch.no_grad()
def adversarial_gradients(
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    activation: Activation,
    output: Output,
    perturb: Callable[[Gradient, Tensor], Tensor] | None = None,
    sample_weight: Tensor | None = None,
    clean_weight: float = 0.0,
    masks: Masks | None = None,
    perturbation_masks: Masks | None = None,
    clean_masks: Masks | None = None,
    perturbation_dtype: torch.dtype | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Gradients:
    """Return the loss of adversarial back-propagation and its gradients.

    (1 - c) J(x') + c J(x), with x' = perturb(∇ₓJ, x) held constant and c the `clean_weight`.

    Parameters
    ----------
    x : torch.Tensor of shape ([K,] n, d)
        A mini-batch, samples as rows. Without the axis K it serves all models alike.
    y : torch.Tensor of shape ([K,] n) of integers, or ([K,] n, m)
        Classes 0 … m-1. For ``output="multilabel"`` 1 where a row has the label, else 0; for
        ``output="identity"`` the targets of the regression; for ``"gaussian"`` ([K,] n, m/2).
    weights : sequence of torch.Tensor of shape ([K,] out, in)
        First layer first.
    biases : sequence of torch.Tensor of shape ([K,] out)
    activation : {"identity", "logistic", "tanh", "relu"}
        Of the hidden units.
    output : {"softmax", "logistic", "multilabel", "identity", "gaussian"}
        Cross-entropy; binary cross-entropy of one logistic unit a class, summed over the
        classes; the same of several labels a row; squared error averaged over the outputs;
        negative log likelihood of a Gaussian, averaged over the numbers, of which the outputs
        are the means, then what `sk_advbp.core.gaussian` makes the variances of.
    perturb : callable or None, default=None
        Maps (gradient, x) to x', where gradient(x) is ∇ₓJ at x. None is plain
        back-propagation: one pass, with `masks`, whatever the `clean_weight`.
    sample_weight : torch.Tensor of shape ([K,] n) or None, default=None
        J = Σ w ℓ / Σ w, so that rows of weight 0 are padding; they must be finite.
    clean_weight : float in [0, 1], default=0.0
        Share of the loss at x. With 1, x' is not computed.
    masks, perturbation_masks, clean_masks : sequence of torch.Tensor or None, default=None
        Dropout masks of the update pass, of the first pass, and of the pass at x: one of
        shape ([K,] n, in), or None, for what each layer takes in, scaled by 1/(1 - p). The
        transpose of a contiguous ([K,] in, n) is the layout without a strided access.
    perturbation_dtype : torch.dtype or None, default=None
        Of the hidden units and matrix products of the first pass; the gradient returns in
        the dtype of x. None: as `compute_dtype`.
    compute_dtype : torch.dtype or None, default=None
        The same for the other passes; the gradients return in the dtype of the weights.
        None: that of the weights.

    Returns
    -------
    loss : torch.Tensor of shape () or (K,)
    logits : torch.Tensor of shape ([K,] n, m)
        At x'; at x where x' is not computed. A transposed view.
    weight_gradients : list of torch.Tensor of shape ([K,] out, in)
    bias_gradients : list of torch.Tensor of shape ([K,] out)

    Notes
    -----
    Differs from the paper: `clean_weight`, `sample_weight` and the dtypes are ours; their
    defaults are the paper's rule.

    References
    ----------
    arXiv:1510.04189.

    Examples
    --------
    >>> import torch
    >>> from sk_advbp.core import adversarial_gradients
    >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> loss, *_, bias_gradients = adversarial_gradients(
    ...     x, y, [torch.zeros(2, 2)], [torch.zeros(2)], activation="relu", output="softmax"
    ... )
    >>> loss
    tensor(0.6931)
    >>> bias_gradients
    [tensor([-0.5000,  0.5000])]
    """
    logits_shape = (*biases[-1].shape, x.shape[-2])
    rows = x
    if len(logits_shape) > x.ndim:
        x = x.expand(logits_shape[0], *x.shape)  # each net moves its own
    network = (weights, [b.unsqueeze(-1) for b in biases])
    objective = (*targets(y, sample_weight, output, logits_shape, x.dtype), output)
    update = cast(network, compute_dtype)

    def gradients(
        loss: Tensor | None, logits: Tensor, inputs: list[Tensor], descent: Iterable[Tensor]
    ) -> Gradients:
        assert loss is not None  # only the first pass may go without
        parameters = parameter_gradients(descent, inputs)
        return loss, logits.mT, *cast(parameters, compute_dtype and weights[0].dtype)

    def gradients_at(x: Tensor, masks: Masks | None) -> Gradients:
        return gradients(*propagate(x, update, activation, objective, columns(masks)))

    if perturb is None:
        return gradients_at(rows, masks)
    if clean_weight == 1:
        return gradients_at(rows, clean_masks)
    first = cast(network, perturbation_dtype) if perturbation_dtype else update
    first_masks = columns(perturbation_masks)
    # The first pass then is the clean one too, and lacks only the parameter gradients.
    shared = bool(clean_weight and first is update and perturbation_masks is clean_masks)
    passes: dict[str, Pass] = {}

    def gradient(point: Tensor) -> Tensor:
        # Before they are moved, the rows are the same for all nets.
        loss, logits, inputs, descent = propagate(
            rows if point is x else point, first, activation, objective, first_masks, shared
        )
        if shared and point is x:
            descent = list(descent)
            passes["clean"] = loss, logits, inputs, descent
        return in_dtype(input_gradient(descent, first[0], first_masks), x.dtype)

    adversarial = gradients_at(perturb(gradient, x), masks)
    if not clean_weight:
        return adversarial
    clean = gradients(*passes["clean"]) if passes else gradients_at(rows, clean_masks)
    return mixed(adversarial, clean, clean_weight)
