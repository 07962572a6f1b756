"""What the nets of a stack learn from: rows in an order of their own, padded to one length."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sk_advbp._types import Floats

__all__ = ["Member", "Stream", "WeightedMeans"]


class Member(NamedTuple):
    """One net of a stack.

    Attributes
    ----------
    epsilon : float
    unit : float or ndarray of shape (n_features,)
        What one of ε is in the units of X.
    stream : Stream
        The rows and their order. Nets that differ in ε alone have one in common.
    """

    epsilon: float
    unit: float | Floats
    stream: Stream

    @property
    def moves(self) -> bool:
        """Whether the net learns from moved rows."""
        return bool(np.any(self.epsilon * self.unit))


class Stream:
    """The rows that a net learns from, batch by batch, and its initial weights.

    Parameters
    ----------
    rows : ndarray of shape (n,)
        Indices of the training rows.
    weight : ndarray of shape (n,) or None
        Their weights, none of them 0.
    seed : int
    batch_size : int
        -1 takes all rows at once.
    """

    def __init__(
        self, rows: NDArray[np.integer], weight: Floats | None, seed: int, batch_size: int
    ) -> None:
        self.rows = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        self.weight = None if weight is None else torch.from_numpy(np.asarray(weight))
        self.seed = seed
        self.batch_size = len(rows) if batch_size == -1 else batch_size

    @property
    def n_batches(self) -> int:
        """Number of mini-batches an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, generator: Generator, length: int) -> tuple[Tensor, Tensor]:
        """Return (rows, weights) in the order of an epoch, padded to `length` with weight 0."""
        order = torch.randperm(len(self.rows), generator=generator, device="cpu")
        padding = (0, length - len(order))
        weight = torch.ones(len(order), device="cpu") if self.weight is None else self.weight[order]
        return pad(self.rows[order], padding), pad(weight, padding)


class WeightedMeans:
    """Means over batches, one a net, which stay on the device."""

    def __init__(self) -> None:
        self._sum: float | Tensor = 0
        self._weight: float | Tensor = 0

    def add(self, values: Tensor, weight: float | Tensor) -> None:
        """Take note of the mean `values` of a batch of total `weight`, each of shape (K,)."""
        self._sum = self._sum + values.double() * weight
        self._weight = self._weight + weight

    def value(self) -> Tensor:
        """Return the means so far."""
        return self._sum / self._weight  # type: ignore[return-value]  # there was a batch
