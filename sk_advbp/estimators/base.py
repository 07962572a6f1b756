"""What scikit-learn asks of every estimator: parameters, validation, seeds, dtype, tags.

Written once for classifier and regressor; `training_data` has what becomes of the data.
"""

from __future__ import annotations

import difflib
import inspect
import math
import warnings
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import sklearn.callback
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.core.optimizers import ELEMENTWISE_OPTIMIZERS
from sk_advbp.core.perturbation import displace
from sk_advbp.estimators._documentation import documentation_address
from sk_advbp.estimators.adversary import AdversaryMixin
from sk_advbp.estimators.few_rows import FewRows
from sk_advbp.estimators.fitted import FittedAttributes
from sk_advbp.estimators.saving import SavingMixin
from sk_advbp.estimators.training_data import Rows, TrainingData
from sk_advbp.parameters import (
    CONSTRAINTS,
    PREFIXES,
    check_clip,
    check_device,
    check_dtype,
    check_epsilon,
    check_hidden_layer_sizes,
    check_seed,
    python_number,
    standard_deviation,
)
from sk_advbp.training.batches import ArrayDataset, is_dataset
from sk_advbp.training.net import AdversarialNet
from sk_advbp.training.outputs import first_output
from sk_advbp.training.reach import Reach
from sk_advbp.training.state import CALLBACK_CONTEXT, let_go_of_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn, Self, TypeVar

    from numpy.typing import ArrayLike
    from sklearn.utils import Tags
    from sklearn.utils.metadata_routing import MetadataRequest
    from torch import Tensor

    from sk_advbp._types import Floats, MatrixLike, Samples
    from sk_advbp.estimators import training_data

    F = TypeVar("F", bound=Callable[..., object])
    E = TypeVar("E", bound="AdversarialEstimator")

__all__ = ["AdversarialEstimator"]

# As scikit-learn has it, with a type.
with_callbacks: Callable[[F], F] = sklearn.callback.with_callbacks

# Bytes of the widest activation when predicting: large products without large memory.
PREDICTION_BYTES = 2**25

# Standard deviations that a perturbation has by any reason: beyond, it buries what there is to
# learn, or is lost in it.
LEAST_RATIO, LARGEST_RATIO = 0.001, 1.0

# What the net is built from, which only a fit that starts anew can change: any net, and the
# package's perceptron.
BUILT_FROM = ("module", "criterion", "optimizer", "output", "epsilon_unit", "n_nets")
PERCEPTRON_BUILT_FROM = ("hidden_layer_sizes", "activation", "dropout", "input_dropout")

FITTED_BOOKKEEPING = ("_built_from", "_modules", "_criteria", "_optimizers", "_losses_of_nets")

# What a fitted estimator knows of the data besides its weights.
KNOWLEDGE = (
    "n_features_in_",
    "feature_names_in_",
    "sample_shape_",
    "dtype_",
    "device_",
    "epsilon_unit_",
    "classes_inferred_",
    "y_mean_",
    "y_scale_",
    "_target_shape",
    "_sparse_labels",
    "_reach",
)


def _names_in_signature(estimator_class: type) -> set[str]:
    """Return the names of the parameters that ``__init__`` spells out."""
    # Of the class itself.
    signature = inspect.signature(estimator_class.__init__)  # type: ignore[misc]
    parameters = signature.parameters.values()
    return {p.name for p in parameters if p.kind != p.VAR_KEYWORD} - {"self"}


# With a type: to mypy a class with an untyped base cannot be hashed.
_signature_names: Callable[[type], set[str]] = cache(_names_in_signature)


def _is_of_component(name: str) -> bool:
    """Return whether `name` is that of a parameter such as ``optimizer__weight_decay``."""
    prefix, dunder, rest = name.partition("__")
    return prefix in PREFIXES and bool(dunder and rest) and not rest.endswith("_")


class AdversarialEstimator(
    TrainingData,
    FittedAttributes,
    AdversaryMixin,
    SavingMixin,
    FewRows,
    CallbackSupportMixin,
    AdversarialNet,
):
    """The scikit-learn side of the net: see `AdvBPClassifier` for the parameters.

    The way of X and y through ``fit``, in the order in which it happens:

    1. `_check_parameters` refuses what needs no data to be refused.
    2. `_let_in` has scikit-learn validate X and y, once; X takes the dtype of the weights, and y
       becomes what the loss takes: `Rows`.
    3. `_class_weighted` leaves out rows of weight zero; the others are a dataset on the device.
    4. `initialize` builds module, criterion and optimizer, or `_check_unchanged` finds them fit
       to go on.
    5. `train` runs the epochs over the dataset, each mini-batch moved by `Reach`, then learnt.

    A subclass says what its targets are: `_target_checks` (of ``validate_data``),
    `_checked_targets` (y as an array that can be encoded), `_settle_targets` and `_targets` (the
    encoding that the first data fix), `_class_weights` and `_default_criterion`.
    """

    _parameter_constraints = CONSTRAINTS

    n_features_in_: int
    sample_shape_: tuple[int, ...]
    epsilon_unit_: float | Floats
    _reach: Reach

    _warns_of_epsilon = True

    # ---- parameters ------------------------------------------------------------------

    def _store(self, arguments: Mapping[str, Any]) -> None:
        """Keep the arguments of ``__init__``, as they are, as attributes."""
        arguments = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
        extra = arguments.pop("kwargs")
        for name in extra:
            # Other unknown names are stored, and refused by ``fit``, as is scikit-learn's way.
            # These would be taken for fitted or private attributes.
            if name.startswith("_") or name.endswith("_"):
                self._refuse_name(name)
        # Not by setattr: skorch's would take a module among the parameters for its own.
        self.__dict__.update(arguments, **extra)

    def _get_param_names(self) -> list[str]:
        extra = {k for k in self.__dict__ if not (k.startswith("_") or k.endswith("_"))}
        return sorted(_signature_names(type(self)) | extra)

    def _check_names(self) -> None:
        """Raise TypeError for a parameter that nothing would take."""
        for name in self._get_param_names():
            if name not in _signature_names(type(self)) and not _is_of_component(name):
                self._refuse_name(name)

    def _refuse_name(self, name: str) -> NoReturn:
        known = [*_signature_names(type(self)), *(f"{prefix}__" for prefix in PREFIXES)]
        close = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"{type(self).__name__} got an unexpected parameter {name!r}.{hint}")

    def set_params(self, **params: Any) -> Self:
        """Set parameters: they count from the next call of ``fit`` or ``partial_fit``.

        Those that the net is built from (``hidden_layer_sizes``, ``activation``, ``dropout``,
        ``output``, ``optimizer`` and others) count from the next ``fit`` from scratch: training
        that goes on, by ``warm_start`` or ``partial_fit``, refuses another value of them.

        While a fit is running, a callback's change of ``lr`` or ``optimizer__…`` takes
        effect at once, as in skorch, and one of ``module__…`` or ``criterion__…`` builds them and
        the optimizer anew. Those of ``callbacks__…`` are the callbacks' own.

        Returns
        -------
        self : object
        """
        known = self._get_param_names()
        for name in params:
            if name not in known and not _is_of_component(name):
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: "
                    f"{known!r}."
                )
        self.__dict__.update(params)
        own = self.__dict__.get("callbacks_", ())
        there = {f"callbacks__{name}" for name, _ in own}
        live = {k: v for k, v in params.items() if "__".join(k.split("__")[:2]) in there}
        if live:
            self._set_params_callback(**live)
        if self._training:
            self._apply_at_once(params)
        return self

    def _apply_at_once(self, params: dict[str, Any]) -> None:
        """Let a running training see new parameters of the optimizer, or build components anew."""
        self._apply_virtual_params(params)
        changed = {name.partition("__")[0] for name in params if _is_of_component(name)}
        if kinds := changed & {"module", "compile", "criterion"}:
            self._build_anew(kinds)
            self._built_from = self._building_parameters()

    def _check_parameters(self) -> None:
        """Raise InvalidParameterError, or TypeError for an unknown name, before any training."""
        self.check_training_readiness()
        self._check_names()
        # scikit-learn's check asks NumPy about numbers that NumPy may not know.
        parameters = {k: python_number(v) for k, v in self.get_params(deep=False).items()}
        validate_parameter_constraints(self._parameter_constraints, parameters, type(self).__name__)
        check_hidden_layer_sizes(self.hidden_layer_sizes)
        if self.early_stopping and self.callbacks == "disable":
            raise InvalidParameterError(
                "early_stopping=True is done by a callback. Got callbacks='disable'."
            )
        if self._n_asked > 1:
            self._check_several()
        if self.amp and self.dtype == "float64":
            raise InvalidParameterError("amp=True keeps float32 weights. Got dtype='float64'.")

    @property
    def _n_asked(self) -> int:
        """Number of nets that the parameters ask for."""
        return int(self.n_nets)

    def _check_several(self) -> None:
        """Raise InvalidParameterError where several nets cannot be trained as one."""
        if self.module is not None:
            raise InvalidParameterError(
                "n_nets > 1 is of the package's own perceptron. Got a module: scikit-learn's "
                "VotingClassifier(voting='soft'), VotingRegressor or BaggingClassifier average "
                "several estimators with modules of yours."
            )
        if self.optimizer not in ELEMENTWISE_OPTIMIZERS:
            names = ", ".join(optimizer.__name__ for optimizer in ELEMENTWISE_OPTIMIZERS)
            raise InvalidParameterError(
                f"n_nets > 1 needs an optimizer that treats each weight alike: {names} of "
                f"torch.optim. Got {self.optimizer!r}."
            )

    def _validate_params(self) -> None:
        """Do nothing: skorch's checks are part of `_check_parameters`."""

    def _perceptron_parameters(self) -> dict[str, Any]:
        return {
            "in_features": getattr(self, "n_features_in_", None),
            "out_features": self._n_units_or_none(),
            "hidden_layer_sizes": check_hidden_layer_sizes(self.hidden_layer_sizes),
            "activation": self.activation,
            "dropout": python_number(self.dropout),
            "input_dropout": python_number(self.input_dropout),
            "n_nets": None if self._n_asked == 1 else self._n_asked,
            "output": self._kind_of_output(),
        }

    def _n_units_or_none(self) -> int | None:
        """Return the number of outputs of the module; None where no targets were seen."""
        try:
            return self._n_units
        except AttributeError:
            return None

    def initialize(self) -> Self:
        """Build the parts of the net, as skorch does, and note what they are built from."""
        self._built_from = self._building_parameters()
        return super().initialize()

    def _building_parameters(self) -> dict[str, Any]:
        names = BUILT_FROM + (PERCEPTRON_BUILT_FROM if self.module is None else ())
        values = {name: getattr(self, name) for name in names}
        if self.module is None:
            values["hidden_layer_sizes"] = check_hidden_layer_sizes(self.hidden_layer_sizes)
        for kind in ("module", "criterion"):
            values |= {f"{kind}__{k}": v for k, v in self.get_params_for(kind).items()}
        return values

    def _check_unchanged(self) -> None:
        """Raise ValueError where the parameters ask for another net than that which is there."""
        before, now = self._built_from, self._building_parameters()
        assert before is not None  # there is a net
        if self.dtype != "auto":
            before, now = before | {"dtype": self.dtype_}, now | {"dtype": self.dtype}
        for name in before | now:
            built: Any = before.get(name)
            asked: Any = now.get(name)
            if built is not asked and not np.array_equal(built, asked):
                raise ValueError(
                    f"Training goes on with the net that was built with {name}={built!r}. Got "
                    f"{asked!r}: for another net call fit with warm_start=False."
                )

    # ---- fit -------------------------------------------------------------------------

    def _fit(
        self,
        X: Samples,
        y: MatrixLike | None,
        sample_weight: ArrayLike | None,
        *,
        fresh: bool,
        incremental: bool = False,
        **announced: Any,
    ) -> Self:
        """Check everything, then train: from the start where `fresh`, else from where it is."""
        # A net that was initialized, or loaded, goes on from there although no data were seen.
        kept = self.initialized_ and (incremental or self.warm_start)
        with self._unchanged_on_error(kept):
            data = self._checked(X, y, sample_weight, fresh=fresh, kept=kept, **announced)
            self._train_on(data, kept=kept, incremental=incremental)
        return self

    def _checked(
        self,
        X: Samples,
        y: MatrixLike | None,
        sample_weight: ArrayLike | None,
        *,
        fresh: bool,
        kept: bool = False,
        **announced: Any,
    ) -> training_data.Rows | training_data.Samples:
        """Return the training data, when parameters and data have passed all checks."""
        self._check_parameters()
        if not kept:
            self._forget_fit()
            self.device_ = check_device(self.device)
            check_dtype(self.dtype, self.device_)
        return self._let_in(X, y, sample_weight, fresh=fresh, **announced)

    def _task_of_training(self, n_epochs: int) -> Any:
        """Return what scikit-learn's callbacks see the training as: the root of all tasks."""
        return self._init_callback_context(max_subtasks=n_epochs)

    def _train_on(
        self,
        data: training_data.Rows | training_data.Samples,
        *,
        kept: bool = False,
        incremental: bool = False,
    ) -> None:
        """Train on `Rows` or `Samples` the net that is there, where it is `kept`, or a new one."""
        dataset, target = self._dataset_of(data)
        self._reach = self._reach_of_training()
        if not kept and self._warns_of_epsilon and isinstance(data, Rows):
            self._warn_of_epsilon(data)
        if not kept:
            self.generator_ = torch.Generator().manual_seed(check_seed(self.random_state))
            self.initialize()
        else:
            self._check_unchanged()
            self._reapply_optimizer_parameters()
            if not incremental:
                self._initialize_callbacks()
        n_units = self.module_.layers[-1].out_features if self._has_own_module else self._n_units
        if n_units != self._n_units:
            raise ValueError(
                f"The net needs {self._n_units} outputs, one a class or column of y, two with "
                f"output='gaussian'. Got module__out_features={n_units}."
            )
        self.train(dataset, target, incremental=incremental)

    def _reach_of_training(self) -> Reach:
        """Return ε in the units of X, the norm and the bounds, as the parameters have them."""
        epsilon = check_epsilon(self.epsilon, self.sample_shape_) * self.epsilon_unit_
        return Reach(epsilon, self.norm, check_clip(self.clip, self.sample_shape_))

    def _warn_of_epsilon(self, rows: Rows) -> None:
        """Warn where ε is far from the spread of the features: X may not be scaled."""
        if self.module is not None or not self._reach.moves or rows.X.shape[0] < 2:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # of values with too large squares
            deviation = standard_deviation(rows.X, rows.weight)
            epsilon = np.broadcast_to(self._reach.epsilon, deviation.shape)
            moving = (epsilon > 0) & (deviation > 0)
            ratio = float(np.median(epsilon[moving] / deviation[moving])) if moving.any() else 1.0
        if self._reach.norm == "l2":  # which all features share
            ratio /= math.sqrt(max(1, moving.sum()))
        if not LEAST_RATIO <= ratio <= LARGEST_RATIO:
            warnings.warn(
                f"epsilon is {ratio:.3g} standard deviations of the median feature, where "
                f"{LEAST_RATIO:g} to {LARGEST_RATIO:g} make sense: scale X, by StandardScaler for "
                "instance, or give epsilon_unit='std'.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _displacement(self) -> partial[Tensor] | None:
        """Return the map (gradient closure, x) → x'; None where ε = 0 moves nothing."""
        if not self._reach.moves or self.clean_weight == 1:
            return None
        reach = self._reach
        if self._n_asked > 1:  # the rows have an axis of nets
            reach = reach._replace(epsilon=np.reshape(reach.epsilon, (1, 1, -1)))
        start = python_number(self.random_start)
        options = {"random_start": start, "perturbation": self.perturbation}
        return partial(displace, **reach.on(self.device_, self.dtype_), **options)

    def _forget_fit(self) -> None:
        """Drop all that an earlier fit has left."""
        for name in list(self.__dict__):
            if name in FITTED_BOOKKEEPING or (name.endswith("_") and not name.startswith("__")):
                del self.__dict__[name]

    @contextmanager
    def _unchanged_on_error(self, kept: bool = False) -> Iterator[None]:
        """Leave the estimator as it was where the body raises; with the net, if it is `kept`."""
        before, n_epochs = dict(self.__dict__), len(self.history_ or ())
        if kept:
            let_go_of_graph(self.module_)
            trained = ("module_", "criterion_", "optimizer_", "generator_")
            # In one call, so that the copied optimizer steps the copied weights.
            before |= deepcopy({name: before[name] for name in trained})
        try:
            yield
        except BaseException:
            before |= {k: v for k, v in self.__dict__.items() if k in CALLBACK_CONTEXT}
            self.__dict__.clear()
            self.__dict__.update(before)
            if kept:
                del self.history[n_epochs:]
            raise

    # ---- HTML ------------------------------------------------------------------------

    _doc_link_module = "sk_advbp"

    @property
    def _doc_link_template(self) -> str:
        """The page of the API to which the HTML representation links; empty for no link."""
        address = documentation_address()
        return address and f"{address}generated/names/sk_advbp.{{estimator_name}}.html"

    # ---- after fit -------------------------------------------------------------------

    def check_is_fitted(
        self, attributes: str | Sequence[str] | None = None, *args: object, **kwargs: Any
    ) -> None:
        """Raise sklearn.exceptions.NotFittedError before ``fit``."""
        if attributes is not None or not self.__sklearn_is_fitted__():  # quicker than to ask tags
            check_is_fitted(self, attributes, *args, **kwargs)

    def __sklearn_is_fitted__(self) -> bool:
        return self.initialized_ and hasattr(self, "n_features_in_")

    def _rows_at_once(self) -> int:
        """Return how many rows to predict at a time within `PREDICTION_BYTES`."""
        if not self.initialized_:
            self.check_is_fitted()
        if not isinstance(self.module_, MultilayerPerceptron):
            return self.batch_size if self.batch_size > 0 else 1024
        widest = max(self.n_features_in_, *(layer.out_features for layer in self.module_.layers))
        widest *= self._n_nets or 1
        return max(1, PREDICTION_BYTES // (widest * np.dtype(self.dtype_).itemsize))

    # ---- several nets ----------------------------------------------------------------

    @property
    def estimators_(self) -> Sequence[AdversarialEstimator]:
        """The nets as fitted estimators of their own: list of `n_nets`, to see them disagree."""
        self.check_is_fitted_attribute("estimators_")
        with self._as_built():
            return [self._alone(number, self._single()) for number in range(self._n_asked)]

    def _alone(self, number: int, single: E) -> E:
        """Return one of the nets as the estimator that it would be by itself, from `single`."""
        alone = self._knowing_the_data(single)
        alone.generator_ = torch.Generator().manual_seed(check_seed(alone.random_state))
        alone.initialize()
        module = self.module_ if self._n_nets is None else self.module_.nets()[number]
        alone.module_.load_state_dict(module.state_dict())
        alone.module_.eval()
        curve = [losses[number] for losses in self._losses_of_nets] or self.loss_curve_
        for loss in curve:
            alone.history.new_epoch()
            alone.history.record("train_loss", loss)
        return alone

    def _single(self) -> AdversarialEstimator:
        """Return the unfitted estimator of one net."""
        return clone(self).set_params(n_nets=1, callbacks=None)

    def _knowing_the_data(self, net: E) -> E:
        """Return `net` with what this estimator knows of its data."""
        own = self.__dict__
        net.__dict__.update({name: own[name] for name in KNOWLEDGE if name in own})
        return net

    # ---- predictions -----------------------------------------------------------------

    if TYPE_CHECKING:  # scikit-learn has no types

        def score(
            self, X: Samples, y: MatrixLike | None = None, sample_weight: ArrayLike | None = None
        ) -> float:
            """Return the accuracy of a classifier, R² of a regressor."""

    def _logits(self, X: Samples) -> Tensor:
        """Return the module's output for X, a tensor on the CPU."""
        self.check_is_fitted()
        if not is_dataset(X):
            X = X if self._is_valid(X) else self._validated(X, reset=False)
            if self._takes_at_once(X):
                return self._finite(self._output(X))
            X = ArrayDataset(X)
        outputs = map(first_output, self.forward_iter(X, training=False, device="cpu"))
        return self._finite(torch.cat(list(outputs)))

    def _finite(self, output: Tensor) -> Tensor:
        """Return the `output`; raise ValueError where it has overflowed."""
        # -inf may be meant, as the logit of a class that is ruled out.
        overflown = output.numel() and not output.amax() < math.inf
        if overflown and not sklearn.get_config()["assume_finite"]:
            raise ValueError(
                "The output of the net is not finite: X has values that are too large for it."
            )
        return output

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        return BaseEstimator.__repr__(self, N_CHAR_MAX)

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that this estimator asks for.

        Returns
        -------
        routing : MetadataRequest
        """
        return self._get_metadata_request()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def n_iter_(self) -> int:
        """Number of epochs that were run."""
        self.check_is_fitted_attribute("n_iter_")
        return len(self.history)

    @property
    def loss_curve_(self) -> list[float]:
        """Mean of the minimised loss in each epoch."""
        self.check_is_fitted_attribute("loss_curve_")
        return [row["train_loss"] for row in self.history]

    @property
    def validation_scores_(self) -> list[float] | None:
        """Score on the held-out data after each epoch; None where nothing was held out."""
        self.check_is_fitted_attribute("validation_scores_")
        scores = [row[self.valid_score] for row in self.history if self.valid_score in row]
        return scores or None

    def check_is_fitted_attribute(self, name: str) -> None:
        """Raise AttributeError, as for any attribute that is not there before ``fit``."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
