"""Adversarial back-propagation as scikit-learn estimators."""

from sk_advbp._version import __version__
from sk_advbp.classifier import AdvBPClassifier
from sk_advbp.regressor import AdvBPRegressor
from sk_advbp.search import AdvBPClassifierCV

__all__ = ["AdvBPClassifier", "AdvBPClassifierCV", "AdvBPRegressor", "__version__"]
