"""Adversarial back-propagation as scikit-learn estimators."""

from sk_advbp._version import __version__
from sk_advbp.estimators import (
    AdvBPClassifier,
    AdvBPClassifierCV,
    AdvBPRegressor,
    AdvBPRegressorCV,
    load_model,
    log_likelihood_score,
)

__all__ = [
    "AdvBPClassifier",
    "AdvBPClassifierCV",
    "AdvBPRegressor",
    "AdvBPRegressorCV",
    "__version__",
    "load_model",
    "log_likelihood_score",
]
