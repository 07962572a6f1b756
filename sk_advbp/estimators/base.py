"""What scikit-learn asks of every estimator: parameters, validation, seeds, dtype, tags.

Written once for classifier and regressor; `training_data` has what becomes of the data.
"""

import difflib
import inspect
import math
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted
from skorch.utils import get_map_location, is_dataset

from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.core.perturbation import displace
from sk_advbp.estimators._documentation import documentation_address
from sk_advbp.estimators.adversary import AdversaryMixin
from sk_advbp.estimators.fitted import FittedAttributes
from sk_advbp.estimators.training_data import TrainingData
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
)
from sk_advbp.training.batches import ArrayDataset
from sk_advbp.training.net import AdversarialNet
from sk_advbp.training.outputs import first_output
from sk_advbp.training.reach import Reach

__all__ = ["AdversarialEstimator"]

# Bytes of the widest activation when predicting: large products without large memory.
PREDICTION_BYTES = 2**25

# What the net is built from, which only a fit that starts anew can change: any net, and the
# package's perceptron.
BUILT_FROM = ("module", "criterion", "optimizer", "output", "epsilon_unit")
PERCEPTRON_BUILT_FROM = ("hidden_layer_sizes", "activation", "dropout", "input_dropout")

FITTED_BOOKKEEPING = ("_built_from", "_modules", "_criteria", "_optimizers")
CALLBACK_CONTEXT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


@cache
def _signature_names(estimator_class):
    """Return the names of the parameters that ``__init__`` spells out."""
    parameters = inspect.signature(estimator_class.__init__).parameters.values()
    return {p.name for p in parameters if p.kind != p.VAR_KEYWORD} - {"self"}


def let_go_of_graph(module):
    """Detach the tensors that `module` has kept of a forward pass: torch does not copy others."""
    for part in module.modules():
        for name, value in vars(part).items():
            if torch.is_tensor(value) and not value.is_leaf:
                vars(part)[name] = value.detach()


def _is_of_component(name):
    """Return whether `name` is that of a parameter such as ``optimizer__weight_decay``."""
    prefix, dunder, rest = name.partition("__")
    return prefix in PREFIXES and bool(dunder and rest) and not rest.endswith("_")


class AdversarialEstimator(
    TrainingData, FittedAttributes, AdversaryMixin, CallbackSupportMixin, AdversarialNet
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

    A subclass says what its targets are: `_target_checks` (of ``validate_data``), `_encoding`
    (the class that checks and encodes them), `_settle_targets` and `_targets` (what the first
    data fix of it), `_class_weights` and `_default_criterion`.
    """

    _parameter_constraints = CONSTRAINTS

    # ---- parameters ------------------------------------------------------------------

    def _store(self, arguments):
        """Keep the arguments of ``__init__``, as they are, as attributes."""
        arguments = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
        extra = arguments.pop("kwargs")
        for name in extra:
            # Other unknown names are stored, and refused by ``fit``, as is scikit-learn's way.
            # These would be taken for fitted or private attributes.
            if name.startswith("_") or name.endswith("_"):
                self._refuse_name(name)
        # Not by setattr: skorch's would take a module among the parameters for its own.
        vars(self).update(arguments, **extra)

    def _get_param_names(self):
        extra = {k for k in vars(self) if not (k.startswith("_") or k.endswith("_"))}
        return sorted(_signature_names(type(self)) | extra)

    def _check_names(self):
        """Raise TypeError for a parameter that nothing would take."""
        for name in self._get_param_names():
            if name not in _signature_names(type(self)) and not _is_of_component(name):
                self._refuse_name(name)

    def _refuse_name(self, name):
        known = [*_signature_names(type(self)), *(f"{prefix}__" for prefix in PREFIXES)]
        close = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"{type(self).__name__} got an unexpected parameter {name!r}.{hint}")

    def set_params(self, **params):
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
        vars(self).update(params)
        there = {f"callbacks__{name}" for name, _ in vars(self).get("callbacks_", ())}
        live = {k: v for k, v in params.items() if "__".join(k.split("__")[:2]) in there}
        if live:
            self._set_params_callback(**live)
        if self._training:
            self._apply_at_once(params)
        return self

    def _apply_at_once(self, params):
        """Let a running training see new parameters of the optimizer, or build components anew."""
        self._apply_virtual_params(params)
        changed = {name.partition("__")[0] for name in params if _is_of_component(name)}
        if kinds := changed & {"module", "compile", "criterion"}:
            self._rebuild(kinds)
            self._built_from = self._building_parameters()

    def _check_parameters(self):
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
        if self.amp and self.dtype == "float64":
            raise InvalidParameterError("amp=True keeps float32 weights. Got dtype='float64'.")

    def _validate_params(self):
        """Do nothing: skorch's checks are part of `_check_parameters`."""

    def _perceptron_parameters(self):
        return {
            "in_features": getattr(self, "n_features_in_", None),
            "out_features": self._n_outputs_or_none(),
            "hidden_layer_sizes": check_hidden_layer_sizes(self.hidden_layer_sizes),
            "activation": self.activation,
            "dropout": python_number(self.dropout),
            "input_dropout": python_number(self.input_dropout),
        }

    def _n_outputs_or_none(self):
        """Return the number of outputs; None where no targets were seen."""
        try:
            return self._targets.n_outputs
        except AttributeError:
            return None

    def initialize(self):
        """Build the parts of the net, as skorch does, and note what they are built from."""
        self._built_from = self._building_parameters()
        return super().initialize()

    def _building_parameters(self):
        names = BUILT_FROM + (PERCEPTRON_BUILT_FROM if self.module is None else ())
        values = {name: getattr(self, name) for name in names}
        if self.module is None:
            values["hidden_layer_sizes"] = check_hidden_layer_sizes(self.hidden_layer_sizes)
        for kind in ("module", "criterion"):
            values |= {f"{kind}__{k}": v for k, v in self.get_params_for(kind).items()}
        return values

    def _check_unchanged(self):
        """Raise ValueError where the parameters ask for another net than that which is there."""
        before, now = self._built_from, self._building_parameters()
        if self.dtype != "auto":
            before, now = before | {"dtype": self.dtype_}, now | {"dtype": self.dtype}
        for name in before | now:
            built, asked = before.get(name), now.get(name)
            if built is not asked and not np.array_equal(built, asked):
                raise ValueError(
                    f"Training goes on with the net that was built with {name}={built!r}. Got "
                    f"{asked!r}: for another net call fit with warm_start=False."
                )

    # ---- fit -------------------------------------------------------------------------

    def _fit(self, X, y, sample_weight, *, fresh, incremental=False, **announced):
        """Check everything, then train: from the start where `fresh`, else from where it is."""
        # A net that was initialized, or loaded, goes on from there although no data were seen.
        kept = self.initialized_ and (incremental or self.warm_start)
        with self._unchanged_on_error(kept):
            data = self._checked(X, y, sample_weight, fresh=fresh, kept=kept, **announced)
            self._train_on(data, kept=kept, incremental=incremental)
        return self

    def _checked(self, X, y, sample_weight, *, fresh, kept=False, **announced):
        """Return the training data, when parameters and data have passed all checks."""
        self._check_parameters()
        if not kept:
            self._forget_fit()
            self.device_ = check_device(self.device)
            check_dtype(self.dtype, self.device_)
        return self._let_in(X, y, sample_weight, fresh=fresh, **announced)

    def _task_of_training(self, n_epochs):
        """Return what scikit-learn's callbacks see the training as: the root of all tasks."""
        return self._init_callback_context(max_subtasks=n_epochs)

    def _train_on(self, data, *, kept=False, incremental=False):
        """Train on `Rows` or `Samples` the net that is there, where it is `kept`, or a new one."""
        dataset, target = self._dataset_of(data)
        self._reach = self._reach_of_training()
        if not kept:
            self.generator_ = torch.Generator().manual_seed(check_seed(self.random_state))
            self.initialize()
        else:
            self._check_unchanged()
            self._reapply_optimizer_parameters()
            if not incremental:
                self._initialize_callbacks()
        self.train(dataset, target, incremental=incremental)

    def _reach_of_training(self):
        """Return ε in the units of X, the norm and the bounds, as the parameters have them."""
        epsilon = check_epsilon(self.epsilon, self.sample_shape_) * self.epsilon_unit_
        return Reach(epsilon, self.norm, check_clip(self.clip, self.sample_shape_))

    def _displacement(self):
        """Return the map (gradient closure, x) → x'; None where ε = 0 moves nothing."""
        if not self._reach.moves or self.clean_weight == 1:
            return None
        start = python_number(self.random_start)
        options = {"random_start": start, "perturbation": self.perturbation}
        return partial(displace, **self._reach.on(self.device_, self.dtype_), **options)

    def _forget_fit(self):
        """Drop all that an earlier fit has left."""
        for name in list(vars(self)):
            if name in FITTED_BOOKKEEPING or (name.endswith("_") and not name.startswith("__")):
                del vars(self)[name]

    @contextmanager
    def _unchanged_on_error(self, kept=False):
        """Leave the estimator as it was where the body raises; with the net, if it is `kept`."""
        before, n_epochs = dict(vars(self)), len(self.history_ or ())
        if kept:
            let_go_of_graph(self.module_)
            trained = ("module_", "criterion_", "optimizer_", "generator_")
            # In one call, so that the copied optimizer steps the copied weights.
            before |= deepcopy({name: before[name] for name in trained})
        try:
            yield
        except BaseException:
            before |= {k: v for k, v in vars(self).items() if k in CALLBACK_CONTEXT}
            vars(self).clear()
            vars(self).update(before)
            if kept:
                del self.history[n_epochs:]
            raise

    # ---- HTML ------------------------------------------------------------------------

    _doc_link_module = "sk_advbp"

    @property
    def _doc_link_template(self):
        """The page of the API to which the HTML representation links; empty for no link."""
        address = documentation_address()
        return address and f"{address}generated/names/sk_advbp.{{estimator_name}}.html"

    # ---- after fit -------------------------------------------------------------------

    def check_is_fitted(self, attributes=None, *args, **kwargs):
        """Raise sklearn.exceptions.NotFittedError before ``fit``."""
        check_is_fitted(self, attributes, *args, **kwargs)

    def __sklearn_is_fitted__(self):
        return self.initialized_ and hasattr(self, "n_features_in_")

    def _rows_at_once(self):
        """Return how many rows to predict at a time within `PREDICTION_BYTES`."""
        if not self.initialized_:
            self.check_is_fitted()
        if not isinstance(self.module_, MultilayerPerceptron):
            return self.batch_size if self.batch_size > 0 else 1024
        widest = max(self.n_features_in_, *(layer.out_features for layer in self.module_.layers))
        return max(1, PREDICTION_BYTES // (widest * np.dtype(self.dtype_).itemsize))

    def _logits(self, X):
        """Return the module's output for X, a tensor on the CPU."""
        self.check_is_fitted()
        if not is_dataset(X):
            X = ArrayDataset(self._validated(X, reset=False))
        outputs = map(first_output, self.forward_iter(X, training=False, device="cpu"))
        output = torch.cat(list(outputs))
        # -inf may be meant, as the logit of a class that is ruled out.
        if output.numel() and not output.amax() < math.inf:
            raise ValueError(
                "The output of the net is not finite: X has values that are too large for it."
            )
        return output

    def __setstate__(self, state):
        # skorch would replace the parameter `device` by what it finds on this machine.
        given, resolved = state["device"], state.get("device_", "cpu")
        available = str(get_map_location(resolved))
        super().__setstate__(state | {"device": available})
        vars(self)["device"] = given
        if "device_" in state:
            self.device_ = available

    def __repr__(self, N_CHAR_MAX=700):
        return BaseEstimator.__repr__(self, N_CHAR_MAX)

    def get_metadata_routing(self):
        """Return the metadata that this estimator asks for.

        Returns
        -------
        routing : MetadataRequest
        """
        return self._get_metadata_request()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def n_iter_(self):
        """Number of epochs that were run."""
        self.check_is_fitted_attribute("n_iter_")
        return len(self.history)

    @property
    def loss_curve_(self):
        """Mean of the minimised loss in each epoch."""
        self.check_is_fitted_attribute("loss_curve_")
        return [row["train_loss"] for row in self.history]

    @property
    def validation_scores_(self):
        """Score on the held-out data after each epoch; None where nothing was held out."""
        self.check_is_fitted_attribute("validation_scores_")
        scores = [row[self.valid_score] for row in self.history if self.valid_score in row]
        return scores or None

    def check_is_fitted_attribute(self, name):
        """Raise AttributeError, as for any attribute that is not there before ``fit``."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
