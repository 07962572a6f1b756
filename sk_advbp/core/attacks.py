"""Attacks on a fitted net: FGSM, and PGD that is never weaker.

Pure functions of tensors, like `perturbation`, whose ε-ball and step they share.

References
----------
Ian Goodfellow, Jonathon Shlens and Christian Szegedy, "Explaining and Harnessing
Adversarial Examples", ICLR 2015, arXiv:1412.6572.

Aleksander Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
ICLR 2018, arXiv:1706.06083.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from sk_advbp.core import backprop
from sk_advbp.core.mixture import OF_MATRICES, mixture, mixture_deltas
from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.core.perturbation import (
    Bounds,
    Gradient,
    Norm,
    bounded,
    displace,
    input_gradient,
    point_in_ball,
    project,
    steepest_ascent,
)

__all__ = ["ATTACKS", "Objective", "fgsm", "perceptron_gradient", "pgd"]

Attack = Literal["fgsm", "pgd"]
Rows = slice | Tensor


class Objective:
    """What an attack climbs: the loss of each row, and its gradient.

    Parameters
    ----------
    row_losses : callable
        Maps (x, target) to (losses, fooled), each of shape (n,).
    target : torch.Tensor of shape (n, ...)
        What the rows are moved away from. Slicing the objective slices it.
    gradient : callable or None, default=None
        Maps (x, target) to the gradient of each row's loss, of the shape of x; None takes
        that of `row_losses` by automatic differentiation.
    """

    def __init__(
        self,
        row_losses: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        target: Tensor,
        gradient: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self._row_losses = row_losses
        self._target = target
        self._gradient = gradient

    def __getitem__(self, rows: Rows) -> Objective:
        return Objective(self._row_losses, self._target[rows], self._gradient)

    @torch.no_grad()
    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (losses, fooled) at `x`."""
        return self._row_losses(x, self._target)

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of each row's loss at `x`."""
        if self._gradient is not None:
            return self._gradient(x, self._target)
        return input_gradient(lambda x: self._row_losses(x, self._target)[0].sum(), x)


def perceptron_gradient(
    module: MultilayerPerceptron,
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return the map (x, target) → ∇ₓ of each row's loss, in closed form.

    Of a classifier without a target it takes the labels that are predicted on the way. Of
    several nets it is the gradient of the loss of their one answer.

    Parameters
    ----------
    module : MultilayerPerceptron
        Taken as in evaluation mode: nothing is dropped.
    """
    weights = [layer.weight.detach() for layer in module.layers]
    biases = [layer.bias.detach().unsqueeze(-1) for layer in module.layers]
    activation, output = module.activation, module.output
    several = module.n_nets is not None
    # ∂ℓ/∂(log p) of one net for softmax, else one-hot labels; a weight of 1 keeps rows apart.
    scale = -1.0 if output == "softmax" and not several else 1.0

    def predicted(logits: Tensor) -> Tensor:
        assert output not in ("identity", "gaussian")  # numbers are given
        z = mixture(logits, output, -2) if several else logits
        return (z > 0).mT if output == "multilabel" else z.argmax(0)

    def output_deltas(logits: Tensor, target: Tensor | None) -> Tensor:
        target = predicted(logits) if target is None else target
        if output in OF_MATRICES:
            target = target.mT.to(logits.dtype)
        else:
            target = backprop.one_hot(target, logits.shape[-2], scale, logits.dtype)
        if several:
            return mixture_deltas(logits, target, output)
        _, delta = backprop.loss_and_delta(logits, target, 1.0, output, with_loss=False)
        return delta

    @torch.no_grad()
    def gradient(x: Tensor, target: Tensor | None) -> Tensor:
        _, hidden, logits = backprop.forward(x.mT, weights, biases, activation)
        delta = output_deltas(logits, target)
        *_, delta = backprop.deltas(delta, weights, hidden, activation)
        if several:  # the sum over the nets, by one product
            return delta.flatten(0, 1).mT @ weights[0].flatten(0, 1)
        return delta.mT @ weights[0]

    return gradient


def fgsm(
    objective: Objective,
    x: Tensor,
    epsilon: float | Tensor,
    *,
    norm: Norm = "linf",
    clip: Bounds | None = None,
) -> Tensor:
    """Fast gradient sign method: one step of size ε (Goodfellow et al. 2015).

    Parameters
    ----------
    objective : Objective
    x : torch.Tensor of shape (n, ...)
    epsilon, norm, clip
        As in `sk_advbp.core.perturb`.

    Returns
    -------
    moved : torch.Tensor of shape (n, ...)
    """
    return displace(objective.gradient, x, epsilon, norm=norm, clip=clip)


def pgd(
    objective: Objective,
    x: Tensor,
    epsilon: float | Tensor,
    *,
    norm: Norm = "linf",
    clip: Bounds | None = None,
    n_steps: int = 20,
    step_size: float = 0.125,
    generators: Sequence[Generator | None] = (None,),
    until_fooled: bool = False,
) -> Tensor:
    """Projected gradient ascent on the loss within the ε-ball (Madry et al. 2018).

    Parameters
    ----------
    objective, x, epsilon, norm, clip
        As in `fgsm`.
    n_steps : int, default=20
    step_size : float, default=0.125
        As a share of ε.
    generators : sequence of (torch.Generator or None), default=(None,)
        One a restart, on the CPU. Each restart starts at a point drawn uniformly from the
        ball; None draws from torch's global generator. Taken from batch to batch, they
        give the points that they would give to all rows at once.
    until_fooled : bool, default=False
        Whether a row rests as soon as a candidate is misclassified: the same rows are
        fooled, in less time, by candidates of a smaller loss.

    Returns
    -------
    moved : torch.Tensor of shape (n, ...)
        For each sample, of the clean point, the FGSM point and the last point of each
        restart: one that is misclassified, else the one of the largest loss. Of several
        that are misclassified, the one of the largest loss.
    """
    strongest = Strongest(objective, x)
    rows: Rows = slice(None)
    candidate = displace(objective.gradient, x, epsilon, norm=norm, clip=clip)
    strongest.challenge(candidate, rows)
    for generator in generators:
        start = random_start(x, epsilon, norm, generator)
        if until_fooled:
            rows = ~strongest.fooled
            if not rows.any():
                continue  # the next batch starts where it would have started
        origin = x[rows]
        moved = bounded(origin + start[rows], origin, clip)
        climb = climb_in_box if norm == "linf" else climb_in_ball
        moved = climb(objective[rows].gradient, origin, moved, epsilon, clip, n_steps, step_size)
        strongest.challenge(moved, rows)
    return strongest.points


def climb_in_box(
    gradient: Gradient,
    origin: Tensor,
    moved: Tensor,
    epsilon: float | Tensor,
    clip: Bounds | None,
    n_steps: int,
    step_size: float,
) -> Tensor:
    """Return where `n_steps` steps along the sign of the gradient lead from `moved`.

    The ball of the largest norm and the bounds make one box, which is all there is to project
    to.
    """
    low, high = (bounded(end, origin, clip) for end in (origin - epsilon, origin + epsilon))
    step = epsilon * step_size
    for _ in range(n_steps):
        moved = gradient(moved).sign().mul_(step).add_(moved).clamp_(low, high)
    return moved


def climb_in_ball(
    gradient: Gradient,
    origin: Tensor,
    moved: Tensor,
    epsilon: float | Tensor,
    clip: Bounds | None,
    n_steps: int,
    step_size: float,
) -> Tensor:
    """Return the same for the round ball."""
    for _ in range(n_steps):
        step = steepest_ascent(gradient(moved), epsilon, "l2").mul_(step_size)
        moved = bounded(origin + project(moved + step - origin, epsilon, "l2"), origin, clip)
    return moved


class Strongest:
    """The strongest point for each sample among those that it was challenged with."""

    def __init__(self, objective: Objective, x: Tensor) -> None:
        self._objective = objective
        self.points = x.clone()
        self._losses, self.fooled = objective.judge(x)

    def challenge(self, candidate: Tensor, rows: Rows) -> None:
        """Take over the `rows` in which `candidate` fools the net, or has the larger loss."""
        losses, fooled = self._objective[rows].judge(candidate)
        before = self.fooled[rows]
        wins = torch.where(fooled == before, losses > self._losses[rows], fooled)
        axes = (-1,) + (1,) * (candidate.ndim - 1)
        self.points[rows] = torch.where(wins.view(axes), candidate, self.points[rows])
        self._losses[rows] = torch.where(wins, losses, self._losses[rows])
        self.fooled[rows] = fooled | before


def random_start(
    x: Tensor, epsilon: float | Tensor, norm: Norm = "linf", generator: Generator | None = None
) -> Tensor:
    """Draw, for each sample of `x`, a point uniformly from the ε-ball around zero.

    As `sk_advbp.core.perturbation.uniform_in_ball`, but the same numbers whatever the device and
    however the rows are cut into batches: one uniform number after the other, row by row,
    made normal by the quantile function where the ball is round.
    """
    extra = int(norm == "l2")  # the radius
    shape = len(x), math.prod(x.shape[1:]) + extra
    u = torch.rand(shape, dtype=x.dtype, generator=generator, device="cpu").to(x.device)
    if norm == "linf":
        return (2 * u - 1).view(x.shape) * epsilon
    radius = u[:, -1].view(-1, *(1,) * (x.ndim - 1))
    # torch.rand may return 0, of which the quantile is infinite.
    direction = torch.special.ndtri(u[:, :-1].clamp(min=2**-26)).reshape(x.shape)
    return point_in_ball(direction, radius, epsilon)


ATTACKS = {"fgsm": fgsm, "pgd": pgd}
