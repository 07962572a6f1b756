"""The step's gradients in closed form, as torch compiles them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sk_advbp.core.backprop import Gradients, adversarial_gradients

__all__ = ["CompiledGradients"]


class CompiledGradients:
    """`adversarial_gradients`, compiled for mini-batches of the size of the first one.

    The last batch of an epoch may be smaller, and the batches of a stack of nets have many
    sizes: they go through the function as it is, since torch would compile anew for each size,
    which takes longer than most fits.

    Parameters
    ----------
    device : torch.device
    **options
        Of `torch.compile`. Where there are none, CUDA gets ``mode="reduce-overhead"``: a CUDA
        graph is one launch instead of one for every operation.
    """

    def __init__(self, device: torch.device, **options: Any) -> None:
        if not options and device.type == "cuda":
            options = {"mode": "reduce-overhead"}
        self._rows: int | None = None
        self._compiled = torch.compile(adversarial_gradients, **{"dynamic": False} | options)

    def __call__(self, x: Tensor, y: Tensor, **keywords: Any) -> Gradients:
        """Return what `adversarial_gradients` returns.

        Logits and gradients may be memory that the next call writes to.
        """
        self._rows = self._rows or len(x)
        if x.ndim != 2 or len(x) != self._rows:
            return adversarial_gradients(x, y, **keywords)
        torch.compiler.cudagraph_mark_step_begin()
        loss, logits, weight_gradients, bias_gradients = self._compiled(x, y, **keywords)
        return loss.clone(), logits, weight_gradients, bias_gradients
