"""Whether the closed form computes what a module computes."""

from torch import nn
from torch.nn.modules import module as of_all_modules

from sk_advbp.core.mlp import MultilayerPerceptron

__all__ = ["is_plain"]

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
HOOKS_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def is_plain(module):
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
    if any(map(_is_watched, module.modules())):
        return False
    if not all(map(_is_affine, module.layers)):
        return False
    parameters = [p for layer in module.layers for p in layer._parameters.values()]
    one_each = len(set(map(id, parameters))) == len(parameters)
    return one_each and all(map(_learns_unwatched, parameters))


def _hooks_of_all_modules():
    """Return whether torch calls somebody for each module there is."""
    return any(getattr(of_all_modules, f"_global{name}", None) for name in HOOKS)


def _is_watched(part):
    """Return whether a call of `part` is more than its class's ``forward``."""
    return "forward" in vars(part) or any(getattr(part, name) for name in HOOKS)


def _is_affine(layer):
    """Return whether `layer` is W h + b of two parameters; pruning takes their names away."""
    return type(layer) is nn.Linear and all(
        type(layer._parameters.get(name)) is nn.Parameter for name in ("weight", "bias")
    )


def _learns_unwatched(parameter):
    hooked = any(getattr(parameter, name, None) for name in HOOKS_OF_PARAMETERS)
    return parameter.requires_grad and not hooked
