"""Regression: targets and their scale, the same training, scikit-learn's contract."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone, is_regressor
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from skorch.callbacks import EpochScoring
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn

from sk_advbp import AdvBPRegressor
from sk_advbp.core import MultilayerPerceptron

X, Y = load_diabetes(return_X_y=True)
X = StandardScaler().fit_transform(X)[:200]
Y = Y[:200]
TWO = np.column_stack([Y, 1e-3 * (X[:, 2] - X[:, 3])])
QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "batch_size": 32, "random_state": 0}
QUICK["lr"] = 0.01
WEIGHT = np.random.default_rng(0).integers(0, 3, size=len(Y)).astype(float)


def regressor(**params):
    return AdvBPRegressor(**QUICK | params)


def parameters(net):
    return [p.detach().numpy().copy() for p in net.module_.parameters()]


# ---- the equations ---------------------------------------------------------------------


def back_propagate(weights, x, y, w):
    """Return the gradients of J = Σw‖f(x) - y‖² / (m Σw) for one hidden layer of tanh; ∇ₓJ."""
    W1, b1, W2, b2 = weights
    h = np.tanh(x @ W1.T + b1)
    residual = h @ W2.T + b2 - y
    delta = 2 * residual * w[:, None] / w.sum() / y.shape[1]
    below = (delta @ W2) * (1 - h**2)
    return [below.T @ x, below.sum(0), delta.T @ h, delta.sum(0)], below @ W1


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("target", [Y, TWO], ids=["one", "two"])
def test_updates_follow_the_equations(target, weighted):
    epsilon, lr, epochs = 0.1, 0.2, 3
    net = AdvBPRegressor(
        (6,),
        "tanh",
        epsilon=epsilon,
        optimizer=torch.optim.SGD,
        lr=lr,
        lr_schedule="constant",
        max_epochs=epochs,
        batch_size=-1,
        random_state=5,
    ).fit(X, target, sample_weight=WEIGHT if weighted else None)
    rows = np.flatnonzero(WEIGHT) if weighted else np.arange(len(X))
    x, y = X[rows], target.reshape(len(X), -1)[rows]
    w = WEIGHT[rows] if weighted else np.ones(len(rows))
    mean = np.average(y, axis=0, weights=w)
    scale = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=w))
    y = (y - mean) / scale
    generator = torch.Generator().manual_seed(5)
    module = MultilayerPerceptron(
        X.shape[1], y.shape[1], (6,), "tanh", generator=generator, dtype=torch.float64
    )
    expected = [p.detach().numpy() for p in module.parameters()]
    for _ in range(epochs):
        _, g = back_propagate(expected, x, y, w)
        gradients, _ = back_propagate(expected, x + epsilon * np.sign(g), y, w)
        expected = [v - lr * d for v, d in zip(expected, gradients, strict=True)]
    for ours, theirs in zip(parameters(net), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    np.testing.assert_allclose(net.y_mean_, mean)
    np.testing.assert_allclose(net.y_scale_, scale)
    W1, b1, W2, b2 = expected
    output = (np.tanh(X @ W1.T + b1) @ W2.T + b2) * scale + mean
    np.testing.assert_allclose(net.predict(X), output.reshape(target.shape), rtol=1e-8)


class Own(nn.Sequential):
    def __init__(self, initial):
        super().__init__(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2))
        self.double()
        with torch.no_grad():
            for parameter, value in zip(self.parameters(), initial, strict=True):
                parameter.copy_(torch.from_numpy(value))


@pytest.mark.parametrize("options", [{}, {"norm": "l2", "clean_weight": 0.3}, {"epsilon": 0}])
def test_custom_module_learns_the_same(options):
    """By automatic differentiation what the package's perceptron learns in closed form."""
    common = {"iterator_train__shuffle": False, "dtype": "float64", **options}
    own = regressor(**common).fit(X, TWO, sample_weight=WEIGHT)
    generator = torch.Generator().manual_seed(0)
    start = MultilayerPerceptron(10, 2, (8,), generator=generator, dtype=torch.float64)
    initial = [p.detach().numpy() for p in start.parameters()]
    custom = regressor(module=Own, module__initial=initial, **common)
    custom.fit(X, TWO, sample_weight=WEIGHT)
    for ours, theirs in zip(parameters(own), parameters(custom), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    np.testing.assert_allclose(own.loss_curve_, custom.loss_curve_)
    examples = (
        net.adversarial_examples(X, TWO, epsilon=0.1, attack="pgd", n_steps=3, random_state=0)
        for net in (own, custom)
    )
    np.testing.assert_allclose(*examples, atol=1e-10)


def test_other_losses():
    net = regressor(criterion=nn.HuberLoss, criterion__delta=0.5, max_epochs=30)
    assert net.fit(X, Y).score(X, Y) > 0.3


# ---- targets ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(
    scale=st.integers(-30, 30).map(lambda i: 2.0**i),
    shift=st.integers(-1000, 1000),
    outputs=st.sampled_from([Y[:40], TWO[:40], Y[:40, None]]),
)
def test_scale_of_y_makes_no_difference(scale, shift, outputs):
    """A linear change of y is a linear change of the predictions."""
    net = regressor(max_epochs=2)
    of_y = net.fit(X[:40], outputs).predict(X)
    changed = net.fit(X[:40], (outputs + shift) * scale).predict(X)
    size = np.abs(outputs).max() + abs(shift)
    np.testing.assert_allclose(changed / scale - shift, of_y, rtol=0, atol=1e-6 * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_y_keep_its_digits(dtype):
    net = regressor(dtype=dtype, max_epochs=30).fit(X, Y + 1e9)
    assert net.predict(X).dtype == np.float64
    assert net.score(X, Y + 1e9) > 0.3


def test_constant_y_is_predicted():
    both = np.column_stack([np.full(len(Y), 7.1), Y])
    net = regressor(max_epochs=60).fit(X, both)
    assert net.y_scale_[0] == 1
    np.testing.assert_allclose(net.predict(X)[:, 0], 7.1, atol=1.0)


@pytest.mark.parametrize("y", [Y, Y[:, None], TWO, Y.astype(int), Y.astype(np.float32), list(Y)])
def test_predictions_have_the_shape_of_y(y):
    net = regressor().fit(X, y)
    assert net.predict(X).shape == np.shape(y)
    assert net.n_outputs_ == (2 if y is TWO else 1)
    assert net.score(X, y) == r2_score(y, net.predict(X))


@pytest.mark.parametrize(
    "y, message",
    [
        (np.where(Y > 100, "a", "b"), "y must have finite numbers|could not convert"),
        (np.where(Y > 100, np.nan, 1), "NaN"),
        (np.where(Y > 100, np.inf, 1), "infinity"),
        (sparse.csr_matrix(TWO), "y must be dense"),
        (Y[:-1], "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
        (Y[:, None, None], "dim 3|dimension"),
    ],
    ids=["labels", "NaN", "inf", "sparse", "short", "None", "3-D"],
)
def test_bad_targets(y, message):
    net = regressor()
    with pytest.raises(ValueError, match=message):
        net.fit(X, y)
    assert vars(net).keys() == net.get_params(deep=False).keys()


def test_partial_fit_keeps_scale_and_outputs():
    net = regressor(lr_schedule="constant", max_epochs=3).fit(X, Y)
    step_by_step = regressor().partial_fit(X, Y)
    mean = step_by_step.y_mean_
    step_by_step.partial_fit(X, Y).partial_fit(X, Y)
    for ours, theirs in zip(parameters(step_by_step), parameters(net), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    step_by_step.partial_fit(X, Y + 1000)
    assert step_by_step.y_mean_ is mean
    with pytest.raises(ValueError, match=r"y has 2 outputs\. Expected 1"):
        step_by_step.partial_fit(X, TWO)
    warm = regressor(warm_start=True).fit(X, Y)
    assert warm.fit(X, Y + 5).y_mean_ == mean


# ---- ε in standard deviations ----------------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_epsilon_in_standard_deviations(weighted, make):
    columns = np.column_stack([X[:, 0], np.full(len(X), 0.1), 50 * X[:, 1]])
    weight = WEIGHT if weighted else np.ones(len(X))
    net = regressor(epsilon=0.5, epsilon_unit="std").fit(make(columns), Y, sample_weight=weight)
    mean = np.average(columns, axis=0, weights=weight)
    deviation = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weight))
    np.testing.assert_allclose(net.epsilon_unit_, [deviation[0], 0, deviation[2]], atol=1e-15)
    assert net.epsilon_unit_[1] == 0
    moved = net.adversarial_examples(columns, Y) - columns
    expected = np.broadcast_to(0.5 * net.epsilon_unit_, columns.shape)
    np.testing.assert_allclose(np.abs(moved), expected, atol=1e-12)
    explicit = regressor(epsilon=0.5 * net.epsilon_unit_)
    explicit.fit(columns, Y, sample_weight=weight)
    np.testing.assert_allclose(explicit.predict(columns), net.predict(columns), rtol=1e-6)


def test_unit_is_fixed_at_the_first_call():
    net = regressor(epsilon_unit="std").partial_fit(X, Y)
    unit = net.epsilon_unit_
    assert net.partial_fit(3 * X, Y).epsilon_unit_ is unit
    again = net.fit(3 * X, Y)
    np.testing.assert_allclose(again.epsilon_unit_, 3 * unit)


def test_unit_of_the_users_own():
    unit = np.array([0, 1, 0.5] + [0] * 7)
    ours = regressor(epsilon=0.2, epsilon_unit=unit).fit(X, Y)
    theirs = regressor(epsilon=0.2 * unit).fit(X, Y)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


# ---- validation, Datasets, attacks -----------------------------------------------------


def test_early_stopping_watches_the_held_out_part():
    net = regressor(early_stopping=True, max_epochs=200, n_iter_no_change=3, tol=0.01).fit(X, Y)
    scores = net.validation_scores_
    assert net.n_iter_ < 200 and len(scores) == net.n_iter_
    assert max(scores) <= 1 and scores.index(max(scores)) >= net.n_iter_ - 4 - 3


def test_validation_score_is_one_minus_the_error():
    split = predefined_split(torch.utils.data.TensorDataset(*map(torch.from_numpy, (X, Y))))
    net = regressor(train_split=split, batch_size=64).fit(X, Y)
    error = np.mean(((net.predict(X) - Y) / net.y_scale_) ** 2)
    np.testing.assert_allclose(net.validation_scores_[-1], 1 - error, rtol=1e-8)
    scoring = EpochScoring("r2", lower_is_better=False, name="r2")
    other = regressor(train_split=ValidSplit(4), callbacks=[scoring]).fit(X, Y)
    assert len(other.history[:, "r2"]) == 4 and other.validation_scores_


class Streamed(torch.utils.data.Dataset):
    def __init__(self, y):
        self.y = y

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i].astype(np.float32), self.y[i]


@pytest.mark.parametrize("y", [Y, TWO], ids=["one", "two"])
def test_datasets(y):
    net = regressor(dtype="float32", iterator_train__shuffle=False)
    streamed = net.fit(Streamed(y)).predict(X)
    np.testing.assert_allclose(streamed, net.fit(X, y).predict(X), rtol=1e-3)
    with_validation = regressor(train_split=predefined_split(Streamed(y))).fit(Streamed(y))
    assert len(with_validation.validation_scores_) == 4
    with pytest.raises(ValueError, match="epsilon_unit='std' needs X as an array"):
        net.set_params(epsilon_unit="std").fit(Streamed(y))


def test_adversarial_examples_raise_the_error():
    net = regressor(max_epochs=30).fit(X, Y)
    for attack in ("fgsm", "pgd"):
        moved = net.adversarial_examples(X, Y, epsilon=0.1, attack=attack, random_state=0)
        assert np.abs(moved - X).max() <= 0.1 + 1e-12
        assert net.score(moved, Y) < net.score(X, Y)
    with pytest.raises(ValueError, match="needs y"):
        net.adversarial_examples(X)


# ---- the contract ----------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"epsilon_unit": "std", "early_stopping": True}])
def test_every_check_of_scikit_learn_passes(params):
    net = AdvBPRegressor(max_epochs=20, lr=0.02, **params)
    checks = check_estimator(net, on_fail=None, on_skip=None)
    failed = {c["check_name"]: c["exception"] for c in checks if c["status"] != "passed"}
    assert not failed and len(checks) >= 55


def test_a_module_of_the_wrong_shape():
    module = nn.Sequential(nn.Linear(10, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"here \(32, 1\). Got shape \(32,\)"):
        regressor(module=module).fit(X, Y)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_a_module_for_other_columns(epsilon):
    """What torch says of it comes with what the module was given."""
    net = regressor(module=nn.Linear(7, 1), epsilon=epsilon)
    with pytest.raises(RuntimeError, match="cannot be multiplied") as raised:
        net.fit(X, Y)
    assert raised.value.__notes__ == [
        "The module was given a mini-batch of shape (32, 10), torch.float32."
    ]


def test_init_clone_pickle_and_search():
    net = regressor(optimizer__weight_decay=0.1)
    assert vars(net).keys() == net.get_params(deep=False).keys()
    assert is_regressor(net) and not hasattr(net, "predict_proba")
    assert not hasattr(net, "n_outputs_")
    again = pickle.loads(pickle.dumps(net.fit(X, TWO)))
    np.testing.assert_array_equal(again.predict(X), net.predict(X))
    assert not hasattr(clone(net), "y_mean_")
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(10)])
    model = make_pipeline(StandardScaler(), regressor(max_epochs=30))
    assert cross_val_score(model, frame, Y, cv=3).mean() > 0.2
    grid = GridSearchCV(regressor(), {"epsilon": [0, 0.1]}, cv=2).fit(frame, Y)
    assert grid.best_estimator_.feature_names_in_.tolist() == list(frame.columns)


def test_learns_what_a_linear_model_learns():
    """On diabetes there is little else to learn, and not much of it."""
    ours = AdvBPRegressor(epsilon=0.1, random_state=0).fit(X[::2], Y[::2])
    linear = RidgeCV().fit(X[::2], Y[::2])
    assert ours.score(X[1::2], Y[1::2]) > linear.score(X[1::2], Y[1::2]) - 0.1


def test_y_too_large():
    with pytest.raises(ValueError, match="y contains values too large"):
        regressor().fit(X, 1e200 * Y)
