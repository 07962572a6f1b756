"""How far a row may move: ε, norm and bounds, in the units of X."""

from typing import NamedTuple

import numpy as np
import torch

from sk_advbp.training.batches import as_tensor

__all__ = ["Reach"]


class Reach(NamedTuple):
    """The ε-ball around each row, and the bounds that cut it.

    Attributes
    ----------
    epsilon : float or ndarray of the shape of one sample
    norm : {"linf", "l2"}
    clip : tuple (low, high) of floats or arrays of the shape of one sample, or None
    """

    epsilon: object
    norm: str
    clip: tuple | None

    @property
    def moves(self):
        """Whether anything can move at all."""
        return bool(np.any(self.epsilon))

    def on(self, device, dtype):
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
        return {"epsilon": epsilon, "norm": self.norm, "clip": tuple(clip) or None}
