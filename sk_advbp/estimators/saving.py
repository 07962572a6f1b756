"""`save_model`: a fitted estimator as one file that runs nothing when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
import torch
from sklearn.base import is_classifier
from torch import nn
from torch.utils.data import DataLoader

from sk_advbp._version import __version__
from sk_advbp.estimators.likelihood import log_likelihood_score
from sk_advbp.keeping import encoded, write_file
from sk_advbp.training.batches import ArrayDataset, Batches

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from sklearn.base import BaseEstimator


__all__ = ["FORMAT", "KNOWN", "OF_SOME", "SavingMixin", "check_finite_weights", "fitted_names"]

FORMAT = 1

VERSIONS = {
    "sk_advbp": __version__,
    "torch": torch.__version__,
    "scikit-learn": sklearn.__version__,
    "numpy": np.__version__,
}

# What a file may name: torch's optimizers and losses, what cuts mini-batches, and our score.
KNOWN: dict[str, object] = {
    "sk_advbp.log_likelihood_score": log_likelihood_score,
    "sk_advbp.training.ArrayDataset": ArrayDataset,
    "sk_advbp.training.Batches": Batches,
    "torch.utils.data.DataLoader": DataLoader,
    **{
        f"torch.optim.{name}": value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    },
    **{f"torch.nn.{name}": value for name, value in vars(nn).items() if name.endswith("Loss")},
}

# The attributes of a fitted estimator that a file has, and those that only some have.
FITTED: tuple[str, ...] = ("n_features_in_", "sample_shape_", "dtype_", "device_")
FITTED += ("epsilon_unit_", "_reach", "_built_from", "module_", "criterion_", "optimizer_")
FITTED += ("generator_", "history_", "callbacks_")
OF_CLASSIFIERS = ("classes_inferred_",)
OF_REGRESSORS = ("y_mean_", "y_scale_", "_target_shape")
OF_SEARCHES = ("epsilons_", "epsilon_", "max_epochs_", "best_index_", "best_score_", "cv_results_")
OF_SOME: tuple[str, ...] = (
    "feature_names_in_",
    "_frozen",
    "_losses_of_nets",
    "_trimmed_for_prediction",
    "t_",
)
OF_SOME += ("_target_shape", "_sparse_labels")  # of classifiers a file may be older than these


def fitted_names(estimator: BaseEstimator) -> tuple[str, ...]:
    """Return the names of the attributes that each fitted `estimator` of this class has."""
    of_kind = OF_CLASSIFIERS if is_classifier(estimator) else OF_REGRESSORS
    searches = "epsilons" in estimator.get_params(deep=False)
    return FITTED + of_kind + (OF_SEARCHES if searches else ())


def check_finite_weights(estimator: BaseEstimator) -> None:
    """Raise ValueError where a parameter of the module is not finite."""
    for name, parameter in estimator.module_.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"the parameter {name} of module_ is not finite")


class SavingMixin:
    """A fitted estimator writes itself to a file."""

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file that `sk_advbp.load_model` reads.

        The file is one of safetensors, with the weights and what training goes on from as
        arrays, and with parameters, labels, names of features, units and versions as JSON in
        its header. To read it runs no code.

        Parameters
        ----------
        path : str or os.PathLike
            It is replaced where there is a file already: by the whole new one, or not at all.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        TypeError
            For a parameter that cannot be written, such as a callback, a function or a loss of
            your own: it is named. A `module` of your own is given to ``load_model`` again.
        ValueError
            For an estimator of a class that is not the package's own, and for weights that are
            not finite.

        Notes
        -----
        Requests of metadata and scikit-learn's callbacks are not written.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_iris
        >>> from sk_advbp import AdvBPClassifier, load_model
        >>> X, y = load_iris(return_X_y=True)
        >>> net = AdvBPClassifier((8,), max_epochs=3, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "iris.safetensors")
        ...     net.save_model(path)
        ...     (load_model(path).predict_proba(X) == net.predict_proba(X)).all()
        np.True_
        """
        net: Any = self
        net.check_is_fitted()
        if type(net).__module__.partition(".")[0] != "sk_advbp":
            raise ValueError(f"save_model knows the package's own classes. Got {type(net)!r}.")
        check_finite_weights(net)
        if net.module is not net._built_from["module"]:
            raise ValueError(f"module={net.module!r} is not the one that was fitted.")
        parameters = {n: vars(net)[n] for n in net._get_param_names() if n != "module"}
        state = net._plain_state(own_objects=False)
        state = {n: state[n] for n in (*fitted_names(net), *OF_SOME) if n in state}
        state["_built_from"] = state["_built_from"] | {"module": None}
        arrays: dict[str, NDArray[Any]] = {}
        content: dict[str, Any] = {"format": FORMAT, "versions": VERSIONS}
        content["class"] = type(net).__name__
        content["own_module"] = None if net.module is None else type(net.module_).__qualname__
        for kind, values in (("parameters", parameters), ("fitted", state)):
            content[kind] = {n: encoded(v, n, arrays, KNOWN) for n, v in values.items()}
        write_file(path, content, arrays)
