"""The adversarial perturbation: x' = x + ε · direction(∇ₓJ), the paper on one screen.

Pure functions of tensors. They know nothing of estimators or training loops, keep no
graph, compute no parameter gradients and change nothing that they are given.

Notes
-----
In the symbols of the paper, with θ the parameters, J the loss and (x, y) a mini-batch::

    g  = ∇ₓ J(θ, x, y)             input_gradient
    δ  = ε · sign(g)               steepest_ascent
    x' = x + δ                     perturb

and ordinary back-propagation then learns from (x', y) alone.

References
----------
Arild Nøkland, "Improving Back-Propagation by Adding an Adversarial Gradient",
arXiv:1510.04189.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Generator, Tensor

__all__ = ["perturb"]

Norm = Literal["linf", "l2"]
Perturbation = Literal["adversarial", "random"]
Gradient = Callable[[Tensor], Tensor]
Bounds = tuple[float | Tensor, float | Tensor]


def input_gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return ∇ₓ of the scalar ``loss(x)``, without the gradient of anything else.

    Parameters
    ----------
    loss : callable
        Maps a tensor of the shape of `x` to a scalar tensor.
    x : torch.Tensor
        The point at which the gradient is taken.

    Returns
    -------
    gradient : torch.Tensor of the shape of `x`
        Detached. Zero where the loss does not depend on `x`.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        # A copy, as torch lets no operation in place have a leaf.
        (gradient,) = torch.autograd.grad(loss(x.clone()), x, materialize_grads=True)
    return gradient


def _feature_axes(x: Tensor, epsilon: float | Tensor) -> tuple[int, ...]:
    """Axes of `x` that belong to one sample: those of an array ε, else all but the first.

    A stack of models (K, n, d) comes with ε of shape (K, 1, 1): one feature axis.
    """
    stacked = torch.is_tensor(epsilon) and epsilon.ndim == x.ndim > 2
    return tuple(range(2 if stacked else 1, x.ndim))


def unit_vectors(v: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return v / ‖v‖₂ over `axes`; a zero vector stays zero.

    Scaled by the largest entry first: the square of a gradient of 1e-25, as confident
    rows have, is zero in float32.
    """
    peak = v.abs().amax(axes, keepdim=True)
    v = v / torch.where(peak > 0, peak, 1)
    length: Tensor = torch.linalg.vector_norm(v, dim=axes, keepdim=True)
    return v / length.clamp_min(1)


def steepest_ascent(gradient: Tensor, epsilon: float | Tensor, norm: Norm = "linf") -> Tensor:
    """Return the step inside the ε-ball along which a linear loss grows most.

    Parameters
    ----------
    gradient : torch.Tensor of shape (n, ...)
    epsilon : float or torch.Tensor
        Radius of the ball: one, or one a feature.
    norm : {"linf", "l2"}
        ``"linf"``: ε · sign(g), the paper's. ``"l2"``: ε ⊙ (ε ⊙ g) / ‖ε ⊙ g‖₂ for each
        sample, which for one ε is ε · g / ‖g‖₂. A zero gradient gives a zero step.

    Returns
    -------
    step : torch.Tensor of shape (n, ...)
    """
    if norm == "linf":
        return gradient.sign().mul_(epsilon)
    return unit_vectors(epsilon * gradient, _feature_axes(gradient, epsilon)) * epsilon


def project(delta: Tensor, epsilon: float | Tensor, norm: Norm = "linf") -> Tensor:
    """Return `delta`, pulled back to the ε-ball where it lies outside.

    In units of ε the ball is the unit ball, so that the l2 projection for one ε a feature
    shrinks `delta` along its own direction.
    """
    if norm == "linf":
        return delta.clamp(-epsilon, epsilon)  # type: ignore[arg-type]  # ends of one type
    unit = torch.nan_to_num(delta / epsilon, nan=0.0, posinf=0.0, neginf=0.0)
    axes = _feature_axes(delta, epsilon)
    length: Tensor = torch.linalg.vector_norm(unit, dim=axes, keepdim=True)
    return delta / length.clamp_min(1)


def uniform_in_ball(
    x: Tensor, epsilon: float | Tensor, norm: Norm = "linf", generator: Generator | None = None
) -> Tensor:
    """Draw, for each sample of `x`, a point uniformly from the ε-ball around zero."""
    noise = partial(torch.empty_like, x, memory_format=torch.contiguous_format)
    if norm == "linf":
        return noise().uniform_(-1, 1, generator=generator) * epsilon
    direction = noise().normal_(generator=generator)
    axes = _feature_axes(x, epsilon)
    balls = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    radius = x.new_empty(balls).uniform_(generator=generator)
    return point_in_ball(direction, radius, epsilon)


def point_in_ball(direction: Tensor, radius: Tensor, epsilon: float | Tensor) -> Tensor:
    """Return the point of the round ε-ball at `radius` of it, spread evenly by its dimension.

    Parameters
    ----------
    direction : torch.Tensor of shape (n, ...)
        Normal numbers; those of features that cannot move are not used.
    radius : torch.Tensor
        Uniform numbers, one a ball.
    epsilon : float or torch.Tensor
    """
    direction = direction * (torch.as_tensor(epsilon, device=direction.device) > 0)
    axes = _feature_axes(direction, epsilon)
    dimension = (direction != 0).sum(axes, keepdim=True).clamp_min(1).to(direction.dtype)
    return unit_vectors(direction, axes) * radius.pow(1 / dimension) * epsilon


def bounded(moved: Tensor, x: Tensor, clip: Bounds | None) -> Tensor:
    """Return `moved` within [min(low, x), max(high, x)], for ``clip = (low, high)``.

    It bounds the perturbation, not the data: a value of `x` that already lies outside is
    never pulled in. ``clip=None`` returns `moved` itself.
    """
    if clip is None:
        return moved
    low, high = clip
    return moved.clamp(x.clamp(max=low), x.clamp(min=high))


def displace(
    gradient: Gradient,
    x: Tensor,
    epsilon: float | Tensor,
    *,
    norm: Norm = "linf",
    clip: Bounds | None = None,
    random_start: float = 0.0,
    perturbation: Perturbation = "adversarial",
    generator: Generator | None = None,
) -> Tensor:
    """Return x' for any way to compute the gradient; `perturb` has the parameters.

    Parameters
    ----------
    gradient : callable
        Maps x to ∇ₓJ, by automatic differentiation or in closed form.
    """
    if perturbation == "random":
        # The control: a gradient of pure noise, so signs or directions of the same ε.
        noise = torch.empty_like(x, memory_format=torch.contiguous_format)
        step = steepest_ascent(noise.normal_(generator=generator), epsilon, norm)
    elif random_start:
        start = random_start * uniform_in_ball(x, epsilon, norm, generator)
        start = bounded(x + start, x, clip) - x
        step = steepest_ascent(gradient(x + start), epsilon, norm)
        step = project(step.add_(start), epsilon, norm)
    else:
        step = steepest_ascent(gradient(x), epsilon, norm)
    return bounded(step.add_(x), x, clip)


def perturb(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    epsilon: float | Tensor,
    *,
    norm: Norm = "linf",
    clip: Bounds | None = None,
    random_start: float = 0.0,
    perturbation: Perturbation = "adversarial",
    generator: Generator | None = None,
) -> Tensor:
    """Move `x` to where the loss is larger: x' = x + ε · direction(∇ₓ loss(x)).

    Parameters
    ----------
    loss : callable
        Maps a tensor of the shape of `x` to a scalar tensor, differentiably.
    x : torch.Tensor of shape (n, ...)
        A mini-batch of n samples.
    epsilon : float or torch.Tensor of the shape of one sample
        Size of the perturbation in the units of `x`; larger values regularise more. A
        feature of ε = 0 does not move.
    norm : {"linf", "l2"}, default="linf"
        ``"linf"``: ε · sign(g), the paper's. ``"l2"``: ε ⊙ (ε ⊙ g) / ‖ε ⊙ g‖₂.
    clip : tuple (low, high) or None, default=None
        x' lies in [min(low, x), max(high, x)]. Numbers, or tensors of the shape of one
        sample.
    random_start : float in [0, 1], default=0.0
        r > 0 draws δ₀ uniformly from the rε-ball, takes the gradient at x + δ₀ and
        projects the sum back to the ε-ball.
    perturbation : {"adversarial", "random"}, default="adversarial"
        ``"random"`` replaces the direction of the gradient by a random one of the same
        size.
    generator : torch.Generator or None, default=None
        Source of the random numbers; None is torch's global one.

    Returns
    -------
    moved : torch.Tensor of shape (n, ...)
        Detached, of the dtype and device of `x`.

    Notes
    -----
    The gradient is held constant: no second derivatives flow through x'.

    Differs from the paper: `norm`, `clip`, `random_start` and `perturbation` are ours;
    their defaults are the paper's rule.

    References
    ----------
    arXiv:1510.04189.

    Examples
    --------
    >>> import torch
    >>> from sk_advbp.core import perturb
    >>> slope = torch.tensor([3.0, -2.0, 0.0])
    >>> perturb(lambda x: (x @ slope).sum(), torch.zeros(1, 3), epsilon=0.5)
    tensor([[ 0.5000, -0.5000,  0.0000]])
    """
    return displace(
        partial(input_gradient, loss),
        x.detach(),
        epsilon,
        norm=norm,
        clip=clip,
        random_start=random_start,
        perturbation=perturbation,
        generator=generator,
    )
