"""The state of a net as arrays and plain values: what pickles, copies and files have of it."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PrintLog
from skorch.history import History
from skorch.setter import optimizer_setter
from skorch.utils import get_map_location
from torch import nn

from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.training.callbacks import SklearnCallbacks, StopEarly
from sk_advbp.training.reach import Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from skorch.callbacks import Callback
    from torch import Generator
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

__all__ = [
    "CALLBACK_CONTEXT",
    "PARTS",
    "PIECES_OF_TRAINING",
    "PlainState",
    "let_go_of_graph",
    "on_the_cpu",
]

# What scikit-learn's callbacks keep in an estimator, and take away themselves.
CALLBACK_CONTEXT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")

# The attributes that only a running training has: they are in no copy or pickle of the net.
PIECES_OF_TRAINING = (
    "_training",
    "_incremental",
    "_schedule",
    "_batch_rows",
    "_batches_heard",
    "_displace",
    "_closed_form",
    "_fused_step",
    "_outputs_checked",
    *CALLBACK_CONTEXT,
)

# Where skorch's nets keep the bytes of a pickle.
PICKLED = "__cuda_dependent_attributes__"

# The parts whose counterparts in the state are plain.
PARTS = ("module_", "criterion_", "optimizer_", "generator_", "callbacks_", "history_", "_reach")

# The callbacks that each fit makes for itself, in which a later one reads nothing.
OF_EACH_FIT = {
    "epoch_timer": EpochTimer,
    "print_log": PrintLog,
    "stop_early": StopEarly,
    "sklearn_callbacks": SklearnCallbacks,
}


def as_plain(value: Any) -> Any:
    """Return `value` with an array for each tensor, also in lists, tuples and dicts.

    Parameters
    ----------
    value : object
        A tensor of a dtype that NumPy does not have stays a tensor, on the CPU.
    """
    if torch.is_tensor(value):
        value = value.detach().cpu()
        return value if value.dtype == torch.bfloat16 else value.numpy().copy()
    if isinstance(value, dict):
        return {key: as_plain(v) for key, v in value.items()}
    return type(value)(map(as_plain, value)) if type(value) in (list, tuple) else value


def as_tensors(value: Any) -> Any:
    """Return `value` with a tensor, of its own memory, for each array: `as_plain` undone."""
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    if isinstance(value, dict):
        return {key: as_tensors(v) for key, v in value.items()}
    return type(value)(map(as_tensors, value)) if type(value) in (list, tuple) else value


def let_go_of_graph(module: Module) -> None:
    """Detach the tensors that `module` has kept of a forward pass: torch does not copy others."""
    for part in module.modules():
        for name, value in vars(part).items():
            if torch.is_tensor(value) and not value.is_leaf:
                vars(part)[name] = value.detach()


def on_the_cpu(module: Module) -> Module:
    """Return `module`, a copy of it where it lies elsewhere than on the CPU."""
    if all(t.device.type == "cpu" for t in (*module.parameters(), *module.buffers())):
        return module
    let_go_of_graph(module)
    copied = deepcopy(module).cpu()
    for part in copied.modules():
        for name, value in vars(part).items():
            if torch.is_tensor(value):
                vars(part)[name] = value.cpu()
    return copied


def plain_optimizer(optimizer: Optimizer, names: Mapping[int, str]) -> dict[str, Any] | Optimizer:
    """Return the state of `optimizer`, its parameters by their `names` {id: name}.

    One that steps other parameters than these is returned as it is.
    """
    groups = optimizer.param_groups
    if not all(id(p) in names for group in groups for p in group["params"]):
        return optimizer
    return {
        "groups": [
            as_plain(group | {"params": [names[id(p)] for p in group["params"]]})
            for group in groups
        ],
        "state": {names[id(p)]: as_plain(dict(s)) for p, s in optimizer.state.items()},
    }


def rebuilt_optimizer(
    optimizer_class: Callable[..., Optimizer],
    plain: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
) -> Optimizer:
    """Return the optimizer of the state that `plain_optimizer` has given.

    Parameters
    ----------
    optimizer_class : type
    plain : dict
    parameters : dict of str to torch.nn.Parameter
    """
    groups = [
        as_tensors(group) | {"params": [parameters[name] for name in group["params"]]}
        for group in plain["groups"]
    ]
    taken = inspect.signature(optimizer_class).parameters.keys() - {"params"}
    optimizer = optimizer_class(
        groups, **{name: value for name, value in groups[0].items() if name in taken}
    )
    numbers = {name: i for i, name in enumerate(n for g in plain["groups"] for n in g["params"])}
    state = optimizer.state_dict()
    state["state"] = {numbers[name]: as_tensors(s) for name, s in plain["state"].items()}
    # Moves each tensor to where the optimizer wants it.
    optimizer.load_state_dict(state)
    return optimizer


class PlainState(NeuralNet):
    """A net whose state has arrays and plain values for the parts that torch would pickle.

    A module or a loss of the user's own is part of the state as the object that it is, on the
    CPU. All other parts are built anew when the state is set, on the device that they were on
    or, where there is none, on the CPU.
    """

    device_: str
    generator_: Generator
    module_: Any
    optimizer_: Optimizer
    _built_from: dict[str, Any] | None

    def __getstate__(self) -> dict[str, Any]:
        return self._plain_state() if self.initialized_ else dict(self.__dict__)

    def _plain_state(self, own_objects: bool = True) -> dict[str, Any]:
        """Return the attributes, of the `PARTS` what `_rebuild` makes them of.

        Parameters
        ----------
        own_objects : bool, default=True
            Whether a module or a loss of the user's own is there as an object; else its
            tensors are, too, as arrays.
        """
        left_out = {*PIECES_OF_TRAINING, "virtual_params_"}
        state = {k: v for k, v in self.__dict__.items() if k not in left_out}
        as_objects = {
            "module_": own_objects
            and not (self._has_own_module and type(self.module_) is MultilayerPerceptron),
            "criterion_": own_objects and self._of_net("criterion") is not None,
        }
        for name, as_object in as_objects.items():
            part = state[name]
            if isinstance(part, nn.Module):
                state[name] = on_the_cpu(part) if as_object else as_plain(dict(part.state_dict()))
        frozen = [n for n, p in self.module_.named_parameters() if not p.requires_grad]
        if frozen:
            state["_frozen"] = frozen
        if self.module_.training:
            state["_in_training_mode"] = True
        if self.optimizer_ is not None:
            names = {id(p): name for name, p in self.get_all_learnable_params()}
            state["optimizer_"] = plain_optimizer(self.optimizer_, names)
        if "_reach" in state:
            state["_reach"] = tuple(self._reach)
        given = [(n, cb) for n, cb in self.callbacks_ if type(cb) is not OF_EACH_FIT.get(n)]
        return state | {
            "generator_": self.generator_.get_state().numpy(),
            "history_": list(self.history_),
            "callbacks_": given,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if PICKLED in state:
            raise ValueError(
                f"The state of {type(self).__name__} has a pickle in it, as that of a skorch net "
                "or of an earlier version. It is not loaded, since it could run any code."
            )
        parts = {name: state[name] for name in PARTS if name in state}
        self.__dict__.update((k, v) for k, v in state.items() if k not in PARTS)
        if self.initialized_:
            self._rebuild(**parts)

    def _rebuild(
        self,
        module_: Any,
        criterion_: Any,
        optimizer_: Any,
        generator_: NDArray[np.uint8],
        callbacks_: list[tuple[str, Callback]],
        history_: list[dict[str, Any]],
        _reach: tuple[Any, ...] | None = None,
    ) -> None:
        """Build the parts from what `_plain_state` has of them."""
        self.device_ = str(get_map_location(self.device_))
        self.generator_ = torch.Generator()
        with self._lent_generator(), self._as_built():
            # Drawn from a generator of its own, and then overwritten.
            self._build("module_", module_, self.initialize_module)
            self._build("criterion_", criterion_, self.initialize_criterion)
        in_training = self.__dict__.pop("_in_training_mode", False)
        if isinstance(module_, dict):  # else each part of it has its own mode
            self.module_.train(in_training)
        if self._has_own_module:
            self.module_.generator = None
        for name in self.__dict__.pop("_frozen", ()):
            self.module_.get_parameter(name).requires_grad_(False)
        if isinstance(optimizer_, dict):
            parameters = dict(self.get_all_learnable_params())
            optimizer_ = rebuilt_optimizer(self._of_net("optimizer"), optimizer_, parameters)
        self.__dict__["optimizer_"] = optimizer_
        self._register_setters()
        self.generator_.set_state(torch.tensor(generator_))
        self.history_ = History(history_)
        self.callbacks_ = self._callbacks_of_each_fit() + callbacks_
        if _reach is not None:
            self._reach = Reach(*_reach)

    def _build(self, name: str, part: Any, initialize: Callable[[], object]) -> None:
        """Set the attribute `name`: `part`, or what `initialize` builds, with the arrays in it."""
        if isinstance(part, dict):
            initialize()
            if isinstance(self.__dict__[name], nn.Module):
                self.__dict__[name].load_state_dict(as_tensors(part))
                part = self.__dict__[name]
        self.__dict__[name] = part.to(self.device_) if isinstance(part, nn.Module) else part

    @contextmanager
    def _as_built(self) -> Iterator[None]:
        """Have the parameters that they had when the net was built."""
        built = self._built_from or {}
        given = dict(self.__dict__)
        of_parts = [n for n in given if n.startswith(("module__", "criterion__"))]
        for name in of_parts:
            del self.__dict__[name]
        self.__dict__.update(built)
        try:
            yield
        finally:
            for name in {*of_parts, *built}:
                self.__dict__.pop(name, None)
            self.__dict__.update((n, given[n]) for n in {*of_parts, *built} & given.keys())

    def _register_setters(self) -> None:
        """Let `set_params` reach the optimizers while training, as skorch's ``initialize`` does."""
        self._initialize_virtual_params()
        for name in self._optimizers:
            setter = partial(optimizer_setter, optimizer_attr=f"{name}_", optimizer_name=name)
            patterns = [f"{name}__param_groups__*__*", f"{name}__*"]
            self._register_virtual_param(patterns + ["lr"] * (name == "optimizer"), setter)

    def _callbacks_of_each_fit(self) -> list[tuple[str, Callback]]:
        """Return the callbacks that skorch and this package add to the user's, initialised."""
        # Parameters may be anything after a fit.
        disabled = isinstance(self.callbacks, str) and self.callbacks == "disable"
        if disabled or getattr(self, "_trimmed_for_prediction", False):
            return []
        given = {
            name: getattr(self, f"callbacks__{name}", cb) for name, cb in self._default_callbacks
        }
        return [(name, cb.initialize()) for name, cb in given.items() if cb is not None]
