"""The work that the contestants share: arrays, layers, batches, epochs."""

import os
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.datasets import load_digits, make_classification

from sk_advbp.command import load_data


@dataclass(frozen=True)
class Work:
    """What is learned, and how: the same for every contestant.

    Float32 rows, ReLU, Adam of 1e-3, ε 0.08, shuffled in each epoch.
    """

    data: str
    X: np.ndarray
    y: np.ndarray
    hidden: tuple
    batch_size: int
    epochs: int
    threads: int
    kind: str
    epsilon: float = 0.08
    lr: float = 1e-3

    @property
    def name(self):
        """The work in words."""
        hidden = "-".join(map(str, self.hidden))
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        rows, columns = self.X.shape
        return f"{self.data} {rows:,}×{columns}, {hidden}, batch {self.batch_size}, {epochs}"

    @property
    def sizes(self):
        """Units of every layer, input and output included."""
        return (self.X.shape[1], *self.hidden, int(self.y.max()) + 1)

    @property
    def steps(self):
        """Mini-batches an epoch."""
        return -(-len(self.X) // self.batch_size)

    @cached_property
    def tensors(self):
        """X and y in memory as torch wants them; no copies."""
        return torch.from_numpy(self.X), torch.from_numpy(self.y)

    def of_steps(self, steps, epochs):
        """Return this work on the first rows, so that an epoch has so many steps."""
        rows = steps * self.batch_size
        return replace(self, X=self.X[:rows], y=self.y[:rows], epochs=epochs)


def small_works(given):
    """Return the two small nets: synthetic data and digits, 30 epochs."""
    X, y = make_classification(4000, 20, n_informative=10, random_state=0)
    digits, labels = load_digits(return_X_y=True)
    if given.quick:
        X, y, digits, labels = X[:300], y[:300], digits[:300], labels[:300]
    shared = {"epochs": 2 if given.quick else 30, "threads": given.threads or 1, "kind": "small"}
    return [
        Work("synthetic", X.astype(np.float32), y, (64,), 128, **shared),
        Work("digits", (digits / 16).astype(np.float32), labels, (100,), 64, **shared),
    ]


def mnist_arrays(given, rows):
    """Return (what it is, X, y) of MNIST, or where there is no file of noise of its shape."""
    rows = 600 if given.quick else given.rows or rows
    if given.data.is_file():
        data = load_data(given.data)
        return "MNIST", data.X_train[:rows], data.y_train[:rows].astype(np.int64)
    random = np.random.default_rng(0)
    X = random.random((rows, 784), np.float32)
    return f"noise, for want of {given.data.name},", X, random.integers(10, size=rows)


def mnist_works(given, rows=60_000):
    """Return one epoch of 2×400 and 2×1200 hidden units with batches of 128 and of 512.

    One of them, with few units, for a quick run.
    """
    data, X, y = mnist_arrays(given, rows)
    threads = given.threads or os.cpu_count()
    works = [
        Work(data, X, y, (units, units), batch_size, 1, threads, f"2×{units}")
        for units in (400, 1200)
        for batch_size in (128, 512)
    ]
    return [replace(works[-1], hidden=(30, 30))] if given.quick else works
