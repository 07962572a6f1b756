"""The step's gradients in closed form, as torch compiles them."""

import torch

from sk_advbp.backprop import adversarial_gradients

__all__ = ["CompiledGradients"]


class CompiledGradients:
    """`adversarial_gradients`, compiled for mini-batches of one size.

    The last batch of an epoch may be smaller: it goes through the function as it is, since
    torch would compile anew for its size, which takes longer than most fits.

    Parameters
    ----------
    batch_size : int
    device : torch.device
    **options
        Of `torch.compile`. Where there are none, CUDA gets ``mode="reduce-overhead"``: a CUDA
        graph is one launch instead of one for every operation.
    """

    def __init__(self, batch_size, device, **options):
        if not options and device.type == "cuda":
            options = {"mode": "reduce-overhead"}
        self._batch_size = batch_size
        self._compiled = torch.compile(adversarial_gradients, **{"dynamic": False} | options)

    def __call__(self, x, y, **keywords):
        """Return what `adversarial_gradients` returns.

        Logits and gradients may be memory that the next call writes to.
        """
        if len(x) != self._batch_size:
            return adversarial_gradients(x, y, **keywords)
        torch.compiler.cudagraph_mark_step_begin()
        loss, *others = self._compiled(x, y, **keywords)
        return loss.clone(), *others
