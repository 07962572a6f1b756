"""A fit says so where ε is far from the spread of the features."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor

X, Y = load_iris(return_X_y=True)
SPREAD = np.median(X.std(axis=0))
QUICK = {"hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}


def warned(net, X, y=Y, **fit_params):
    """Return the messages of the warnings of a fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(X, y, **fit_params)
    assert {w.category for w in caught} <= {ConvergenceWarning}
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("estimator", [AdvBPClassifier, AdvBPRegressor])
@pytest.mark.parametrize("scale, ratio", [(1e-3, 0.08 / (1e-3 * SPREAD)), (1e3, 8e-5 / SPREAD)])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_one_sentence_with_numbers(estimator, scale, ratio, form):
    (message,) = warned(estimator(**QUICK), form(scale * X))
    assert f"epsilon is {ratio:.3g} standard deviations" in message and "StandardScaler" in message


FAR = 1e-3 * X
QUIET = {
    "scaled": (X, {}),
    "plain back-propagation": (FAR, {"epsilon": 0}),
    "in standard deviations": (FAR, {"epsilon_unit": "std"}),
    "a module of one's own": (FAR, {"module": nn.Linear(4, 3)}),
    "no spread": (np.ones_like(X), {}),
    "what moves has a spread of its size": (X * [1, 1e-6, 1, 1e-6], {"epsilon": [0.1, 0, 0.1, 0]}),
    "a radius that many features share": (np.tile(X, 100), {"norm": "l2", "epsilon": 3.0}),
}


@pytest.mark.parametrize("name", QUIET)
def test_silence_where_there_is_nothing_to_say(name):
    X, params = QUIET[name]
    assert not warned(AdvBPClassifier(**QUICK | params), X)


def test_a_search_follows_the_data():
    search = AdvBPClassifierCV(**QUICK, cv=2)
    assert not warned(search, FAR)
    assert search.epsilons_.max() < 1e-3


def test_one_row_and_going_on_say_nothing():
    net = AdvBPClassifier(**QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.partial_fit(FAR[:1], Y[:1], classes=[0, 1, 2]).partial_fit(FAR, Y)


def test_rows_of_weight_zero_do_not_count():
    far_away = np.concatenate([X, 1e6 * X])
    weight = np.repeat([1.0, 0.0], len(X))
    assert warned(AdvBPClassifier(**QUICK), far_away, np.tile(Y, 2))
    assert not warned(AdvBPClassifier(**QUICK), far_away, np.tile(Y, 2), sample_weight=weight)
