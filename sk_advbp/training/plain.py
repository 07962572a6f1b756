"""Whether the closed form computes what a module computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules import module as of_all_modules

from sk_advbp.core.mlp import ACTIVATIONS, MultilayerPerceptron, StackedLinear

if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_plain"]


def is_plain(module: nn.Module) -> bool:
    """Return whether the equations of `sk_advbp.core.backprop` are all that `module` does.

    They are for the package's perceptron while nobody has changed it: no subclass, no hook, no
    parametrization, pruned, frozen or shared part, no method of an instance. Of anything else
    automatic differentiation knows more.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    plain : bool
    """
    if type(module) is not MultilayerPerceptron or _hooks_of_all_modules():
        return False
    # Asked in each epoch and prediction: the dictionaries themselves, as torch's own ways to
    # go through parts and parameters take four times as long.
    parts: list[nn.Module | None] = [module]
    for part in parts:
        if part is not None:
            if _is_watched(part.__dict__):
                return False
            parts += part._modules.values()
    function = ACTIVATIONS[module.activation]
    if not all(type(unit) is function for unit in module.activations):
        return False
    kind = nn.Linear if module.n_nets is None else StackedLinear
    parameters: list[nn.Parameter | None] = []
    for layer in module.layers:
        if type(layer) is not kind:
            return False
        parameters += map(layer._parameters.get, ("weight", "bias"))
    one_each = len(set(map(id, parameters))) == len(parameters)
    return one_each and all(map(_learns_unwatched, parameters))


def _hooks_of_all_modules() -> bool:
    """Return whether torch calls somebody for each module there is."""
    return bool(
        of_all_modules._global_forward_hooks
        or of_all_modules._global_forward_pre_hooks
        or of_all_modules._global_backward_hooks
        or of_all_modules._global_backward_pre_hooks
    )


def _is_watched(part: dict[str, Any]) -> bool:
    """Return whether a call of a `part`, its attributes, is more than its class's ``forward``."""
    return bool(
        part["_forward_hooks"]
        or part["_forward_pre_hooks"]
        or part["_backward_hooks"]
        or part["_backward_pre_hooks"]
        or "forward" in part
    )


def _learns_unwatched(parameter: Any) -> bool:
    """Return whether it is a parameter, not what pruning left of one, and nobody's hook on it."""
    return bool(
        type(parameter) is nn.Parameter
        and parameter.requires_grad
        and not parameter._backward_hooks
        and not parameter._post_accumulate_grad_hooks
    )
