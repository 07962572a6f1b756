"""The allowed values of the parameters, and the checks that no table can say."""

from __future__ import annotations

import math
import numbers
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, InvalidParameterError, Options, StrOptions
from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis

from sk_advbp.core.mlp import ACTIVATIONS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from sk_advbp._types import Clip, Floats, Matrix, RandomState

T = TypeVar("T")

__all__ = [
    "CONSTRAINTS",
    "PREFIXES",
    "check_clip",
    "check_deviation",
    "check_device",
    "check_dtype",
    "check_epsilon",
    "check_epsilon_unit",
    "check_hidden_layer_sizes",
    "check_seed",
    "has_float64",
    "python_number",
    "scaled_weight",
]

# What may stand before the double underscore of a parameter.
PREFIXES = (
    "module",
    "criterion",
    "optimizer",
    "iterator_train",
    "iterator_valid",
    "dataset",
    "callbacks",
    "compile",
)

COLUMNS_AT_ONCE = 64

_RATE = Interval(numbers.Real, 0, 1, closed="left")
_SHARE = Interval(numbers.Real, 0, 1, closed="both")
_COUNT = Interval(numbers.Integral, 1, None, closed="left")


def python_number(value: T) -> T:
    """Return a number as Python's own, which torch takes everywhere; anything else as it is.

    NumPy's scalars and fractions pass the checks of scikit-learn, which are of abstract numbers.
    """
    number: Any = value
    if isinstance(value, (bool, np.bool_)):
        number = bool(value)
    elif isinstance(value, numbers.Integral):
        number = int(value)
    elif isinstance(value, numbers.Real):
        number = float(value)
    return number


def check_device(device: str | torch.device) -> str:
    """Return the device string that `device` stands for; ``"auto"`` is CUDA where there is one."""
    if isinstance(device, str) and device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
        torch.empty(1, device=resolved).tolist()  # "meta" has no values
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidParameterError(
            f"The 'device' parameter must be 'auto' or a torch device that this machine has, "
            f"such as 'cpu' or 'cuda:0'. Got {device!r}: {reason}"
        ) from error
    return "cpu" if resolved.type == "cpu" else str(resolved)  # there is one


def has_float64(device: str | torch.device) -> bool:
    """Return whether `device` computes in float64, as Apple's ``"mps"`` does not."""
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError):
        return False
    return True


def check_dtype(dtype: str, device: str | torch.device) -> None:
    """Raise InvalidParameterError for float64 where `device` does not have it."""
    if dtype == "float64" and not has_float64(device):
        raise InvalidParameterError(
            f"dtype='float64' is not there on the device {device!r}, which takes 'float32' or "
            "'auto'."
        )


def check_array_parameter(
    value: ArrayLike, name: str, shape: tuple[int, ...], accepted: str
) -> float | Floats:
    """Return `value` as a float or as a float64 array of `shape`."""
    try:
        array = np.asarray(value)
        array = array.astype(np.float64) if array.dtype.kind in "buifO" else np.asarray(math.nan)
    except (TypeError, ValueError):
        array = np.asarray(math.nan)
    if array.shape not in ((), shape) or np.isnan(array).any():
        raise InvalidParameterError(
            f"{name} must be {accepted}, or an array of them of the shape of one sample, "
            f"{shape}. Got {value!r}" + (f" of shape {array.shape}." if array.shape else ".")
        )
    return float(array) if array.shape == () else array


def check_epsilon(epsilon: ArrayLike, shape: tuple[int, ...]) -> float | Floats:
    """Return ε as a float or as an array of the `shape` of one sample, all finite and ≥ 0."""
    epsilon_ = check_array_parameter(epsilon, "epsilon", shape, "a finite number >= 0")
    if not (np.isfinite(epsilon_).all() and np.min(epsilon_) >= 0):
        raise InvalidParameterError(f"epsilon must be finite and >= 0. Got {epsilon!r}.")
    return epsilon_


def scaled_weight(weight: Floats) -> Floats:
    """Return weights of which the largest is in [1/2, 1): their ratios are all that counts.

    Weights of 1e-50, or products of 1e200, would leave the range of what they are cast to. A
    power of two changes no digit.

    Parameters
    ----------
    weight : float64 ndarray of shape (n,)
        Not negative.

    Returns
    -------
    scaled : float64 ndarray of shape (n,)
    """
    _, exponent = np.frexp(weight.max(initial=0.0))
    # Of the smallest numbers 2 to that power is beyond float64: by halves.
    return np.ldexp(np.ldexp(weight, -(exponent // 2)), exponent // 2 - exponent)


def standard_deviation(X: Matrix, sample_weight: Floats | None = None) -> Floats:
    """Return the weighted standard deviation of each feature; exactly 0 for a constant one.

    Parameters
    ----------
    X : ndarray of shape (n, ...) or CSR matrix of shape (n, n_features)
    sample_weight : ndarray of shape (n,) or None, default=None

    Returns
    -------
    deviation : float64 ndarray of the shape of one sample
        Infinite where squares are beyond float64.
    """
    weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
    with np.errstate(over="ignore", invalid="ignore"):
        return _standard_deviation(X, weight)


def _standard_deviation(X: Matrix, weight: Floats) -> Floats:
    if not weight.all():
        X, weight = X[np.flatnonzero(weight)], weight[weight != 0]
    if sparse.issparse(X):
        _, variance = mean_variance_axis(X.astype(np.float64), axis=0, weights=weight)
        low, high = min_max_axis(X, axis=0)
    else:
        columns = X.reshape(len(X), -1)
        variance = np.empty(columns.shape[1])
        # Some columns at a time: what is computed in between is float64.
        for block in gen_batches(len(variance), COLUMNS_AT_ONCE):
            x = columns[:, block]
            mean = np.average(x, axis=0, weights=weight)
            variance[block] = np.average(np.square(x - mean), axis=0, weights=weight)
        variance = variance.reshape(X.shape[1:])
        low, high = X.min(axis=0), X.max(axis=0)
    # The mean of equal numbers may be rounded.
    return np.where(low == high, 0.0, np.sqrt(np.maximum(variance, 0)))


def check_deviation(deviation: Floats) -> Floats:
    """Return the standard `deviation` of X; raise ValueError where it is not finite."""
    if not np.isfinite(deviation).all():
        raise ValueError("X has values too large for a standard deviation: scale it.")
    return deviation


def check_epsilon_unit(
    unit: ArrayLike,
    X: Matrix | None,
    sample_weight: Floats | None = None,
    shape: tuple[int, ...] | None = None,
) -> float | Floats:
    """Return what one of ε is in the units of `X`, as a float or an array of one sample's shape.

    Parameters
    ----------
    unit : {"absolute", "std"} or array-like
    X : ndarray or CSR matrix, or None
        None where the samples come one by one, and then have the given `shape`.
    sample_weight : ndarray of shape (n,) or None, default=None
    shape : tuple of int or None, default=None
    """
    accepted = "'absolute', 'std' or finite numbers >= 0"
    if isinstance(unit, str) and unit in ("absolute", "std"):
        if unit == "absolute":
            return 1.0
        if X is None:
            raise ValueError("epsilon_unit='std' needs X as an array. Got a torch Dataset as X.")
        return check_deviation(standard_deviation(X, sample_weight))
    shape = shape or X.shape[1:]  # type: ignore[union-attr]  # one of them is there
    unit_ = check_array_parameter(unit, "epsilon_unit", shape, accepted)
    if not (np.isfinite(unit_).all() and np.min(unit_) >= 0):
        raise InvalidParameterError(f"epsilon_unit must be {accepted}. Got {unit!r}.")
    return unit_


def check_clip(
    clip: Clip | None, shape: tuple[int, ...]
) -> tuple[float | Floats, float | Floats] | None:
    """Return None, or (low, high) as floats or arrays of the `shape` of one sample."""
    if clip is None:
        return None
    if not isinstance(clip, (tuple, list)) or len(clip) != 2:
        raise InvalidParameterError(f"clip must be None or a pair (low, high). Got {clip!r}.")
    low, high = (check_array_parameter(c, "clip", shape, "numbers (low, high)") for c in clip)
    if not np.all(np.less(low, high)):
        raise InvalidParameterError(f"clip must be (low, high) with low < high. Got {clip!r}.")
    return low, high


CONSTRAINTS: dict[str, list[object]] = {
    "n_nets": [_COUNT],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "norm": [StrOptions({"linf", "l2"})],
    "perturbation": [StrOptions({"adversarial", "random"})],
    "clean_weight": [_SHARE],
    "random_start": [_SHARE],
    "dropout": [_RATE],
    "input_dropout": [_RATE],
    "module": [callable, torch.nn.Module, None],
    "criterion": [callable, None],
    "optimizer": [callable],
    "lr": [Interval(numbers.Real, 0, None, closed="neither")],
    "lr_schedule": [StrOptions({"constant", "linear"})],
    "max_epochs": [_COUNT],
    "batch_size": [_COUNT, Options(numbers.Integral, {-1})],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
    "n_iter_no_change": [_COUNT],
    "tol": [Interval(numbers.Real, 0, None, closed="left")],
    "train_split": [callable, None],
    "callbacks": [list, None, StrOptions({"disable"})],
    "predict_nonlinearity": [callable, None, StrOptions({"auto"})],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "perturbation_dtype": [StrOptions({"auto", "float32", "bfloat16"})],
    "amp": ["boolean"],
    "compile": ["boolean"],
    "use_caching": ["boolean", StrOptions({"auto"})],
    "torch_load_kwargs": [dict, None],
    "iterator_train": [callable],
    "iterator_valid": [callable],
    "dataset": [callable],
    "random_state": ["random_state"],
}


def check_hidden_layer_sizes(sizes: int | Sequence[int]) -> tuple[int, ...]:
    """Return `sizes` as a tuple of int; one number is one layer."""
    given = np.atleast_1d(np.asarray(sizes, dtype=object))
    if given.ndim != 1 or not all(isinstance(s, numbers.Integral) and int(s) > 0 for s in given):
        raise InvalidParameterError(
            "hidden_layer_sizes must be a positive integer or a sequence of positive integers, "
            f"one a hidden layer. Got {sizes!r}."
        )
    return tuple(map(int, given))


def check_seed(random_state: RandomState) -> int:
    """Return a seed from `random_state`; None takes one from the operating system.

    Unlike `sklearn.utils.check_random_state`, which for None draws from NumPy's global state.
    """
    if random_state is None:
        return secrets.randbits(63)
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
