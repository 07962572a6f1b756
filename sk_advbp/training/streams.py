"""What the nets of a stack learn from: rows in an order of their own, padded to one length."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

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
    unit: object
    stream: object

    @property
    def moves(self):
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

    def __init__(self, rows, weight, seed, batch_size):
        self.rows = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        self.weight = None if weight is None else torch.from_numpy(np.asarray(weight))
        self.seed = seed
        # Padded to a batch: one beyond the rows would be all padding.
        self.batch_size = len(rows) if batch_size == -1 else min(int(batch_size), len(rows))

    @property
    def n_batches(self):
        """Number of mini-batches an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, generator, length):
        """Return (rows, weights) in the order of an epoch, padded to `length` with weight 0."""
        order = torch.randperm(len(self.rows), generator=generator, device="cpu")
        padding = (0, length - len(order))
        weight = torch.ones(len(order), device="cpu") if self.weight is None else self.weight[order]
        return pad(self.rows[order], padding), pad(weight, padding)


class WeightedMeans:
    """Means over batches, one a net, which stay on the device until they are asked for."""

    def __init__(self):
        self._values, self._weights = [], []

    def add(self, values, weight):
        """Take note of the mean `values` of a batch of total `weight`, each of shape (K,)."""
        self._values.append(values)
        self._weights.append(weight)

    def value(self):
        """Return the means so far, in float64, which not every device has."""
        values = torch.stack(self._values).numpy(force=True).astype(np.float64)
        weights = np.ones(values.shape)
        for of_batch, weight in zip(weights, self._weights, strict=True):
            of_batch[:] = weight.numpy(force=True) if torch.is_tensor(weight) else weight
        return torch.from_numpy((values * weights).sum(0) / weights.sum(0))
