"""What scikit-learn asks of an estimator, and the estimators that a user calls.

What lives here: parameters, validation, seeds and tags (`base`), what becomes of the user's data
(`training_data`), labels and numbers as targets (`targets`, `classifier`, `regressor`), the
likelihood of numbers (`likelihood`), what predicts at the end of a pipeline (`pipelines`), ε by
cross-validation (`search`, `regressor_search`, `epsilon_search`, `cross_validation`), attacks as
a method (`adversary`), fitted ones as files (`saving`, `loading`). What may not: mathematics of
the step or of an attack, loops of training.
"""

from sk_advbp.estimators.classifier import AdvBPClassifier
from sk_advbp.estimators.likelihood import log_likelihood_score
from sk_advbp.estimators.loading import load_model
from sk_advbp.estimators.regressor import AdvBPRegressor
from sk_advbp.estimators.regressor_search import AdvBPRegressorCV
from sk_advbp.estimators.search import AdvBPClassifierCV

__all__ = [
    "AdvBPClassifier",
    "AdvBPClassifierCV",
    "AdvBPRegressor",
    "AdvBPRegressorCV",
    "load_model",
    "log_likelihood_score",
]
