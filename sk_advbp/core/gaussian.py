"""A Gaussian as the output of a net: mean and variance of each number, and their likelihood.

Pure functions of tensors. Of m numbers the net has 2m outputs along the axis `dim`: the means μ,
then s, of which the variance is σ² = softplus(s) + 10⁻⁶, so that none is negative.

Notes
-----
With y the number that is to be predicted::

    ℓ = (log 2π + log σ² + (y - μ)² / σ²) / 2           negative log likelihood    loss
    ∂ℓ/∂μ = (μ - y) / σ²                                                           slopes
    ∂ℓ/∂σ² = (1 - (y - μ)² / σ²) / (2 σ²)
    ∂σ²/∂s = logistic(s)

Of K nets that answer as one, the Gaussian is that of the mixture's mean and variance::

    μ̄ = (μ₁ + … + μ_K) / K                                                         mixture
    σ̄² = (σ₁² + … + σ_K²) / K + ((μ₁ - μ̄)² + … + (μ_K - μ̄)²) / K

References
----------
Balaji Lakshminarayanan, Alexander Pritzel and Charles Blundell, "Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles", NIPS 2017, arXiv:1612.01474.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["LEAST_VARIANCE", "delta", "loss", "mean_and_variance", "mixture", "mixture_delta"]

# Deep Ensembles' own, in the units of the numbers that the net learns.
LEAST_VARIANCE = 1e-6


def softplus(s: Tensor) -> Tensor:
    """Return log(1 + eˢ): torch's own rounds it, and its slope, to s and 1 beyond 20."""
    return -logsigmoid(-s)


def inverse_softplus(u: Tensor) -> Tensor:
    """Return s with log(1 + eˢ) = u > 0."""
    return u + torch.log(-torch.expm1(-u))


def mean_and_variance(z: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """Return μ and σ².

    Parameters
    ----------
    z : torch.Tensor
        Outputs, 2m along `dim`.
    dim : int, default=-1

    Returns
    -------
    mean, variance : torch.Tensor
        m along `dim`.
    """
    mean, s = z.chunk(2, dim)
    return mean, softplus(s) + LEAST_VARIANCE


def loss(mean: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    """Return the negative log likelihood ℓ of each number in `y`, of its shape."""
    return 0.5 * (math.log(2 * math.pi) + variance.log() + (y - mean).square() / variance)


def slopes(mean: Tensor, variance: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return ∂ℓ/∂μ and ∂ℓ/∂σ², of the shape of `y`."""
    by_mean = (mean - y) / variance
    return by_mean, 0.5 * (1 / variance - by_mean.square())


def delta(z: Tensor, mean: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    """Return ∂ℓ/∂z for samples as columns.

    Parameters
    ----------
    z : torch.Tensor of shape ([K,] 2m, n)
    mean, variance : torch.Tensor of shape ([K,] m, n)
        From `mean_and_variance`.
    y : torch.Tensor of shape ([K,] m, n)

    Returns
    -------
    delta : torch.Tensor of the shape of `z`
    """
    by_mean, by_variance = slopes(mean, variance, y)
    _, s = z.chunk(2, -2)
    return torch.cat([by_mean, by_variance * s.sigmoid()], -2)


def mixture(z: Tensor, dim: int = -1) -> Tensor:
    """Return the outputs (μ̄, s̄) of the Gaussian that stands for those of all nets.

    Parameters
    ----------
    z : torch.Tensor of shape (K, ...)
        Outputs of K nets, 2m along `dim`.
    dim : int, default=-1

    Returns
    -------
    mixed : torch.Tensor of shape (...)
    """
    mean, s = z.chunk(2, dim)
    # Without the least variance, which is that of the mixture, too.
    excess = softplus(s).mean(0) + mean.var(0, correction=0)
    limits = torch.finfo(z.dtype)
    return torch.cat([mean.mean(0), inverse_softplus(excess.clamp(limits.tiny, limits.max))], dim)


def mixture_delta(z: Tensor, y: Tensor) -> Tensor:
    """Return ∂ℓ/∂zₖ, where ℓ is that of the Gaussian of all nets, for samples as columns.

    Parameters
    ----------
    z : torch.Tensor of shape (K, 2m, n)
    y : torch.Tensor of shape (m, n)

    Returns
    -------
    delta : torch.Tensor of shape (K, 2m, n)

    Notes
    -----
    Since the deviations μₖ - μ̄ sum to zero, ∂σ̄²/∂μₖ = 2 (μₖ - μ̄) / K.
    """
    mean, s = z.chunk(2, -2)
    by_mean, by_variance = slopes(*mean_and_variance(mixture(z, -2), -2), y)
    of_means = by_mean + 2 * by_variance * (mean - mean.mean(0))
    return torch.cat([of_means, by_variance * s.sigmoid()], -2) / len(z)
