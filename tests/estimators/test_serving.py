"""A fitted estimator in a service: a few rows at a time, and threads beside each other."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skorch import NeuralNet
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.estimators import cross_validation
from sk_advbp.estimators.few_rows import FEW_ROWS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4))
Y = np.array(["ant", "bee", "cat"])[X[:, :3].argmax(1)]
NUMBERS = X[:, :2] @ RNG.normal(size=(2, 2))
QUICK = {"hidden_layer_sizes": (16,), "max_epochs": 3, "random_state": 0}


class DropoutNet(nn.Sequential):
    """A module that draws from torch's global generator."""

    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3))


def the_long_way(net, X):
    """The module's output by skorch's steps."""
    validated = net._validated(X, reset=False)
    return torch.cat(list(NeuralNet.forward_iter(net, net._array_dataset(validated)))).numpy()


# ---- a few rows ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "estimator, y",
    [
        (AdvBPClassifier(**QUICK, dropout=0.5), Y),
        (AdvBPClassifier(**QUICK, n_nets=3), Y),
        (AdvBPRegressor(**QUICK), NUMBERS),
    ],
    ids=["classifier", "several", "regressor"],
)
@pytest.mark.parametrize("rows", [1, 5, FEW_ROWS, FEW_ROWS + 1])
def test_a_few_rows_are_predicted_as_many_are(estimator, y, dtype, rows):
    x = X[:rows].astype(dtype)
    net = estimator.set_params(dtype=dtype).fit(X, y)
    expected, rtol = the_long_way(net, x), 1e-5 if dtype == "float32" else 1e-12
    read_only = x.copy()
    read_only.setflags(write=False)
    for given in (x, read_only, np.asfortranarray(x), x.tolist(), pd.DataFrame(x), x[::-1][::-1]):
        np.testing.assert_allclose(net._logits(given).numpy(), expected, rtol=rtol, atol=rtol)
    assert not net.module_.training


def test_they_go_the_short_way_unless_a_subclass_has_a_way_of_its_own():
    class OwnStep(AdvBPClassifier):
        def evaluation_step(self, batch, training=False):
            return super().evaluation_step(batch, training)

    x = X.astype("float32")
    for estimator, y in [(AdvBPClassifier, Y), (AdvBPRegressor, NUMBERS), (OwnStep, Y)]:
        net = estimator(**QUICK).fit(X, y)
        assert net._takes_at_once(x[:FEW_ROWS]) == (estimator is not OwnStep)
        assert not net._takes_at_once(x[: FEW_ROWS + 1])


def test_a_net_in_training_mode_predicts_all_the_same():
    net = AdvBPClassifier(**QUICK, dropout=0.5).fit(X, Y)
    expected = net.predict_proba(X[:2])
    net.module_.train()
    np.testing.assert_array_equal(net.predict_proba(X[:2]), expected)


BAD = {
    "NaN": (np.full((1, 4), np.nan), "contains NaN"),
    "infinity": (np.array([[1, np.inf, 0, 0]]), "contains infinity"),
    "columns": (X[:1, :3], "has 3 features"),
    "one axis": (X[0], "Expected 2D array"),
    "three axes": (X[:2].reshape(1, 2, 4), "Found array with dim 3"),
    "no rows": (X[:0], "minimum of 1 is required"),
    "complex": (X[:1] + 0j, "Complex data"),
}


@pytest.mark.parametrize("rows, message", BAD.values(), ids=BAD)
def test_bad_rows_are_refused_as_ever(rows, message):
    net = AdvBPClassifier(**QUICK).fit(X, Y)
    with pytest.raises(ValueError, match=message):
        net.predict_proba(rows)


def test_rows_whose_sum_overflows_are_no_error():
    large = np.full((1, 4), 1e200)  # the squares are not finite
    assert AdvBPClassifier(**QUICK).fit(X, Y).predict_proba(large).shape == (1, 3)


def test_names_of_features_are_still_checked():
    net = AdvBPClassifier(**QUICK).fit(pd.DataFrame(X, columns=list("abcd")), Y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        net.predict(X[:1])


def test_scikit_learns_own_settings_hold():
    net = AdvBPClassifier(**QUICK).fit(X, Y)
    with sklearn.config_context(assume_finite=True):
        assert np.isnan(net.predict_proba(np.full((1, 4), np.nan))).all()


class Doubled(AdvBPClassifier):
    def infer(self, x, **fit_params):
        return 2 * super().infer(x, **fit_params)


def test_a_step_of_a_subclass_is_not_passed_over():
    net = AdvBPClassifier(**QUICK, epsilon=0).fit(X, Y)
    doubled = Doubled(**QUICK, epsilon=0).fit(X, Y)
    doubled.module_.load_state_dict(net.module_.state_dict())
    np.testing.assert_allclose(doubled._logits(X[:3]), 2 * net._logits(X[:3]))


# ---- threads ---------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"module": DropoutNet}], ids=["own", "module"])
def test_eight_threads_predict_what_one_does(params):
    model = make_pipeline(MinMaxScaler(), AdvBPClassifier(**QUICK | params)).fit(X, Y)
    pieces = [X[i : i + n] for n in (1, 100) for i in range(0, 300, 6)]
    expected = [model.predict_proba(piece) for piece in pieces]
    start = threading.Barrier(8)

    def predictions(_):
        start.wait()
        return [model.predict_proba(piece) for piece in pieces]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(predictions, range(8)):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_fits_that_overlap_give_what_they_give_alone():
    """Also those that draw from torch's one global generator; which is then as before."""
    options = [{}, {"dropout": 0.3}, {"module": DropoutNet}, {"random_start": 0.5}] * 2

    def fitted(params):
        return AdvBPClassifier(**QUICK | params).fit(X, Y).predict_proba(X)

    alone = [fitted(params) for params in options]
    before = torch.get_num_threads(), torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(fitted, options), alone, strict=True):
            np.testing.assert_array_equal(one, other)
    assert torch.get_num_threads() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def number_of_a_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_searches_that_overlap_leave_the_number_of_threads():
    """The first one ends first, while the second still uses its share."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        first, second = (cross_validation._threads_shared_by(2) for _ in range(2))
        entered, left = threading.Event(), threading.Event()

        def in_a_thread():
            with second:
                entered.set()
                assert torch.get_num_threads() == 2
                left.wait(10)
            return torch.get_num_threads()

        with ThreadPoolExecutor(1) as pool:
            with first:
                other = pool.submit(in_a_thread)
                assert entered.wait(10) and torch.get_num_threads() == 2
            assert torch.get_num_threads() == 4
            left.set()
            assert other.result() == 4
        assert torch.get_num_threads() == number_of_a_new_thread() == 4
    finally:
        torch.set_num_threads(before)


def test_searches_in_threads_give_what_they_give_alone():
    before = torch.get_num_threads(), number_of_a_new_thread()

    def searched(seed):
        search = AdvBPClassifierCV(**QUICK | {"random_state": seed}, epsilons=2, cv=2, n_jobs=2)
        return search.fit(X, Y).predict_proba(X)

    alone = [searched(seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(searched, (0, 1)))
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert (torch.get_num_threads(), number_of_a_new_thread()) == before
