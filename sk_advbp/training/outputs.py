"""What a module puts out: a tensor, or a tuple of them of which the first counts, as in skorch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Outputs = Tensor | tuple[Tensor, ...]

Y = TypeVar("Y")

__all__ = [
    "check_outputs",
    "each_output",
    "first_output",
    "has_lazy_parts",
    "log_of_probabilities",
    "noting_input",
    "settle_sizes",
]


def first_output(output: Outputs) -> Tensor:
    """Return the tensor that predictions and losses are of."""
    return output[0] if isinstance(output, tuple) else output


def each_output(function: Callable[[Tensor], Tensor], output: Y) -> Y:
    """Return `function` of a tensor, or of each tensor of a tuple."""
    given: Any = output
    made: Any = tuple(map(function, given)) if isinstance(given, tuple) else function(given)
    return made


def check_outputs(output: Outputs, n: int, n_units: int, criterion: object = None) -> None:
    """Raise ValueError where a module does not put out what labels and loss are about.

    Parameters
    ----------
    output : torch.Tensor, or tuple of them
        For the first mini-batch.
    n : int
        Its rows.
    n_units : int
        Numbers that each sample needs: one a class, or one a column of y, two where each is
        predicted with its variance.
    criterion : callable or None, default=None
        The class; skorch takes what goes to a ``NLLLoss`` for probabilities.
    """
    first = first_output(output)
    if not torch.is_tensor(first) or tuple(first.shape) != (n, n_units):
        got = f"shape {tuple(first.shape)}" if torch.is_tensor(first) else type(first).__name__
        raise ValueError(
            f"The module must return a tensor of shape (n, {n_units}), one number a class or "
            f"column of y, two with output='gaussian', here ({n}, {n_units}). Got {got}."
        )
    if criterion is nn.NLLLoss and not _sum_to_one(first):
        raise ValueError(
            "With NLLLoss the module must return probabilities, as in skorch, or their logarithms, "
            f"as in torch. Got numbers from {first.min():g} to {first.max():g}: for logits take "
            "CrossEntropyLoss."
        )


def _sum_to_one(output: Tensor) -> bool:
    sums = log_of_probabilities(output).exp().sum(1)
    return torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def log_of_probabilities(output: Tensor) -> Tensor:
    """Return the logarithm of probabilities as skorch takes it, or what already is one.

    Numbers of which none is positive are no probabilities.
    """
    if (output <= 0).all():
        return output
    return torch.log(output + torch.finfo(output.dtype).eps)


@contextmanager
def noting_input(x: Tensor) -> Iterator[None]:
    """Add to what a module raises what it was given."""
    try:
        yield
    except Exception as error:
        error.add_note(f"The module was given a mini-batch of shape {tuple(x.shape)}, {x.dtype}.")
        raise


def has_lazy_parts(module: nn.Module) -> bool:
    """Return whether sizes of `module` follow from its first input."""
    return any(map(is_lazy, module.parameters())) or any(map(is_lazy, module.buffers()))


@torch.no_grad()
def settle_sizes(module: nn.Module, sample_shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Give the lazy parts of `module` their sizes, by one sample of zeros."""
    training = module.training
    module.eval()(torch.zeros((1, *sample_shape), dtype=dtype))
    module.train(training)
