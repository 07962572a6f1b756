"""Bad input: a clear error before any training, and a fitted estimator stays as it was."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn
from torch.utils.data import Dataset

from sk_advbp import AdvBPClassifier

N, D = 24, 4
X = np.random.default_rng(0).normal(size=(N, D))
Y = np.array(["ant", "bee", "cat"])[np.arange(N) % 3]
W = np.linspace(0.5, 2, N)
MATRIX = np.eye(3, dtype=int)[np.arange(N) % 3]


def classifier(**params):
    defaults = {"hidden_layer_sizes": (5,), "max_epochs": 2, "random_state": 0}
    return AdvBPClassifier(**defaults | params)


def state_of(net):
    """Everything that a call which fails must not change; the first by its keys alone."""
    return (
        vars(net).copy(),
        [p.detach().numpy().tobytes() for p in net.module_.parameters()],
        net.history.to_list(),
        net.generator_.get_state().tolist(),
        net.classes_.tolist(),
        (net.n_features_in_, net.sample_shape_, net.dtype_, net.device_, net.initialized_),
    )


@pytest.fixture
def untrained(monkeypatch):
    """Fail where a step of training is made."""

    def train_step(self, batch, **fit_params):
        raise AssertionError("training began")

    return lambda: monkeypatch.setattr(AdvBPClassifier, "train_step", train_step)


VALUE = InvalidParameterError
PARAMETERS = [
    ({"epsilon": -0.1}, VALUE, r"epsilon must be .*>= 0.* Got -0\.1"),
    ({"epsilon": float("nan")}, VALUE, r"epsilon must be .*>= 0.* Got nan"),
    ({"epsilon": float("inf")}, VALUE, r"epsilon must be .*>= 0.* Got inf"),
    ({"epsilon": None}, VALUE, r"epsilon must be .*>= 0.* Got None"),
    ({"epsilon": "big"}, VALUE, r"epsilon must be .*>= 0.* Got 'big'"),
    ({"epsilon": "0.3"}, VALUE, r"epsilon must be .*>= 0.* Got '0.3'"),
    (
        {"early_stopping": True, "callbacks": "disable"},
        VALUE,
        "early_stopping=True is done by a callback. Got callbacks='disable'",
    ),
    ({"epsilon": [0.1] * 3}, VALUE, r"epsilon must be .*\(4,\).* Got .*\(3,\)"),
    ({"epsilon": np.full((1, D), 0.1)}, VALUE, r"epsilon must be .*\(4,\).* Got .*\(1, 4\)"),
    ({"epsilon": [0.1, 0.1, -2, 0.1]}, VALUE, r"epsilon must be .*>= 0.* Got .*-2"),
    ({"epsilon": [0.1, 0.1, np.nan, 0.1]}, VALUE, r"epsilon must be .*>= 0.* Got .*nan"),
    ({"epsilon": [0.1, 0.1, np.inf, 0.1]}, VALUE, r"epsilon must be .*>= 0.* Got .*inf"),
    ({"epsilon_unit": "sd"}, VALUE, r"epsilon_unit must be .*'std'.* Got 'sd'"),
    ({"epsilon_unit": [1.0, 1, 1]}, VALUE, r"epsilon_unit must be .*\(4,\).* Got .*\(3,\)"),
    ({"epsilon_unit": [1.0, 1, 1, -2]}, VALUE, r"epsilon_unit must be .*>= 0.* Got .*-2"),
    ({"perturbation_dtype": "float16"}, VALUE, "'perturbation_dtype' .*'bfloat16'.* Got 'float16'"),
    ({"amp": "yes"}, VALUE, "'amp' .* Got 'yes'"),
    ({"activation": "swish"}, VALUE, "'activation' .*'logistic'.* Got 'swish'"),
    ({"norm": "l1"}, VALUE, "'norm' .*'linf'.* Got 'l1'"),
    ({"output": "sigmoid"}, VALUE, "'output' .*'logistic'.* Got 'sigmoid'"),
    ({"perturbation": "none"}, VALUE, "'perturbation' .*'random'.* Got 'none'"),
    ({"dtype": "float16"}, VALUE, "'dtype' .*'float64'.* Got 'float16'"),
    ({"dtype": torch.float32}, VALUE, "'dtype' .*'float64'.* Got torch.float32"),
    ({"device": "gpu"}, VALUE, "'device' .*'cpu'.* Got 'gpu'"),
    ({"device": 3.5}, VALUE, r"'device' .*'cpu'.* Got 3\.5"),
    ({"device": "cuda:99"}, VALUE, "'device' .*'cpu'.* Got 'cuda:99'"),
    ({"hidden_layer_sizes": (5, 0)}, VALUE, r"hidden_layer_sizes .*positive.* Got \(5, 0\)"),
    ({"hidden_layer_sizes": 0}, VALUE, "hidden_layer_sizes .*positive.* Got 0"),
    ({"hidden_layer_sizes": -3}, VALUE, "hidden_layer_sizes .*positive.* Got -3"),
    ({"hidden_layer_sizes": 2.5}, VALUE, r"hidden_layer_sizes .*positive.* Got 2\.5"),
    ({"hidden_layer_sizes": None}, VALUE, "hidden_layer_sizes .*positive.* Got None"),
    ({"hidden_layer_sizes": [[2], [3]]}, VALUE, "hidden_layer_sizes .*positive.* Got "),
    ({"clip": (1, 0)}, VALUE, r"clip must be .*low < high.* Got \(1, 0\)"),
    ({"clip": (1, 1)}, VALUE, r"clip must be .*low < high.* Got \(1, 1\)"),
    ({"clip": (0, np.array([1, 1, 0, 1]))}, VALUE, "clip must be .*low < high.* Got "),
    ({"clip": (0, [1, 1])}, VALUE, r"clip must be .*\(4,\).* Got .*\(2,\)"),
    ({"clip": (0, np.nan)}, VALUE, "clip must be .* Got nan"),
    ({"clip": 1}, VALUE, r"clip must be .*\(low, high\).* Got 1"),
    ({"clip": (0, 1, 2)}, VALUE, r"clip must be .*\(low, high\).* Got \(0, 1, 2\)"),
    ({"clip": "unit"}, VALUE, r"clip must be .*\(low, high\).* Got 'unit'"),
    ({"clean_weight": 1.5}, VALUE, r"'clean_weight' .*\[0.*1.*\].* Got 1\.5"),
    ({"random_start": -0.5}, VALUE, r"'random_start' .*\[0.*1.*\].* Got -0\.5"),
    ({"dropout": 1.0}, VALUE, r"'dropout' .*\[0.*1.*\).* Got 1\.0"),
    ({"dropout": -0.1}, VALUE, r"'dropout' .*\[0.*1.*\).* Got -0\.1"),
    ({"input_dropout": 1}, VALUE, r"'input_dropout' .*\[0.*1.*\).* Got 1"),
    ({"batch_size": 0}, VALUE, r"'batch_size' .*\[1.* Got 0"),
    ({"batch_size": -2}, VALUE, r"'batch_size' .*\[1.* Got -2"),
    ({"batch_size": 2.5}, VALUE, r"'batch_size' .*\[1.* Got 2\.5"),
    ({"max_epochs": 0}, VALUE, r"'max_epochs' .*\[1.* Got 0"),
    ({"max_epochs": 1.5}, VALUE, r"'max_epochs' .*\[1.* Got 1\.5"),
    ({"lr": 0}, VALUE, r"'lr' .*\(0.* Got 0"),
    ({"lr": -1e-3}, VALUE, r"'lr' .*\(0.* Got -0\.001"),
    ({"lr": float("nan")}, VALUE, r"'lr' .*\(0.* Got nan"),
    ({"lr": float("inf")}, VALUE, r"'lr' .*\(0.* Got inf"),
    ({"lr": "auto"}, VALUE, r"'lr' .*\(0.* Got 'auto'"),
    ({"lr_schedule": "cosine"}, VALUE, "'lr_schedule' .*'linear'.* Got 'cosine'"),
    ({"validation_fraction": 0}, VALUE, r"'validation_fraction' .*\(0.* Got 0"),
    ({"validation_fraction": 1.0}, VALUE, r"'validation_fraction' .*\(0.* Got 1\.0"),
    ({"n_iter_no_change": 0}, VALUE, r"'n_iter_no_change' .*\[1.* Got 0"),
    ({"tol": -1}, VALUE, r"'tol' .*\[0.* Got -1"),
    ({"early_stopping": "yes"}, VALUE, "'early_stopping' .* Got 'yes'"),
    ({"class_weight": "even"}, VALUE, "'class_weight' .*'balanced'.* Got 'even'"),
    ({"class_weight": {"ant": -1}}, ValueError, r"class_weight must .*>= 0.* Got \{'ant': -1\}"),
    ({"class_weight": {"ant": np.nan}}, ValueError, "class_weight must .*>= 0.* Got .*nan"),
    ({"class_weight": dict.fromkeys("abc", 1)}, ValueError, "class_weight"),
    ({"class_weight": dict.fromkeys(["ant", "bee", "cat"], 0)}, ValueError, "class_weight"),
    ({"module": "net"}, VALUE, "'module' .* Got 'net'"),
    ({"criterion": 3}, VALUE, "'criterion' .* Got 3"),
    ({"optimizer": "adam"}, VALUE, "'optimizer' .* Got 'adam'"),
    ({"train_split": 5}, VALUE, "'train_split' .* Got 5"),
    ({"callbacks": "off"}, VALUE, "'callbacks' .* Got 'off'"),
    ({"random_state": "seed"}, VALUE, "'random_state' .* Got 'seed'"),
    ({"random_state": -1}, VALUE, "'random_state' .* Got -1"),
    ({"verbose": -1}, VALUE, "'verbose' .* Got -1"),
    ({"compile": "yes"}, VALUE, "'compile' .* Got 'yes'"),
    ({"criterion": nn.CosineSimilarity}, ValueError, "criterion must .*reduction.* Got .*Cosine"),
    ({"criterion": lambda z, y: z.sum()}, ValueError, "criterion must .*reduction.* Got "),
    ({"classes": ["ant", "bee"]}, ValueError, "classes.*ant.*bee.*cat"),
]


# A call that goes on with the net it has builds these no more.
BUILT_ONCE = {"device", "criterion", "epsilon_unit"}
CASES = [
    pytest.param(call, *row, id=f"{call}-{row[0]}"[:50])
    for row in PARAMETERS
    for call in ("unfitted", "fit", "warm fit", "partial_fit")
    if call in ("unfitted", "fit") or not row[0].keys() & BUILT_ONCE
]


def check_unchanged(net, before, probabilities):
    after = state_of(net)
    assert after[0].keys() == before[0].keys()
    assert after[1:] == before[1:]
    np.testing.assert_array_equal(net.predict_proba(X), probabilities)


@pytest.mark.parametrize("call, params, error, message", CASES)
def test_bad_parameters(call, params, error, message, untrained):
    message = re.compile(message, re.S)
    if call == "unfitted":
        untrained()
        net = classifier(**params)
        before = vars(net).copy()
        with pytest.raises(error, match=message):
            net.fit(X, Y)
        assert vars(net).keys() == before.keys()
        with pytest.raises(NotFittedError):
            net.predict(X)
        return
    net = classifier(warm_start=call == "warm fit").fit(X, Y)
    before, probabilities = state_of(net), net.predict_proba(X)
    net.set_params(**params)
    untrained()
    with pytest.raises(error, match=message):
        net.partial_fit(X, Y) if call == "partial_fit" else net.fit(X, Y)
    check_unchanged(net, before, probabilities)


@pytest.mark.parametrize(
    "name, hint",
    [
        ("epsilom", "Did you mean 'epsilon'?"),
        ("hidden_layers", "Did you mean 'hidden_layer_sizes'?"),
        ("optimiser__weight_decay", ""),
        ("weight_decay", ""),
        ("epsilon_", ""),
        ("_epsilon", ""),
        ("optimizer__", ""),
    ],
)
def test_misspelt_parameters(name, hint):
    with pytest.raises(TypeError, match=re.escape(f"unexpected parameter '{name}'") + ".*" + hint):
        classifier(**{name: 0.1}).fit(X, Y)


@pytest.mark.parametrize("name", ["epsilom", "epsilon_", "_epsilon", "optimiser__lr", "lr__a"])
def test_set_params_of_a_misspelt_one(name):
    net = classifier()
    before = vars(net).copy()
    with pytest.raises(ValueError, match=f"Invalid parameter '{name}'"):
        net.set_params(max_epochs=7, **{name: 0.1})
    assert vars(net) == before


@pytest.mark.parametrize("name", ["optimizer__weight_decoy", "module__hidden", "criterion__beta"])
def test_misspelt_parameters_of_components(name):
    net = classifier().fit(X, Y)
    before = state_of(net)[1:]
    net.set_params(**{name: 0.1})
    with pytest.raises((TypeError, ValueError), match=name.split("__")[1]):
        net.fit(X, Y)
    assert state_of(net)[1:] == before


def with_value(array, value, index=(2, 1)):
    array = array.copy()
    array[index] = value
    return array


class OwnDataset(Dataset):
    """One that hands out samples and tells nothing of its arrays."""

    def __init__(self, x, y):
        self.rows = list(zip(x, y, strict=True))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


FRAME = pd.DataFrame(X, columns=list("abcd"))
DATA = [
    ("fit", (with_value(X, np.nan), Y), {}, "X contains NaN"),
    ("fit", (with_value(X, np.inf), Y), {}, "X contains infinity"),
    ("fit", (with_value(X, -np.inf), Y), {}, "X contains infinity"),
    ("fit", (sparse.csr_array(with_value(X, np.nan)), Y), {}, "X contains NaN"),
    ("fit", (torch.tensor(with_value(X, np.nan)), Y), {}, "X contains NaN"),
    ("fit", (with_value(X, 1e300) * 1e5, Y, None), {"dtype": "float32"}, "X contains .*large"),
    ("fit", (with_value(X, 1e39), Y), {"dtype": "float32"}, "X contains .*large.*float32"),
    ("fit", (with_value(X.astype(object), "one"), Y), {}, "could not convert|'one'"),
    ("fit", (X[:, 0], Y), {}, "Expected 2D array"),
    ("fit", (X[:, :, None], Y), {}, "dim 3"),
    ("fit", (X[:0], Y[:0]), {}, r"0 sample\(s\)"),
    ("fit", (X[:, :0], Y), {}, r"0 feature\(s\)"),
    ("fit", (X, Y[:-1]), {}, "inconsistent numbers of samples"),
    ("fit", (X, None), {}, "requires y to be passed|y cannot be None"),
    ("fit", (X,), {}, "requires y to be passed|y cannot be None"),
    ("fit", (X, X[:, 0]), {}, "Unknown label type: .*continuous"),
    ("fit", (X, np.eye(3)[np.arange(N) % 3][:, :, None]), {}, "dim 3"),
    ("fit", (X, X[:, :2]), {}, r"y must have .*columns of 0 and 1.* Got [-\d.]+ in 2 columns"),
    ("fit", (X, np.eye(3)[np.arange(N) % 3] * 2), {}, "y must have .* Got 2.0 in 3 columns"),
    ("fit", (X, np.stack([Y, Y], 1)), {}, "y must have .* Got 'ant' in 2 columns"),
    ("fit", (X, sparse.csr_matrix(2 * MATRIX)), {}, "y must have .* Got 2 in 3 columns"),
    ("fit", (X, MATRIX), {"class_weight": "balanced"}, "class_weight .*'balanced'"),
    ("fit", (X, MATRIX), {"warm_start": True}, r"y has shape \(24, 3\)\. Expected one label a row"),
    ("partial_fit", (X, sparse.csr_matrix(MATRIX)), {}, r"\(24, 3\)\. Expected one label"),
    ("fit", (X, with_value(np.ones(N), np.nan, 3)), {}, "y contains NaN"),
    ("fit", (X, Y, np.ones(N - 1)), {}, "sample_weight.shape"),
    ("fit", (X, Y, np.ones((N, 2))), {}, "[Ss]ample.weight"),
    ("fit", (X, Y, with_value(W, -1, 3)), {}, "[Nn]egative values.*sample_weight"),
    ("fit", (X, Y, with_value(W, np.nan, 3)), {}, "sample_weight contains NaN"),
    ("fit", (X, Y, with_value(W, np.inf, 3)), {}, "sample_weight contains infinity"),
    ("fit", (X, Y, np.zeros(N)), {}, "[Ww]eights? .*zero"),
    ("fit", (OwnDataset(torch.zeros(0, D), torch.zeros(0)),), {}, "Dataset .*empty"),
    ("fit", (OwnDataset(torch.zeros(3, D), torch.tensor([1, 2, 5])),), {}, "Dataset must be 0"),
    ("fit", (OwnDataset(torch.zeros(3, D), torch.arange(3)), None, W[:3]), {}, "sample_weight"),
    ("partial_fit", (with_value(X, np.nan), Y), {}, "X contains NaN"),
    ("partial_fit", (X[:, :2], Y), {}, "X has 2 features, but .* is expecting 4"),
    ("partial_fit", (X, np.where(Y == "ant", "dog", Y)), {}, r"not among the classes .*\['dog'\]"),
    ("partial_fit", (X, np.arange(N) % 3), {}, "not among the classes"),
    ("partial_fit", (X, Y, ["ant", "bee"]), {}, "classes=.*is not the same as on the last call"),
    ("partial_fit", (X[:0], Y[:0]), {}, r"0 sample\(s\)"),
    ("partial_fit", (X, None), {}, "requires y to be passed|y cannot be None"),
    ("partial_fit", (X, Y, None, np.zeros(N)), {}, "[Ww]eights? .*zero"),
    ("fit", (X[:, :2], Y), {"warm_start": True}, "X has 2 features, but .* is expecting 4"),
    ("fit", (X, np.full(N, "dog")), {"warm_start": True}, r"not among the classes .*\['dog'\]"),
    ("predict", (X[:, :3],), {}, "X has 3 features, but AdvBPClassifier is expecting 4"),
    ("predict_proba", (X[0],), {}, "Expected 2D array"),
    ("predict", (with_value(X, np.nan),), {}, "X contains NaN"),
    ("predict_log_proba", (sparse.csr_matrix(X[:, :3]),), {}, "X has 3 features"),
    ("score", (X[:, :3], Y), {}, "X has 3 features"),
    ("adversarial_examples", (X[:, :3], Y), {}, "X has 3 features"),
    ("adversarial_examples", (X, np.full(N, "dog")), {}, r"not among the classes .*\['dog'\]"),
]


@pytest.mark.parametrize("call, arguments, params, message", DATA)
def test_bad_data(call, arguments, params, message, untrained):
    net = classifier(**params).fit(X, Y)
    before, probabilities = state_of(net), net.predict_proba(X)
    untrained()
    with pytest.raises(ValueError, match=re.compile(message, re.S)):
        getattr(net, call)(*arguments)
    check_unchanged(net, before, probabilities)


@pytest.mark.parametrize("columns", [list("abce"), list("bacd")])
@pytest.mark.parametrize("call", ["predict", "predict_proba", "partial_fit", "warm fit"])
def test_wrong_feature_names(call, columns):
    net = classifier(warm_start=True).fit(FRAME, Y)
    before = state_of(net)[1:]
    method = getattr(net, call.split()[-1])
    with pytest.raises(ValueError, match="feature names should match"):
        method(FRAME.set_axis(columns, axis=1), *([] if "predict" in call else [Y]))
    assert state_of(net)[1:] == before
    assert net.feature_names_in_.tolist() == list("abcd")


def test_first_partial_fit_needs_the_classes():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        classifier().partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"not among the classes .*\['cat'\]"):
        classifier().partial_fit(X, Y, classes=["ant", "bee"])


@pytest.mark.parametrize(
    "call", ["predict", "predict_proba", "predict_log_proba", "adversarial_examples"]
)
def test_before_fit(call):
    with pytest.raises(NotFittedError):
        getattr(classifier(), call)(X)
    for name in ("classes_", "n_iter_", "loss_curve_", "validation_scores_", "module_"):
        assert not hasattr(classifier(), name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_where_there_is_none(device):
    # In torch's words: a build without CUDA names that, one with it the driver that is missing.
    reason = "(CUDA|NVIDIA driver)"
    with pytest.raises(InvalidParameterError, match=f"'device' .* Got '{device}': .*{reason}"):
        classifier(device=device).fit(X, Y)


@pytest.mark.parametrize("call", ["fit", "warm fit", "partial_fit", "unfitted"])
def test_non_finite_loss(call):
    """A rate that blows up: the error names the epoch, and nothing has changed."""
    bad = {"optimizer": torch.optim.SGD, "lr": 1e200, "batch_size": 4, "activation": "identity"}
    net = classifier(**{"max_epochs": 3, "optimizer": torch.optim.SGD, "activation": "identity"})
    if call != "unfitted":
        net.fit(X, Y)
        before, probabilities = state_of(net), net.predict_proba(X)
    net.set_params(**bad, warm_start=call == "warm fit")
    epoch = len(net.history) + 1 if call in ("warm fit", "partial_fit") else 1
    with pytest.raises(ValueError, match=rf"loss became nan in epoch {epoch}\. Try a smaller lr"):
        net.partial_fit(X, Y) if call == "partial_fit" else net.fit(X, Y)
    if call == "unfitted":
        with pytest.raises(NotFittedError):
            net.predict(X)
        return
    check_unchanged(net, before, probabilities)
    # It is as usable as before: the next call does what it would have done.
    net.set_params(lr=0.01, batch_size=64)
    net.partial_fit(X, Y)
    assert len(net.history) == 4
    assert np.isfinite(net.predict_proba(X)).all()


def test_no_mini_batch():
    with pytest.raises(ValueError, match="no mini-batch: see iterator_train__drop_last"):
        classifier(batch_size=N + 1, iterator_train__drop_last=True).fit(X, Y)
