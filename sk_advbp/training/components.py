"""Module, criterion, optimizer, callbacks and iterators of the net, on their device."""

from __future__ import annotations

import inspect
import threading
from contextlib import contextmanager
from copy import deepcopy
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from skorch.callbacks import EpochTimer, PrintLog
from torch.utils.data import DataLoader

from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.core.optimizers import FUSED_OPTIMIZERS
from sk_advbp.parameters import check_device, check_dtype, check_seed, python_number
from sk_advbp.training.batches import ArrayDataset, Batches, unwrap_subset
from sk_advbp.training.callbacks import SklearnCallbacks, StopEarly
from sk_advbp.training.outputs import has_lazy_parts, settle_sizes
from sk_advbp.training.state import PlainState
from sk_advbp.training.streams import StackedBatches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self, TypeVar

    from skorch.callbacks import Callback
    from skorch.history import History
    from torch import Generator
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer
    from torch.utils.data import Dataset

    from sk_advbp._types import SizedIterable
    from sk_advbp.training.batches import Batch

    M = TypeVar("M", bound=Module)
    Parameters = dict[str, Any]

__all__ = ["Components"]


# Held by the fit that has lent its seed to torch's global generator.
GLOBAL_GENERATOR = threading.RLock()


class Components(PlainState):
    """The parts of a skorch net as this package builds them; training is `AdversarialNet`'s.

    A subclass has the parameters of `AdvBPClassifier`, and sets `device_`, `dtype_` and
    `generator_` before it calls `initialize`.
    """

    # skorch sets these in __init__, where scikit-learn allows nothing but the parameters.
    initialized_ = False
    history_: History | None = None
    virtual_params_: MappingProxyType[str, object] = MappingProxyType({})
    _params_to_validate: frozenset[str] = frozenset()

    device_: str
    dtype_: str
    generator_: Generator
    module_: Any  # the package's perceptron, or a module of the user's
    criterion_: Any  # the package's loss, or one of the user's
    optimizer_: Optimizer

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        callbacks = [("epoch_timer", EpochTimer())]
        if np.any(self.verbose):
            callbacks.append(("print_log", PrintLog()))
        if self.early_stopping:
            stop = StopEarly(
                patience=self.n_iter_no_change,
                threshold=python_number(self.tol),
                threshold_mode="abs",
                load_best=True,
            )
            callbacks.insert(1, ("stop_early", stop))
        if hasattr(self, "_skl_callbacks"):
            callbacks.insert(1, ("sklearn_callbacks", SklearnCallbacks()))
        return callbacks

    # The parameters that the net is built from, as they were then; None before.
    _built_from: dict[str, Any] | None = None

    def _of_net(self, name: str) -> Any:
        """Return a parameter as it was when the net was built, or as it is before."""
        return getattr(self, name) if self._built_from is None else self._built_from[name]

    @property
    def _has_own_module(self) -> bool:
        return self._of_net("module") is None

    @contextmanager
    def _lent_generator(self, iterator: SizedIterable[Batch] | None = None) -> Iterator[None]:
        """Seed torch's global generator from ours for code that knows no other.

        Modules, losses, iterators and datasets of the user draw from the global one. It is as
        before when they have finished; fits in other threads wait for it.
        """
        criterion = self._of_net("criterion")
        draws_nothing = criterion is None or criterion.__module__.startswith("torch.nn.")
        ours = self._has_own_module and draws_nothing
        if ours and (iterator is None or isinstance(iterator, (Batches, StackedBatches))):
            yield
            return
        device = torch.device(self.device_)
        seed = int(torch.randint(2**62, (), generator=self.generator_, device="cpu"))
        with GLOBAL_GENERATOR, torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.manual_seed(seed)
            yield

    @contextmanager
    def _resolved_device(self) -> Iterator[None]:
        """Let skorch's own methods, which read `device`, see the resolved one."""
        given = self.device
        self.__dict__["device"] = self.device_
        try:
            yield
        finally:
            self.__dict__["device"] = given

    def initialize(self) -> Self:
        """Build module, criterion, optimizer, callbacks and history anew.

        Before any ``fit`` it serves to build, or to load, a `module_` by itself; the package's
        perceptron then needs ``module__in_features``, and the parameter `classes` or
        ``module__out_features``. A first ``partial_fit``, or ``fit`` with ``warm_start=True``,
        goes on from there; before it nothing is predicted, since labels and units are not known.
        """
        state = self.__dict__
        state.setdefault("device_", check_device(self.device))
        check_dtype(self.dtype, self.device_)
        state.setdefault("dtype_", "float32" if self.dtype == "auto" else self.dtype)
        if "generator_" not in state:
            self.generator_ = torch.Generator().manual_seed(check_seed(self.random_state))
        with self._lent_generator(), self._resolved_device():
            return super().initialize()

    def _build_anew(self, kinds: set[str]) -> None:
        """Build components of `kinds` anew while a training runs, and what depends on them."""
        with self._lent_generator(), self._resolved_device():
            if kinds & {"module", "compile"}:
                self._initialize_module()
            self._initialize_criterion()
            self._initialize_optimizer()
        self.__dict__.update(_closed_form=None, _fused_step=False, _schedule=None)

    def initialize_module(self) -> Self:
        """Build `module_`: the package's perceptron, or the user's module."""
        kwargs = self.get_params_for("module")
        dtype = getattr(torch, self.dtype_)
        if self._has_own_module:
            kwargs = self._perceptron_parameters() | kwargs
            if kwargs["in_features"] is None or kwargs["out_features"] is None:
                raise ValueError(
                    "The size of the net is not known before fit: give module__in_features, "
                    "and classes or module__out_features, to initialize it."
                )
            module = MultilayerPerceptron(**kwargs, generator=self.generator_, dtype=dtype)
        else:
            module = self.initialized_instance(self.module, kwargs)
            if not isinstance(module, torch.nn.Module):
                raise TypeError(
                    f"module must be a torch.nn.Module, or make one. Got {self.module!r}, which "
                    f"makes a {type(module).__name__}."
                )
            # A module that was given as an object is a parameter: a fit must not train it.
            module = (deepcopy(module) if module is self.module else module).to(dtype)
            if has_lazy_parts(module):
                self._settle_sizes(module)
        self.module_ = module
        return self

    def _settle_sizes(self, module: Module) -> None:
        """Let lazy layers know the shape of a sample before the optimizer collects weights."""
        if not hasattr(self, "sample_shape_"):
            raise ValueError(
                "The module has lazy layers, whose sizes are not known before fit: call fit."
            )
        settle_sizes(module, self.sample_shape_, getattr(torch, self.dtype_))

    def initialize_criterion(self) -> Self:
        """Build `criterion_`, which returns one loss a sample."""
        criterion = self.criterion or self._default_criterion()
        try:
            criterion_ = criterion(**self.get_params_for("criterion") | {"reduction": "none"})
        except TypeError as error:
            raise ValueError(
                f"criterion must be a class that takes reduction='none', so that each sample "
                f"has a loss of its own. Got {criterion!r}: {error}"
            ) from error
        if isinstance(criterion_, torch.nn.Module):
            criterion_ = criterion_.to(getattr(torch, self.dtype_))
        self.criterion_ = criterion_
        return self

    def get_params_for(self, prefix: str) -> Parameters:
        """Return the arguments of a component, numbers as Python's own."""
        return {k: python_number(v) for k, v in super().get_params_for(prefix).items()}

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Iterable[tuple[str, Parameter]]
    ) -> tuple[tuple[list[dict[str, object]]], dict[str, object]]:
        """Return the optimizer's arguments: skorch's, and `fused` where torch has it."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        kwargs = {name: python_number(value) for name, value in kwargs.items()}
        for group in args[0]:
            group.update({k: python_number(v) for k, v in group.items() if k != "params"})
        largest = torch.finfo(getattr(torch, self.dtype_)).max
        for name, value in kwargs.items():
            if isinstance(value, float) and abs(value) > largest:
                raise ValueError(
                    f"{name} of the optimizer is too large for dtype({self.dtype_!r}). "
                    f"Got {value!r}."
                )
        excluded = "foreach" in kwargs or kwargs.get("differentiable")
        if self.optimizer in FUSED_OPTIMIZERS and not excluded:
            kwargs.setdefault("fused", torch.device(self.device_).type in ("cpu", "cuda"))
        return args, kwargs

    def _reapply_optimizer_parameters(self) -> None:
        """Write `lr` and ``optimizer__…``, which `set_params` may have changed, into the optimizer.

        It also undoes what a schedule has made of the rate.
        """
        parameters = self.get_all_learnable_params()
        (groups,), kwargs = self.get_params_for_optimizer("optimizer", parameters)
        inspect.signature(self.optimizer).bind(groups, **kwargs)  # as a fresh fit would
        for live, given in zip(self.optimizer_.param_groups, groups, strict=True):
            live.pop("initial_lr", None)
            live.update(kwargs | {k: v for k, v in given.items() if k != "params"})

    def torch_compile(self, module: M, name: str) -> M:
        """Compile in place, so that the keys of the state stay those of the plain module.

        Of the package's perceptron the gradients in closed form are compiled instead.
        """
        if self.compile and name == "module" and not self._has_own_module:
            module.compile(**self.get_params_for("compile"))
        return module

    def load_params(self, *args: object, **kwargs: Any) -> None:
        """Load the parameters of `module_` and others, as in skorch, onto `device_`."""
        with self._resolved_device():
            super().load_params(*args, **kwargs)

    def get_iterator(
        self, dataset: Dataset[object] | StackedBatches, training: bool = False
    ) -> SizedIterable[Batch]:
        """Return the iterator over mini-batches; ours shuffles in training."""
        if isinstance(dataset, StackedBatches):
            return dataset
        iterator = self.iterator_train if training else self.iterator_valid
        kwargs = self.get_params_for("iterator_train" if training else "iterator_valid")
        if iterator is Batches:
            kwargs.setdefault("batch_size", self.batch_size if training else self._rows_at_once())
            kwargs.setdefault("shuffle", training)
            if not isinstance(unwrap_subset(dataset)[0], ArrayDataset):
                iterator = DataLoader
        kwargs.setdefault("batch_size", python_number(self.batch_size))
        if kwargs["batch_size"] == -1:
            # Not every Dataset has a length.
            kwargs["batch_size"] = len(dataset)  # type: ignore[arg-type]
        if iterator in (Batches, DataLoader):
            # Else a DataLoader draws from the global generator, even where it does not shuffle.
            kwargs.setdefault("generator", self.generator_ if training else torch.Generator())
        return iterator(dataset, **kwargs)
