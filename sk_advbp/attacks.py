"""Attacks on a fitted net: FGSM, and PGD that is never weaker.

Pure functions of tensors, like `perturbation`, whose ε-ball and step they share.
"""

from functools import partial

import torch

from sk_advbp.perturbation import (
    bounded,
    displace,
    input_gradient,
    project,
    steepest_ascent,
    uniform_in_ball,
)

__all__ = ["ATTACKS", "fgsm", "pgd"]


def fgsm(row_losses, x, epsilon, *, norm="linf", clip=None):
    """Fast gradient sign method: one step of size ε (Goodfellow et al. 2015).

    Parameters
    ----------
    row_losses : callable
        Maps a tensor of the shape of `x` to (losses, fooled), each of shape (n,).
    x : torch.Tensor of shape (n, ...)
    epsilon, norm, clip
        As in `perturb`.

    Returns
    -------
    moved : torch.Tensor of shape (n, ...)
    """
    gradient = partial(input_gradient, lambda x: row_losses(x)[0].sum())
    return displace(gradient, x, epsilon, norm=norm, clip=clip)


def pgd(
    row_losses,
    x,
    epsilon,
    *,
    norm="linf",
    clip=None,
    n_steps=20,
    step_size=0.125,
    n_restarts=1,
    generator=None,
):
    """Projected gradient ascent on the loss within the ε-ball (Madry et al. 2018).

    Parameters
    ----------
    row_losses, x, epsilon, norm, clip
        As in `fgsm`.
    n_steps : int, default=20
    step_size : float, default=0.125
        As a share of ε.
    n_restarts : int, default=1
        Each starts at a point drawn uniformly from the ball.
    generator : torch.Generator or None, default=None

    Returns
    -------
    moved : torch.Tensor of shape (n, ...)
        For each sample, of the clean point, the FGSM point and the last point of each
        restart: one that is misclassified, else the one of the largest loss.
    """
    gradient = partial(input_gradient, lambda x: row_losses(x)[0].sum())
    strongest = Strongest(row_losses, x)
    strongest.challenge(displace(gradient, x, epsilon, norm=norm, clip=clip))
    for _ in range(n_restarts):
        moved = bounded(x + uniform_in_ball(x, epsilon, norm, generator), x, clip)
        for _ in range(n_steps):
            step = steepest_ascent(gradient(moved), epsilon, norm).mul_(step_size)
            moved = bounded(x + project(moved + step - x, epsilon, norm), x, clip)
        strongest.challenge(moved)
    return strongest.points


class Strongest:
    """The strongest point for each sample among those that it was challenged with."""

    def __init__(self, row_losses, x):
        self._row_losses = row_losses
        self.points = x.clone()
        self._losses, self._fooled = self._judge(x)

    @torch.no_grad()
    def _judge(self, x):
        return self._row_losses(x)

    def challenge(self, candidate):
        """Take over the rows in which `candidate` fools the net, or has the larger loss."""
        losses, fooled = self._judge(candidate)
        wins = torch.where(fooled == self._fooled, losses > self._losses, fooled)
        self.points[wins] = candidate[wins]
        self._losses = torch.where(wins, losses, self._losses)
        self._fooled = fooled | self._fooled


ATTACKS = {"fgsm": fgsm, "pgd": pgd}
