"""Numbers with their variance: the likelihood, several nets as one Gaussian, what a user gets."""

import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from skorch.callbacks import EpochScoring
from torch import nn
from torch.distributions import Normal

from sk_advbp import (
    AdvBPClassifier,
    AdvBPRegressor,
    AdvBPRegressorCV,
    load_model,
    log_likelihood_score,
)
from sk_advbp.core import MultilayerPerceptron, gaussian

RNG = np.random.default_rng(0)
N, D = 60, 3
X = RNG.normal(size=(N, D))
Y = 100 + 10 * X[:, 0] + RNG.normal(size=N)
TWO = np.c_[Y, 1e-3 * (X[:, 1] + 0.1 * RNG.normal(size=N))]
WEIGHT = RNG.integers(0, 3, size=N).astype(float)
QUICK = {"hidden_layer_sizes": (6,), "max_epochs": 5, "batch_size": 16, "random_state": 0}
QUICK |= {"lr": 0.02, "epsilon": 0.05, "output": "gaussian"}


def regressor(**params):
    return AdvBPRegressor(**QUICK | params)


def parameters(net):
    return [p.detach().numpy().copy() for p in net.module_.parameters()]


# ---- the equations ---------------------------------------------------------------------


def back_propagate(weights, x, y, w):
    """Return J = Σ w Σⱼ ℓⱼ / (m Σ w), its gradients by [W₁, b₁, …], and ∇ₓJ, for tanh units."""
    matrices, biases = weights[::2], weights[1::2]
    hidden = [x]
    for W, b in zip(matrices[:-1], biases[:-1], strict=True):
        hidden.append(np.tanh(hidden[-1] @ W.T + b))
    mean, s = np.hsplit(hidden[-1] @ matrices[-1].T + biases[-1], 2)
    variance = np.log1p(np.exp(s)) + 1e-6
    share = (w / w.sum())[:, None] / y.shape[1]
    loss = (share * -stats.norm(mean, np.sqrt(variance)).logpdf(y)).sum()
    by_variance = (1 - (y - mean) ** 2 / variance) / (2 * variance)
    delta = np.hstack(
        [share * (mean - y) / variance, share * by_variance * np.exp(s) / (1 + np.exp(s))]
    )
    gradients = []
    for i in reversed(range(len(matrices))):
        gradients = [delta.T @ hidden[i], delta.sum(0), *gradients]
        delta = delta @ matrices[i]
        if i:
            delta = delta * (1 - hidden[i] ** 2)
    return loss, gradients, delta


def replayed(weights, x, y, w, *, epsilon, lr, epochs):
    """Return the weights after so many steps on the whole batch, and the loss of each."""
    losses = []
    for _ in range(epochs):
        *_, g = back_propagate(weights, x, y, w)
        loss, gradients, _ = back_propagate(weights, x + epsilon * np.sign(g), y, w)
        weights = [v - lr * d for v, d in zip(weights, gradients, strict=True)]
        losses.append(loss)
    return weights, losses


@pytest.mark.parametrize("n_nets", [1, 3])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("target", [Y, TWO], ids=["one", "two"])
def test_updates_follow_the_equations(target, weighted, n_nets):
    steps = {"epsilon": 0.1, "lr": 0.05, "epochs": 6}
    net = AdvBPRegressor(
        (6, 5),
        "tanh",
        output="gaussian",
        n_nets=n_nets,
        epsilon=steps["epsilon"],
        optimizer=torch.optim.SGD,
        lr=steps["lr"],
        lr_schedule="constant",
        max_epochs=steps["epochs"],
        batch_size=-1,
        random_state=5,
    ).fit(X, target, sample_weight=WEIGHT if weighted else None)
    w = WEIGHT if weighted else np.ones(N)
    y = target.reshape(N, -1)
    mean = np.average(y, axis=0, weights=w)
    scale = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=w))
    sizes = D, 2 * y.shape[1], (6, 5), "tanh"
    start = {"generator": torch.Generator().manual_seed(5), "dtype": torch.float64}
    module = MultilayerPerceptron(*sizes, **start, n_nets=None if n_nets == 1 else n_nets)
    nets, curves = [], []
    for single in module.nets():
        weights = [p.detach().numpy() for p in single.parameters()]
        weights, losses = replayed(weights, X, (y - mean) / scale, w, **steps)
        nets.append(weights)
        curves.append(losses)
    for ours, weights in zip(net.estimators_, nets, strict=True):
        for found, expected in zip(parameters(ours), weights, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(net.loss_curve_, np.mean(curves, axis=0), rtol=1e-10)


class Own(nn.Sequential):
    def __init__(self, initial):
        super().__init__(nn.Linear(D, 6), nn.ReLU(), nn.Linear(6, 4))
        self.double()
        with torch.no_grad():
            for parameter, value in zip(self.parameters(), initial, strict=True):
                parameter.copy_(torch.from_numpy(value))


@pytest.mark.parametrize("options", [{}, {"norm": "l2", "clean_weight": 0.3}, {"epsilon": 0}])
def test_custom_module_learns_the_same(options):
    """By automatic differentiation what the package's perceptron learns in closed form."""
    common = {"iterator_train__shuffle": False, "dtype": "float64", **options}
    own = regressor(**common).fit(X, TWO, sample_weight=WEIGHT)
    start = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    initial = [p.detach().numpy() for p in MultilayerPerceptron(D, 4, (6,), **start).parameters()]
    custom = regressor(module=Own, module__initial=initial, **common)
    custom.fit(X, TWO, sample_weight=WEIGHT)
    for ours, theirs in zip(parameters(own), parameters(custom), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    np.testing.assert_allclose(own.loss_curve_, custom.loss_curve_)
    attack = {"epsilon": 0.1, "attack": "pgd", "n_steps": 3, "random_state": 0}
    examples = (net.adversarial_examples(X, TWO, **attack) for net in (own, custom))
    np.testing.assert_allclose(*examples, atol=1e-10)
    for ours, theirs in zip(
        own.predict(X, return_std=True), custom.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)


NUMBER = st.floats(-30, 30, width=32)


@settings(deadline=None, max_examples=60)
@given(z=st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=5), y=NUMBER)
def test_the_mixture_has_the_mean_and_variance_of_its_parts(z, y):
    """In both dtypes, and in the gradient, for any outputs."""
    outputs = torch.tensor(z, dtype=torch.float64)[..., None].requires_grad_()  # (K, 2, 1)
    target = torch.tensor([[y]], dtype=torch.float64)
    mean, s = outputs.chunk(2, -2)
    variance = s.exp().log1p() + 1e-6
    m, v = mean.mean(0), variance.mean(0) + (mean - mean.mean(0)).square().mean(0)
    mixed = gaussian.mixture(outputs.detach(), -2)
    for found, expected in zip(gaussian.mean_and_variance(mixed, -2), (m, v), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    low = gaussian.mean_and_variance(gaussian.mixture(outputs.detach().float(), -2), -2)
    torch.testing.assert_close(low[1].double(), v.detach(), rtol=1e-4, atol=0)
    loss = -Normal(m, v.sqrt()).log_prob(target).sum()
    (gradient,) = torch.autograd.grad(loss, outputs)
    found = gaussian.mixture_delta(outputs.detach(), target)
    torch.testing.assert_close(found, gradient, rtol=1e-7, atol=1e-9 * (1 + gradient.abs().max()))


# ---- what is predicted -------------------------------------------------------------------


@pytest.mark.parametrize("y", [Y, Y[:, None], TWO], ids=["one", "column", "two"])
@pytest.mark.parametrize("n_nets", [1, 3])
def test_mean_and_deviation_are_in_the_units_and_shape_of_y(n_nets, y):
    net = regressor(n_nets=n_nets).fit(X, y)
    mean, std = net.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape and std.min() > 0
    np.testing.assert_array_equal(net.predict(X), mean)
    assert net.n_outputs_ == (1 if y is not TWO else 2)
    changed = net.fit(X, 4 * y + 8).predict(X, return_std=True)
    np.testing.assert_allclose(changed[0], 4 * mean + 8, rtol=1e-9)
    np.testing.assert_allclose(changed[1], 4 * std, rtol=1e-9)


def test_several_nets_answer_by_the_mean_and_variance_of_their_mixture():
    net = regressor(n_nets=4).fit(X, TWO)
    members = [member.predict(X, return_std=True) for member in net.estimators_]
    means, deviations = (np.stack(part) for part in zip(*members, strict=True))
    mean, std = net.predict(X, return_std=True)
    np.testing.assert_allclose(mean, means.mean(0), rtol=1e-12)
    variance = np.square(deviations).mean(0) + means.var(0)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-9)
    assert np.ptp(deviations, axis=0).min() > 0


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_several_nets_without_variance_say_what_they_disagree_by(make):
    rows = make(np.vstack([X] * 6))  # more than the short way takes
    net = regressor(output="identity", n_nets=4, dropout=0.3).fit(X, TWO)
    of_members = np.stack([member.predict(rows) for member in net.estimators_])
    mean, std = net.predict(rows, return_std=True)
    np.testing.assert_allclose(mean, of_members.mean(0), rtol=1e-10)
    np.testing.assert_allclose(std, of_members.std(0), rtol=1e-9)
    np.testing.assert_array_equal(net.predict(X[:1], return_std=True)[1].shape, (1, 2))


@pytest.mark.parametrize("options", [{}, {"output": "identity"}, {"n_nets": 2}], ids=str)
def test_nothing_is_said_before_fit(options):
    with pytest.raises(NotFittedError):
        regressor(**options).predict(X, return_std=True)


def test_one_net_without_variance_cannot_say_it():
    for options in ({}, {"module": nn.Linear(D, 1)}):
        net = regressor(output="identity", **options).fit(X, Y)
        with pytest.raises(ValueError, match="needs output='gaussian', or several nets"):
            net.predict(X, return_std=True)


def test_a_fitted_net_stays_what_it_was_built_as():
    net = regressor().fit(X, Y)
    mean, std = net.predict(X, return_std=True)
    net.set_params(output="identity")
    np.testing.assert_array_equal(net.predict(X, return_std=True), [mean, std])
    members = [member.predict(X) for member in regressor(n_nets=2).fit(X, Y).estimators_]
    changed = regressor(n_nets=2).fit(X, Y).set_params(output="identity", hidden_layer_sizes=(3,))
    np.testing.assert_array_equal([m.predict(X) for m in changed.estimators_], members)
    with pytest.raises(ValueError, match="built with output='gaussian'"):
        net.set_params(warm_start=True).fit(X, Y)


@pytest.mark.parametrize("cls", [AdvBPRegressor, AdvBPRegressorCV])
def test_an_output_of_a_classifier_is_refused(cls):
    with pytest.raises(ValueError, match=r"'output' parameter of .* must be a str among"):
        cls(output="softmax").fit(X, Y)


def test_the_perceptron_must_have_two_outputs_for_each():
    with pytest.raises(ValueError, match=r"needs 2 outputs.*Got module__out_features=1"):
        regressor(module__out_features=1).fit(X, Y)


def test_a_file_keeps_the_score(tmp_path):
    options = {"epsilons": [0.1], "cv": 2, "scoring": log_likelihood_score}
    search = AdvBPRegressorCV(**without_epsilon() | options).fit(X, Y)
    search.save_model(tmp_path / "net.safetensors")
    again = load_model(tmp_path / "net.safetensors")
    assert again.scoring is log_likelihood_score
    np.testing.assert_array_equal(
        again.predict(X, return_std=True), search.predict(X, return_std=True)
    )


def test_a_module_must_return_two_numbers_for_each():
    with pytest.raises(ValueError, match=r"two with output='gaussian', here \(16, 2\). Got shape"):
        regressor(module=nn.Linear(D, 1)).fit(X, Y)


# ---- likelihood as a score -----------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT, 1e300 * WEIGHT], ids=["", "weighted", "huge"])
@pytest.mark.parametrize("y", [Y, Y[:, None], TWO], ids=["one", "column", "two"])
def test_score_is_the_mean_log_density(y, weight):
    net = regressor(n_nets=2).fit(X, y)
    mean, std = net.predict(X, return_std=True)
    log_p = stats.norm(mean, std).logpdf(y).reshape(N, -1).mean(1)
    expected = np.average(log_p, weights=None if weight is None else WEIGHT)
    found = log_likelihood_score(net, X, y, sample_weight=weight)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("routing", [False, True])
def test_score_of_pipelines_searches_and_others(routing):
    frame = pd.DataFrame(X, columns=list("abc"))
    with sklearn.config_context(enable_metadata_routing=routing):
        model = make_pipeline(StandardScaler(), regressor()).fit(frame, Y)
        inner = log_likelihood_score(model[-1], model[:-1].transform(frame), Y)
        assert log_likelihood_score(model, frame, Y) == pytest.approx(inner, rel=1e-12)
        path = {"advbpregressor__epsilon": [0, 0.1]}
        grid = GridSearchCV(model, path, scoring=log_likelihood_score, cv=2).fit(frame, Y)
        best = log_likelihood_score(grid.best_estimator_, frame, Y)
        assert log_likelihood_score(grid, frame, Y) == grid.score(frame, Y) == best
        assert cross_val_score(model, frame, Y, scoring=log_likelihood_score, cv=3).shape == (3,)
        for other in (BayesianRidge(), GaussianProcessRegressor(alpha=0.1)):
            assert np.isfinite(log_likelihood_score(other.fit(X, Y), X, Y))


def test_score_through_what_is_nested():
    inner = GridSearchCV(regressor(), {"epsilon": [0, 0.1]}, cv=2)
    model = make_pipeline(StandardScaler(), make_pipeline("passthrough", inner))
    with pytest.raises(NotFittedError):
        log_likelihood_score(model, X, Y)
    last = model.fit(X, Y)[-1][-1].best_estimator_
    expected = log_likelihood_score(last, StandardScaler().fit_transform(X), Y)
    assert log_likelihood_score(model, X, Y) == pytest.approx(expected, rel=1e-12)


def test_rows_of_weight_zero_make_no_difference_to_the_score():
    net, far = regressor().fit(X, Y), Y.copy()
    far[WEIGHT == 0] = 1e200
    expected = log_likelihood_score(net, X, Y, WEIGHT)
    assert log_likelihood_score(net, X, far, WEIGHT) == expected


@pytest.mark.parametrize("output", ["gaussian", "identity"])
@pytest.mark.parametrize("y", [Y, TWO], ids=["one", "two"])
def test_a_callback_scores_in_the_units_of_the_scaled_y(y, output):
    scoring = EpochScoring(log_likelihood_score, name="score", lower_is_better=False)
    options = {"n_nets": 2, "output": output, "callbacks": [scoring]}
    net = regressor(early_stopping=True, validation_fraction=0.4, **options).fit(X, y)
    found = net.history[-1]
    assert np.isfinite(found["score"])
    if output == "gaussian":
        assert found["score"] == pytest.approx(-found["valid_loss"], rel=1e-9)


def test_score_of_what_has_no_deviation():
    for wrapped in (TransformedTargetRegressor(regressor()), BaggingRegressor(regressor(), 2)):
        with pytest.raises(TypeError, match="takes return_std=True"):
            log_likelihood_score(wrapped.fit(X, Y), X, Y)
    with pytest.raises(TypeError, match=r"takes return_std=True. Got LinearRegression"):
        log_likelihood_score(LinearRegression().fit(X, Y), X, Y)
    with pytest.raises(TypeError, match="takes return_std=True"):
        log_likelihood_score(AdvBPClassifier(max_epochs=1).fit(X, Y > 100), X, Y)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        log_likelihood_score(regressor().fit(X, Y), X, Y[:-1])


def test_score_of_certain_nets_is_that_of_an_impossible_event():
    """Nets that agree exactly, as of a constant y: no warning, and no NaN."""
    net = regressor(output="identity", n_nets=2, hidden_layer_sizes=()).fit(X[:, :1] * 0, Y)
    with torch.no_grad():
        for parameter in net.module_.parameters():
            parameter.zero_()
    assert log_likelihood_score(net, X[:, :1], Y) == -np.inf


# ---- the cross-validation --------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"dropout": 0.1}], ids=["stacked", "one by one"])
def test_the_search_chooses_by_likelihood_in_the_units_of_y(how):
    """Those of a fold, whose own deviation its nets learn in, are no others."""
    path = {"epsilons": [0, 0.05, 0.5], "cv": 3, "n_nets": 2}
    search = AdvBPRegressorCV(**without_epsilon() | path | how)
    search.fit(X, Y, sample_weight=WEIGHT)

    def one_by_one(net, X, y, sample_weight=None):
        return log_likelihood_score(net, X, y, sample_weight)

    for scoring in (log_likelihood_score, one_by_one):
        other = clone(search).set_params(scoring=scoring).fit(X, Y, sample_weight=WEIGHT)
        for split in range(3):
            key = f"split{split}_test_score"
            np.testing.assert_allclose(search.cv_results_[key], other.cv_results_[key], rtol=1e-9)
    assert search.epsilon_ == other.epsilon_
    mean, std = search.predict(X, return_std=True)
    assert mean.shape == std.shape == (N,)
    assert search.score(X, Y) <= 1


def without_epsilon():
    return {name: value for name, value in QUICK.items() if name != "epsilon"}


def test_likelihood_cannot_choose_among_nets_without_variance():
    search = AdvBPRegressorCV(scoring=log_likelihood_score)
    with pytest.raises(ValueError, match="needs output='gaussian'"):
        search.fit(X, Y)
    assert not hasattr(search, "module_")


# ---- coverage ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["homoscedastic", "heteroscedastic"])
def test_the_band_covers_what_it_says(kind):
    """Of new data with known noise, nine tenths within the binomial error; and the noise is found.

    Without a perturbation: an adversarial batch lies farther from the curve, and its variance is
    larger by that.
    """
    rng = np.random.default_rng(1)

    def drawn(n):
        x = rng.uniform(-1, 1, size=(n, 1))
        noise = np.full(n, 0.5) if kind == "homoscedastic" else 0.2 + 0.3 * (x[:, 0] + 1)
        return x, np.sin(3 * x[:, 0]) + noise * rng.normal(size=n), noise

    x, y, _ = drawn(4000)
    net = AdvBPRegressor(
        (50,), output="gaussian", n_nets=5, epsilon=0, lr=0.01, max_epochs=40, random_state=0
    ).fit(x, y)
    new, y_new, noise = drawn(2000)
    mean, std = net.predict(new, return_std=True)
    inside = np.abs(y_new - mean) <= stats.norm.ppf(0.95) * std
    low, high = stats.binom(2000, 0.9).ppf([0.005, 0.995])
    assert low <= inside.sum() <= high
    np.testing.assert_allclose(std, noise, rtol=0.2)


# ---- the contract --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net",
    [
        AdvBPRegressor(max_epochs=20, lr=0.02, output="gaussian"),
        AdvBPRegressor(max_epochs=20, lr=0.02, output="gaussian", n_nets=2, early_stopping=True),
        AdvBPRegressorCV((10,), output="gaussian", epsilons=2, max_epochs=20, lr=0.02, cv=2),
    ],
    ids=["one net", "two nets, early stopping", "search"],
)
def test_every_check_of_scikit_learn_passes(net):
    checks = check_estimator(net, on_fail=None, on_skip=None)
    failed = {c["check_name"]: c["exception"] for c in checks if c["status"] != "passed"}
    assert not failed and len(checks) >= 55


class Streamed(torch.utils.data.Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i].astype(np.float32), TWO[i]


def test_datasets_weights_pickles_and_one_epoch_at_a_time():
    net = regressor(dtype="float32", iterator_train__shuffle=False)
    streamed = net.fit(Streamed()).predict(Streamed(), return_std=True)
    in_arrays = net.fit(X, TWO).predict(X, return_std=True)
    for ours, theirs in zip(streamed, in_arrays, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    again = pickle.loads(pickle.dumps(net)).predict(X, return_std=True)
    np.testing.assert_array_equal(again, in_arrays)
    whole = {"batch_size": -1, "optimizer": torch.optim.SGD}
    counts = WEIGHT.astype(int)
    repeated = regressor(**whole).fit(np.repeat(X, counts, 0), np.repeat(Y, counts))
    weighted = regressor(**whole).fit(X, Y, sample_weight=WEIGHT)
    for ours, theirs in zip(parameters(weighted), parameters(repeated), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    constant = regressor(lr_schedule="constant", max_epochs=2).fit(X, Y)
    steps = regressor().partial_fit(X, Y).partial_fit(X, Y)
    for ours, theirs in zip(parameters(steps), parameters(constant), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_early_stopping_watches_the_means():
    net = regressor(early_stopping=True, validation_fraction=0.3, max_epochs=200).fit(X, Y)
    assert len(net.validation_scores_) == net.n_iter_ < 200
    assert max(net.validation_scores_) <= 1
    assert len(net.validation_loss_curve_) == net.n_iter_


def test_attacks_lower_the_likelihood_the_more_the_larger():
    net = regressor(max_epochs=60).fit(X, Y)
    moved = [net.adversarial_examples(X, Y, epsilon=e, attack="pgd") for e in (0, 0.05, 0.2)]
    scores = [log_likelihood_score(net, points, Y) for points in moved]
    assert all(before > after for before, after in pairwise(scores))
    with pytest.raises(ValueError, match="needs y"):
        net.adversarial_examples(X)
