"""How far a row may move: ε, norm and bounds, in the units of X."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
import torch

from sk_advbp.training.batches import as_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from sk_advbp._types import Floats
    from sk_advbp.core.perturbation import Norm

__all__ = ["Reach"]


class ReachOfTensors(TypedDict):
    """The same as arguments of `sk_advbp.core.perturb`."""

    epsilon: Tensor
    norm: Norm
    clip: tuple[Tensor, Tensor] | None


class Reach(NamedTuple):
    """The ε-ball around each row, and the bounds that cut it.

    Attributes
    ----------
    epsilon : float or ndarray of the shape of one sample
    norm : {"linf", "l2"}
    clip : tuple (low, high) of floats or arrays of the shape of one sample, or None
    """

    epsilon: float | Floats
    norm: Norm
    clip: tuple[float | Floats, float | Floats] | None

    @property
    def moves(self) -> bool:
        """Whether anything can move at all."""
        return bool(np.any(self.epsilon))

    def on(self, device: str, dtype: str) -> ReachOfTensors:
        """Return the arguments of `sk_advbp.core.perturb` that say so, as tensors.

        Of numbers, too: on small batches a product with a Python number costs more than one
        with a tensor of no axes.

        Parameters
        ----------
        device : str
        dtype : str
        """
        epsilon, *clip = (
            as_tensor(np.asarray(value), device, getattr(torch, dtype))
            for value in (self.epsilon, *(self.clip or ()))
        )
        return {"epsilon": epsilon, "norm": self.norm, "clip": (clip[0], clip[1]) if clip else None}
