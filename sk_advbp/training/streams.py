"""What the nets of a stack learn from: rows in an order of their own, padded to one length."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from sk_advbp.training.batches import WeightedInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from sk_advbp._types import Floats

__all__ = ["Member", "StackedBatches", "Stream"]


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
        # Padded to a batch: one beyond the rows would be all padding.
        self.batch_size = len(rows) if batch_size == -1 else min(int(batch_size), len(rows))

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


class StackedBatches:
    """The mini-batches of all nets of a stack: dataset and iterator in one.

    Parameters
    ----------
    X : torch.Tensor of shape (n, n_features)
    target : torch.Tensor of shape (n, ...)
    members : sequence of Member
        Of the same number of batches an epoch.
    generators : dict of Stream to torch.Generator
        Of the order of its rows, on the CPU.
    """

    def __init__(
        self,
        X: Tensor,
        target: Tensor,
        members: Sequence[Member],
        generators: Mapping[Stream, Generator],
    ) -> None:
        self.X, self.target = X, target
        self._generators = generators
        self._streams = list(generators)
        places = [self._streams.index(member.stream) for member in members]
        self._places = torch.tensor(places, device=X.device)
        self.batch_size = max(stream.batch_size for stream in self._streams)

    def __len__(self) -> int:
        return self._streams[0].n_batches

    def __iter__(self) -> Iterator[tuple[Tensor | WeightedInput, Tensor]]:
        """Yield (x, target) with an axis of nets, x a `WeightedInput` where rows have weights."""
        streams, size = self._streams, self.batch_size
        length = size * len(self)
        epochs = [s.epoch(self._generators[s], length) for s in streams]
        orders, weights = (torch.stack(of).to(self.X.device) for of in zip(*epochs, strict=True))
        orders, weights = orders[self._places], weights.to(self.X.dtype)[self._places]
        weighted = any(stream.weight is not None for stream in streams)
        shortest, longest = (f(len(stream.rows) for stream in streams) for f in (min, max))
        for start in range(0, length, size):
            end = min(start + size, longest)
            rows = orders[:, start:end]
            x: Tensor | WeightedInput
            x = self.X.index_select(0, rows.flatten()).view(*rows.shape, -1)
            if weighted or end > shortest:
                x = WeightedInput(x, weights[:, start:end])
            yield x, self.target[rows]
