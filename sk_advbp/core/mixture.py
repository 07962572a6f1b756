"""The answer of several nets as one: the mean of their probabilities, or of their numbers.

Pure functions of tensors. The nets are the first axis, the outputs (classes) the axis `dim`.

Notes
-----
With zₖ the output of net k of K, pₖ its probabilities and σ the logistic function::

    log pₖ = log softmax(zₖ)                   softmax              log_probabilities
    log pₖ = log softmax(log σ(zₖ))            logistic
    log pₖ = log σ(zₖ)                         multilabel
    p̄ = (p₁ + … + p_K) / K                                          log_mean
    z̄ = log p̄                                  softmax              mixture
    z̄ = log p̄ - log(1 - p̄)                     logistic, multilabel
    z̄ = (z₁ + … + z_K) / K                     identity
    z̄ = (μ̄, s̄) of `sk_advbp.core.gaussian`     gaussian

so that z̄, put through the map from one net's output to its probabilities, gives p̄. All of it is
computed from logarithms: nothing overflows, and no small probability is lost. Of several labels
each has a probability of its own, and log(1 - pₖ) = log σ(-zₖ).

References
----------
Balaji Lakshminarayanan, Alexander Pritzel and Charles Blundell, "Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles", NIPS 2017, arXiv:1612.01474.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sk_advbp.core import gaussian

__all__ = ["OF_MATRICES", "Output", "mixture", "mixture_deltas", "n_units"]

Output = Literal["softmax", "logistic", "multilabel", "identity", "gaussian"]

# Those whose target is a matrix of numbers or of 0 and 1, in place of one label a row.
OF_MATRICES: tuple[Output, ...] = ("multilabel", "identity", "gaussian")


def n_units(n_outputs: int, output: Output) -> int:
    """Return the number of units of the output layer: a Gaussian has two for each number."""
    return 2 * n_outputs if output == "gaussian" else n_outputs


def log_probabilities(z: Tensor, output: Output, dim: int = -1) -> Tensor:
    """Return log p of each net: ``"softmax"`` or ``"logistic"`` outputs, normalised."""
    return (logsigmoid(z) if output == "logistic" else z).log_softmax(dim)


def log_mean(log_p: torch.Tensor) -> Tensor:
    """Return log p̄, the nets' axis gone."""
    return log_p.logsumexp(0) - math.log(len(log_p))


def log_complement(log_p: Tensor, dim: int = -1) -> Tensor:
    """Return log(1 - p) for probabilities that sum to 1 along `dim`.

    Of the largest it is the logarithm of the sum of the others, since 1 - p would be rounded
    away.
    """
    largest = log_p.argmax(dim, keepdim=True)
    others = log_p.scatter(dim, largest, -math.inf).logsumexp(dim, keepdim=True)
    small = log_p.scatter(dim, largest, -1.0)
    return torch.log1p(-small.exp()).scatter(dim, largest, others)


def mixture(z: Tensor, output: Output, dim: int = -1) -> Tensor:
    """Return the one output z̄ that stands for those of all nets.

    Parameters
    ----------
    z : torch.Tensor of shape (K, ...)
        With the classes along `dim`.
    output : {"softmax", "logistic", "multilabel", "identity", "gaussian"}
    dim : int, default=-1

    Returns
    -------
    mixed : torch.Tensor of shape (...)
    """
    if output == "identity":
        return z.mean(0)
    if output == "gaussian":
        return gaussian.mixture(z, dim)
    if output == "multilabel":
        return log_mean(logsigmoid(z)) - log_mean(logsigmoid(-z))
    log_p = log_mean(log_probabilities(z, output, dim))
    return log_p if output == "softmax" else log_p - log_complement(log_p, dim)


def mixture_deltas(z: Tensor, target: Tensor, output: Output) -> Tensor:
    """Return ∂ℓ/∂zₖ, where ℓ is the loss of each column of z̄.

    Parameters
    ----------
    z : torch.Tensor of shape (K, m, n)
    target : torch.Tensor of shape (m, n)
        One-hot labels, an indicator matrix for ``"multilabel"``, or numbers for ``"identity"``;
        of shape (m/2, n) for ``"gaussian"``.
    output : {"softmax", "logistic", "multilabel", "identity", "gaussian"}
        ℓ is the cross-entropy; the binary cross-entropy summed over the classes, or over the
        labels; the squared error, or the negative log likelihood, averaged over the numbers.

    Returns
    -------
    deltas : torch.Tensor of shape (K, m, n)

    Notes
    -----
    For softmax, δₖ = rₖ (pₖ - t), with rₖ the share of net k in p̄ at the label. For logistic
    outputs, with sₖ = σ(zₖ) and gₖ = ∂ℓ/∂(log pₖ), δₖ = (1 - sₖ)(gₖ - pₖ Σ gₖ). For several labels
    δₖ = rₖ (pₖ - t), with rₖ the share of net k in p̄ where the label is 1, in 1 - p̄ where it is 0.
    For numbers, δₖ = 2 (z̄ - t) / (m K); with a Gaussian, as in `sk_advbp.core.gaussian`.
    """
    if output == "identity":
        delta = (z.mean(0) - target) * (2 / (z.shape[-2] * len(z)))
        return delta.expand_as(z)
    if output == "gaussian":
        return gaussian.mixture_delta(z, target) / len(target)
    if output == "multilabel":
        side = 2 * target - 1  # σ(side · z) is the probability of what the label is
        share = logsigmoid(side * z).softmax(0)
        return -side * share * (-side * z).sigmoid()
    log_p = log_probabilities(z, output, -2)
    p = log_p.exp()
    share = log_p.softmax(0)
    if output == "softmax":
        return (share * target).sum(-2, keepdim=True) * (p - target)
    log_rest = log_complement(log_mean(log_p), -2)
    g = torch.where(target > 0, -share, (log_p - log_rest).exp() / len(z))
    return (1 - z.sigmoid()) * (g - p * g.sum(-2, keepdim=True))
