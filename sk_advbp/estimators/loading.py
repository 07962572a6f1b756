"""`load_model`: the estimator in a file of ``save_model``, after many checks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils._param_validation import validate_parameter_constraints

from sk_advbp._version import __version__
from sk_advbp.core.optimizers import FUSED_OPTIMIZERS
from sk_advbp.estimators.base import BUILT_FROM, PERCEPTRON_BUILT_FROM
from sk_advbp.estimators.classifier import AdvBPClassifier
from sk_advbp.estimators.regressor import AdvBPRegressor
from sk_advbp.estimators.regressor_search import AdvBPRegressorCV
from sk_advbp.estimators.saving import (
    FORMAT,
    KNOWN,
    OF_SOME,
    check_finite_weights,
    fitted_names,
)
from sk_advbp.estimators.search import AdvBPClassifierCV
from sk_advbp.keeping import decoded, read_file
from sk_advbp.parameters import check_clip, check_epsilon, check_hidden_layer_sizes
from sk_advbp.training.state import PARTS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection
    from typing import BinaryIO

    from numpy.typing import NDArray
    from torch.nn import Module

    Estimator = AdvBPClassifier | AdvBPRegressor

__all__ = ["load_model"]

ESTIMATORS: dict[str, Any] = {
    c.__name__: c for c in (AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor, AdvBPRegressorCV)
}

# What a file from before a parameter was there is loaded with: the value whose behaviour was
# everybody's then. Each parameter that is added to an estimator is added here, too.
ADDED_PARAMETERS: dict[str, object] = {"n_nets": 1, "output": "identity"}

# Before what is a parameter of module or criterion.
OF_PARTS = ("module__", "criterion__")

# What can go wrong with values that somebody else has put together.
MISFITS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
)
MISFITS += (RuntimeError, TypeError, ValueError)


def load_model(
    path: str | os.PathLike[str] | BinaryIO, *, module: Callable[..., Module] | Module | None = None
) -> AdvBPClassifier | AdvBPRegressor:
    """Read an estimator from a file that ``save_model`` has written.

    Nothing of the file is executed or imported, and no more memory is taken than its size
    warrants. A SHA-256 guards against damage; it is no signature, and whoever can write the
    file can write another model.

    Parameters
    ----------
    path : str, os.PathLike or binary file
        A binary file, such as ``io.BytesIO``, is read from its beginning.
    module : torch.nn.Module class or instance, or None, default=None
        The class, or an object of it, that was the parameter `module` when the estimator was
        fitted with a module of your own. Its parameters, ``module__…``, are in the file.

    Returns
    -------
    estimator : AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor or AdvBPRegressorCV
        As it was: it predicts the same, and training that goes on does, too. On the device
        that it was on, where there is that, else on the CPU.

    Raises
    ------
    ValueError
        For a file that is not complete, has been altered, comes from a version that this one
        does not know, or whose parts do not fit together or to `module`.
    OSError
        Where the file cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sk_advbp import AdvBPClassifier, load_model
    >>> X, y = load_iris(return_X_y=True)
    >>> net = AdvBPClassifier((8,), max_epochs=3, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save_model(os.path.join(folder, "iris.safetensors"))
    ...     loaded = load_model(os.path.join(folder, "iris.safetensors"))
    >>> bool((loaded.predict_proba(X) == net.predict_proba(X)).all())
    True
    """
    try:
        return rebuilt(*read_file(path), module)
    except MISFITS as error:
        raise ValueError(f"{path} has no model that can be loaded: {error}") from error


def rebuilt(
    content: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    module: Callable[..., Module] | Module | None,
) -> AdvBPClassifier | AdvBPRegressor:
    """Return the estimator of what a file has.

    Parameters
    ----------
    content : dict
    arrays : dict of str to ndarray
    module : torch.nn.Module class or instance, or None
    """
    written_by = content["versions"]["sk_advbp"]
    if content["format"] != FORMAT:
        raise ValueError(
            f"sk_advbp {written_by} has written it in format {content['format']!r}; this version, "
            f"{__version__}, reads format {FORMAT}"
        )
    own = content["own_module"]
    if (module is None) != (own is None):
        needed = f"module={own}, the class" if own else "no module but the package's own"
        raise ValueError(f"it needs {needed}. Got module={module!r}")
    parameters, state = (_values(content[kind], arrays) for kind in ("parameters", "fitted"))
    if arrays:
        raise ValueError(f"the arrays {sorted(arrays)[:5]} belong to nothing")
    estimator = _with_parameters(content["class"], parameters | {"module": module}, written_by)
    if not state.get("_trimmed_for_prediction"):
        estimator._check_parameters()
    state["_built_from"] = _building(estimator, state["_built_from"] | {"module": module})
    _check_fitted(estimator, state)
    parts = {name: state.pop(name) for name in PARTS if name in state}
    vars(estimator).update(state)
    _check_sizes(estimator, parts["module_"])
    _check_optimizer(estimator, parts)
    for kind in ("module", "criterion", "optimizer"):
        with estimator._current_init_context(kind):
            estimator._register_attribute(f"{kind}_", None)
    estimator.initialized_ = True
    estimator._rebuild(**parts)
    check_finite_weights(estimator)
    estimator.module_.eval()
    return estimator


def _values(trees: dict[str, object], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: decoded(tree, arrays, KNOWN) for name, tree in trees.items()}


def with_added(given: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the `given` values with those of `ADDED_PARAMETERS` for other ones of the `names`."""
    return {n: value for n, value in ADDED_PARAMETERS.items() if n in names} | given


def _with_parameters(class_name: str, given: dict[str, Any], written_by: str) -> Any:
    """Return an estimator with the parameters of a file from this version or an earlier one."""
    names = set(ESTIMATORS[class_name]()._get_param_names())
    given = with_added(given, names)
    unknown = sorted(name for name in given.keys() - names if "__" not in name)
    if unknown or names - given.keys():
        raise ValueError(
            f"{unknown} are no parameters, and {sorted(names - given.keys())} are missing; "
            f"sk_advbp {written_by} has written it, and this is {__version__}"
        )
    return ESTIMATORS[class_name](**given)


def _building(estimator: Estimator, given: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that the net was built from, checked."""
    names = BUILT_FROM + (PERCEPTRON_BUILT_FROM if given["module"] is None else ())
    given = with_added(given, names)
    others = given.keys() - set(names)
    if set(names) - given.keys() or not all(n.startswith(OF_PARTS) for n in others):
        raise ValueError(f"{sorted(given)} are not what a net is built from")
    constraints = estimator._parameter_constraints
    # A trimmed net has lost its optimizer, and is not asked for it.
    checked = {n: v for n, v in given.items() if n in constraints}
    validate_parameter_constraints({n: constraints[n] for n in checked}, checked, "the net")
    if "hidden_layer_sizes" in given:
        check_hidden_layer_sizes(given["hidden_layer_sizes"])
    return given


def _check_fitted(estimator: Estimator, state: dict[str, Any]) -> None:
    """Raise where the attributes are not those of a fitted `estimator`, or do not agree."""
    names = set(fitted_names(estimator))
    if names - state.keys() or state.keys() - names - set(OF_SOME):
        raise ValueError(f"{sorted(state)} are not the attributes of {type(estimator).__name__}")
    shape, n_features = state["sample_shape_"], state["n_features_in_"]
    epsilon, norm, clip = state["_reach"]
    if type(shape) is not tuple or shape[:1] != (n_features,):
        raise ValueError(f"samples of shape {shape} do not have {n_features} features")
    check_epsilon(epsilon, shape)
    check_epsilon(state["epsilon_unit_"], shape)
    check_clip(clip, shape)
    named = state.get("feature_names_in_")
    if (named is not None and len(named) != n_features) or norm not in ("linf", "l2"):
        raise ValueError(f"{n_features} features do not fit the names {named}, or no norm {norm!r}")
    if state["dtype_"] not in ("float32", "float64") or state["callbacks_"] != []:
        raise ValueError(f"dtype {state['dtype_']!r} or callbacks are not what a file has")
    if is_classifier(estimator):
        classes = state["classes_inferred_"]
        if classes.ndim != 1 or not np.array_equal(classes, np.unique(classes)):
            raise ValueError(f"the classes {classes} are not sorted and unique")
        shape = state.get("_target_shape", ())
        if shape not in ((), (len(classes),)):
            raise ValueError(f"{len(classes)} labels do not fit an indicator matrix of {shape}")
    else:
        mean, scale = state["y_mean_"], state["y_scale_"]
        fit = mean.shape == scale.shape == (len(mean),) and np.isfinite(mean).all()
        if not (fit and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError(f"y cannot have mean {mean} and scale {scale}")


def _check_sizes(estimator: Estimator, arrays: dict[str, Any]) -> None:
    """Raise where the module would have other tensors than `arrays`, before it takes memory."""
    with estimator._as_built():
        kwargs = estimator.get_params_for("module")
        if estimator._has_own_module:
            kwargs = estimator._perceptron_parameters() | kwargs
            hidden = kwargs["hidden_layer_sizes"]
            sizes = [kwargs["in_features"], *hidden, kwargs["out_features"]]
            expected = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
            found = sum(array.size for array in arrays.values())
            if expected * (kwargs.get("n_nets") or 1) != found:
                raise ValueError(f"layers of {sizes} units have {expected} weights. Got {found}")
        elif isinstance(estimator.module, type):
            with torch.device("meta"):
                tensors = estimator.module(**kwargs).state_dict()
            expected = {name: tuple(t.shape) for name, t in tensors.items() if torch.is_tensor(t)}
            found = {name: a.shape for name, a in arrays.items() if isinstance(a, np.ndarray)}
            if found != expected:
                raise ValueError(f"module has tensors of the shapes {expected}. Got {found}")


def _check_optimizer(estimator: Any, parts: dict[str, Any]) -> None:
    """Raise where torch's fused steps, which trust them, would meet moments of other shapes."""
    plain = parts["optimizer_"]
    if plain is None or estimator._built_from["optimizer"] not in FUSED_OPTIMIZERS:
        return
    for name, state in plain["state"].items():
        shape = parts["module_"][name].shape if name in parts["module_"] else None
        for moment, array in state.items():
            if isinstance(array, np.ndarray) and array.ndim and array.shape != shape:
                raise ValueError(f"{moment} of {name} has shape {array.shape}. Expected {shape}")
