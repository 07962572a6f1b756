"""Adversarial back-propagation as scikit-learn estimators."""

from sk_advbp._version import __version__
from sk_advbp.classifier import AdvBPClassifier

__all__ = ["AdvBPClassifier", "__version__"]
