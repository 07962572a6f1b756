"""The fused step of torch's Adam and AdamW without what surrounds it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["FUSED_OPTIMIZERS", "FusedStep"]

FUSED_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


class FusedStep:
    """The step of an Adam or AdamW optimizer, as one call of its fused kernel.

    ``Adam.step`` collects its tensors anew each time, sorts them by device and dtype and
    enters a profiler's range: on small nets that takes as long as back-propagation. Here they
    are collected once. They are the tensors of ``optimizer.state``, and the hyperparameters
    are read from ``param_groups`` at each step, so that schedules, callbacks and pickles see
    what they always see.

    Parameters
    ----------
    optimizer : torch.optim.Adam or torch.optim.AdamW
        One that `supports` accepts.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._groups = [
            (group, group["params"], *_moments(optimizer, group), *_counter(optimizer, group))
            for group in optimizer.param_groups
        ]

    @staticmethod
    def supports(optimizer: Optimizer) -> bool:
        """Return whether the step is one call of the kernel, and the state is there already."""
        if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
            return False
        parameters = list(chain.from_iterable(g["params"] for g in optimizer.param_groups))
        plain = all(
            group["fused"]
            and not (group["amsgrad"] or group["capturable"] or group["differentiable"])
            and not torch.is_tensor(group["lr"])
            for group in optimizer.param_groups
        )
        hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        one_kind = len({(p.device, p.dtype) for p in parameters}) == 1
        ready = all(p.requires_grad and optimizer.state.get(p) for p in parameters)
        return plain and one_kind and not hooks and ready

    def __call__(self) -> None:
        """Update the parameters from their ``.grad``."""
        for group, parameters, exp_avgs, exp_avg_sqs, steps, counter, one in self._groups:
            counter.add_(one)
            kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            beta1, beta2 = group["betas"]
            kernel(
                parameters,
                [p.grad for p in parameters],
                exp_avgs,
                exp_avg_sqs,
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
            )


def _moments(optimizer: Optimizer, group: dict[str, Any]) -> list[list[Tensor]]:
    states = [optimizer.state[p] for p in group["params"]]
    return [[state[k] for state in states] for k in ("exp_avg", "exp_avg_sq")]


def _counter(optimizer: Optimizer, group: dict[str, Any]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Make the step counters of `group` views of one tensor, which one call counts up."""
    states = [optimizer.state[p] for p in group["params"]]
    counter = torch.stack([state["step"] for state in states])
    for state, step in zip(states, counter, strict=True):
        state["step"] = step
    return [state["step"] for state in states], counter, torch.ones_like(counter)
