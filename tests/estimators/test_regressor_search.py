"""`AdvBPRegressorCV`, and what both searches choose besides ε."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor, AdvBPRegressorCV

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4))
Y = X[:, 0] ** 2 + 0.1 * RNG.normal(size=90)
TWO = np.stack([Y, 1000 + X[:, 1]], axis=1)
WEIGHT = RNG.integers(0, 3, size=90).astype(float)
EPSILONS = [0.3, 0.0, 0.1]
QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 5, "batch_size": 32, "random_state": 0}
QUICK |= {"lr": 0.01}
ONE_BY_ONE = {"optimizer": torch.optim.Adagrad}


def search(cls=AdvBPRegressorCV, **params):
    return cls(**QUICK | {"epsilons": EPSILONS, "cv": 3, "n_nets": 1} | params)


@pytest.mark.parametrize("how", [{}, ONE_BY_ONE], ids=["stacked", "one by one"])
@pytest.mark.parametrize("y", [Y, TWO], ids=["one", "two"])
def test_same_as_a_grid_search(y, how):
    """But for y, which a stack scales by all rows, and a separate fit by those of its fold."""
    how = {"max_epochs": 60, "lr": 0.02, **how}
    ours = search(**how).fit(X, y)
    grid = GridSearchCV(AdvBPRegressor(**QUICK | how), {"epsilon": EPSILONS}, cv=3).fit(X, y)
    names = [f"split{i}_test_score" for i in range(3)]
    for name in names:
        near = {"atol": 1e-8} if "optimizer" in how else {"atol": 0.1}
        np.testing.assert_allclose(ours.cv_results_[name], grid.cv_results_[name], **near)
    same = AdvBPRegressor(**QUICK | how, epsilon=ours.epsilon_).fit(X, y)
    np.testing.assert_array_equal(ours.predict(X), same.predict(X))
    assert ours.best_score_ == np.mean([ours.cv_results_[n][ours.best_index_] for n in names])


def test_weights_enter_fits_and_scores():
    net = search(**ONE_BY_ONE).fit(X, Y, sample_weight=WEIGHT)
    for fold, (train, test) in enumerate(KFold(3).split(X)):
        for i, epsilon in enumerate(EPSILONS):
            alone = AdvBPRegressor(**QUICK | ONE_BY_ONE, epsilon=epsilon)
            alone.fit(X[train], Y[train], sample_weight=WEIGHT[train])
            expected = r2_score(Y[test], alone.predict(X[test]), sample_weight=WEIGHT[test])
            np.testing.assert_allclose(
                net.cv_results_[f"split{fold}_test_score"][i], expected, atol=1e-6
            )


@pytest.mark.parametrize("cls", [AdvBPClassifierCV, AdvBPRegressorCV])
def test_epochs_are_chosen_with_epsilon(cls):
    y = (X[:, 0] > 0).astype(int) if cls is AdvBPClassifierCV else Y
    net = search(cls, max_epochs=np.array([2, 6])).fit(X, y)
    params = net.cv_results_["params"]
    assert params == [{"epsilon": e, "max_epochs": n} for n in (2, 6) for e in EPSILONS]
    assert params[net.best_index_] == {"epsilon": net.epsilon_, "max_epochs": net.max_epochs_}
    assert net.best_score_ == net.cv_results_["mean_test_score"].max()
    assert net.n_iter_ == net.max_epochs_
    for n in (2, 6):
        alone = search(cls, max_epochs=n).fit(X, y).cv_results_["mean_test_score"]
        rows = [i for i, p in enumerate(params) if p["max_epochs"] == n]
        np.testing.assert_array_equal(net.cv_results_["mean_test_score"][rows], alone)
    single = AdvBPClassifier if cls is AdvBPClassifierCV else AdvBPRegressor
    chosen = {"epsilon": net.epsilon_, "max_epochs": net.max_epochs_}
    same = single(**QUICK | chosen).fit(X, y)
    np.testing.assert_array_equal(net.predict(X), same.predict(X))


@pytest.mark.parametrize("bad", [[], 0, [3, 0], [3, 1.5], "many", [[3]], None])
def test_bad_epochs_are_refused(bad):
    with pytest.raises(ValueError, match="max_epochs"):
        search(max_epochs=bad).fit(X, Y)


@pytest.mark.parametrize(
    "how, several",
    [({}, 5), (ONE_BY_ONE, 1), ({"module": nn.Linear(4, 1)}, 1), ({"n_nets": 2}, 2)],
    ids=["default", "Adagrad", "module", "given"],
)
def test_number_of_nets_where_nobody_says(how, several):
    net = search(**{"n_nets": "auto", "epsilons": [0, 0.1]} | how).fit(X, Y)
    assert len(net.estimators_) == several
    members = [member.predict(X) for member in net.estimators_]
    np.testing.assert_allclose(net.predict(X), np.mean(members, axis=0), rtol=1e-5, atol=1e-6)
    assert {type(member) for member in net.estimators_} == {AdvBPRegressor}


def test_defaults_choose_by_log_loss():
    X, y = load_iris(return_X_y=True)
    net = AdvBPClassifierCV((8,), max_epochs=(2, 4), cv=3, random_state=0).fit(X, y)
    assert net.best_score_ < 0
    by_name = clone(net).set_params(scoring="neg_log_loss").fit(X, y)
    assert by_name.best_score_ == net.best_score_ and by_name.epsilon_ == net.epsilon_


def test_every_check_of_scikit_learn_passes():
    net = AdvBPRegressorCV((8,), epsilons=2, cv=3, max_epochs=10, lr=0.02, random_state=0)
    checks = check_estimator(net, on_fail=None, on_skip=None)
    failed = {c["check_name"]: c["exception"] for c in checks if c["status"] == "failed"}
    assert not failed and len(checks) >= 50


def test_attacks_go_through_the_chosen_nets():
    net = search(n_nets=3).fit(X, Y)
    moved = net.adversarial_examples(X, Y, epsilon=0.2)
    assert np.abs(moved - X).max() <= 0.2 + 1e-12
    assert net.score(moved, Y) < net.score(X, Y)
    with pytest.raises(AttributeError, match="partial_fit"):
        net.partial_fit(X, Y)
