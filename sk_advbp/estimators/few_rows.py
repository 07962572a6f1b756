"""The short way of a few rows through the net, for a service that predicts one at a time."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sk_advbp.training.batches import Batches
from sk_advbp.training.plain import is_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["FewRows"]

# Of so few rows the dataset, the iterator and skorch's steps take longer than the net.
FEW_ROWS = 256

# What a subclass may have made of skorch's way.
STEPS = ("evaluation_step", "forward_iter", "get_dataset", "get_iterator", "infer")


def _overrides_a_step(estimator_class: type) -> bool:
    """Return whether a subclass, of somebody else's, has a step of its own on the long way."""
    of_modules = (getattr(getattr(estimator_class, name), "__module__", "") for name in STEPS)
    return not all(module.split(".")[0] in ("sk_advbp", "skorch") for module in of_modules)


# With a type: to mypy a class with an untyped base cannot be hashed.
_changes_the_way: Callable[[type], bool] = cache(_overrides_a_step)


class FewRows:
    """The part of `AdversarialEstimator` that predicts a few rows, as a mixin."""

    dtype_: str
    device_: str
    sample_shape_: tuple[int, ...]
    module_: Any
    iterator_valid: Any
    _has_own_module: Any

    def _is_valid(self, X: object) -> bool:
        """Return whether validation would hand back X itself, in a tenth of its time.

        False says nothing: scikit-learn's validation then finds out.
        """
        if type(X) is not np.ndarray or X.dtype != self.dtype_ or not X.flags.c_contiguous:
            return False
        # Where the net has seen names of features, scikit-learn warns of an X without.
        if X.shape[1:] != self.sample_shape_ or not len(X) or "feature_names_in_" in vars(self):
            return False
        # Finite where all numbers are, and not too large; unlike a sum it warns of nothing.
        return math.isfinite(np.vdot(X, X))

    def _takes_at_once(self, X: Any) -> bool:
        """Return whether the module takes validated X as it is, and nobody would notice."""
        return (
            isinstance(X, np.ndarray)
            and len(X) <= FEW_ROWS
            and self._has_own_module
            and is_plain(self.module_)  # else it may write to X, or draw random numbers
            and self.iterator_valid is Batches
            and not _changes_the_way(type(self))
        )

    def _output(self, X: Any) -> Tensor:
        """Return what the module makes of validated X, a tensor on the CPU."""
        # torch warns of memory that it must not write to, and threads cannot each silence it.
        x = torch.from_numpy(X if X.flags.writeable else X.copy())
        module = self.module_
        if module.training:
            module.eval()
        # What no_grad does, for less; even a conversion to what x is already costs a call.
        recorded = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        try:
            return module(x) if self.device_ == "cpu" else module(x.to(self.device_)).cpu()
        finally:
            torch.set_grad_enabled(recorded)
