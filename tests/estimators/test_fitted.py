"""The fitted attributes that scikit-learn's perceptrons have, beside scikit-learn's own."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
TWO = np.c_[X[:, 0], X[:, 1] * 100]
OURS = {"max_epochs": 5, "random_state": 0, "epsilon": 0.05}
THEIRS = {"max_iter": 5, "random_state": 0, "tol": 0}
NAMES = ["loss_", "best_loss_", "best_validation_score_", "n_layers_", "n_outputs_"]
NAMES += ["out_activation_", "coefs_", "intercepts_", "t_"]
PAIRS = {
    "classifier": (AdvBPClassifier, MLPClassifier, Y),
    "regressor": (AdvBPRegressor, MLPRegressor, X[:, 0]),
    "two outputs": (AdvBPRegressor, MLPRegressor, TWO),
}


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("held_out", [{}, {"early_stopping": True, "validation_fraction": 0.2}])
@pytest.mark.parametrize("hidden", [(8,), (4, 6)])
@pytest.mark.parametrize("ours, theirs, y", PAIRS.values(), ids=PAIRS)
def test_as_scikit_learns(ours, theirs, y, hidden, held_out):
    net = ours(hidden, **OURS, **held_out).fit(X, y)
    other = theirs(hidden_layer_sizes=hidden, **THEIRS, **held_out).fit(X, y)
    for name in NAMES:
        found, expected = getattr(net, name), getattr(other, name)
        if name in ("coefs_", "intercepts_"):
            assert [a.shape for a in found] == [a.shape for a in expected], name
        elif isinstance(expected, float):
            assert isinstance(found, float), name
        else:
            assert found == expected, name
    assert net.loss_ == net.loss_curve_[-1]
    if held_out:
        assert net.best_validation_score_ == max(net.validation_scores_)
        assert net.validation_loss_curve_ == net.history[:, "valid_loss"]
    else:
        assert net.best_loss_ == min(net.loss_curve_) and net.validation_loss_curve_ is None
    # The weights are those that predict.
    h = X
    for W, b in zip(net.coefs_[:-1], net.intercepts_[:-1], strict=True):
        h = np.maximum(h @ W + b, 0)
    logits = h @ net.coefs_[-1] + net.intercepts_[-1]
    np.testing.assert_allclose(logits, net.forward(X).numpy(), rtol=1e-9, atol=1e-12)
    net.coefs_[0][:] = 0
    assert net.coefs_[0].any()


def test_rows_are_counted_as_they_come():
    weight = np.where(np.arange(150) % 3, 1.0, 0.0)
    net = AdvBPClassifier(**OURS).fit(X, Y, sample_weight=weight)
    assert net.t_ == 5 * 100
    net.partial_fit(X[:40], Y[:40])
    assert net.t_ == 540
    with pytest.raises(ValueError, match="NaN"):
        net.partial_fit(np.full((40, 4), np.nan), Y[:40])
    assert net.t_ == 540
    assert net.set_params(warm_start=True).fit(X, Y).t_ == 540 + 750
    assert net.set_params(warm_start=False, iterator_train__drop_last=True).fit(X, Y).t_ == 640
    assert AdvBPClassifierCV(cv=2, epsilons=2, max_epochs=3).fit(X, Y).t_ == 450


def test_two_classes_and_other_outputs():
    two = Y < 1
    assert AdvBPClassifier(**OURS).fit(X, two).n_outputs_ == 2
    assert AdvBPClassifier(**OURS, output="logistic").fit(X, Y).out_activation_ == "logistic"


def test_a_module_of_ones_own_has_no_coefs():
    net = AdvBPClassifier(module=nn.Linear(4, 3), **OURS).fit(X, Y)
    for name in ("coefs_", "intercepts_", "n_layers_"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}': its module is a Linear"):
            getattr(net, name)
    assert net.loss_ == net.loss_curve_[-1] and net.t_ == 750 and net.n_outputs_ == 3


@pytest.mark.parametrize("name", [*NAMES, "validation_loss_curve_"])
def test_before_fit_there_is_nothing(name):
    assert not hasattr(AdvBPClassifier(), name)
    assert not hasattr(AdvBPRegressor(), name)
