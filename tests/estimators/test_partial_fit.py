"""partial_fit and warm_start: training goes on where it was."""

import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from skorch.callbacks import Callback
from torch import nn

from sk_advbp import AdvBPClassifier

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
Y = load_iris().target_names[Y]


def classifier(**params):
    quick = {"hidden_layer_sizes": (8,), "max_epochs": 3, "batch_size": 32, "random_state": 0}
    return AdvBPClassifier(**quick | params)


def weights(net):
    return [p.detach().numpy().tobytes() for p in net.module_.parameters()]


class DropoutNet(nn.Sequential):
    def __init__(self, n_features=4):
        super().__init__(nn.Linear(n_features, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"dropout": 0.3, "random_start": 0.5},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "lr": 0.05},
        {"module": DropoutNet, "lr": 0.01},
        {"clean_weight": 0.5, "class_weight": "balanced"},
    ],
    ids=str,
)
@pytest.mark.parametrize("by_joblib", [False, True])
def test_partial_fits_with_pickles_between_are_the_epochs_of_fit(params, by_joblib):
    w = np.linspace(0.5, 2, len(Y))
    fit = classifier(lr_schedule="constant", max_epochs=4, **params).fit(X, Y, w)
    steps = classifier(**params)
    for _ in range(4):
        steps.partial_fit(X, Y, classes=np.unique(Y), sample_weight=w)
        file = io.BytesIO()
        (joblib.dump if by_joblib else pickle.dump)(steps, file)
        file.seek(0)
        steps = (joblib.load if by_joblib else pickle.load)(file)
    assert weights(steps) == weights(fit)
    assert steps.loss_curve_ == fit.loss_curve_ and steps.n_iter_ == 4


@pytest.mark.parametrize("params", [{"early_stopping": True}, {"lr_schedule": "linear"}])
def test_partial_fit_holds_nothing_out_and_keeps_the_rate(params):
    w = [
        weights(classifier(**p).partial_fit(X, Y, np.unique(Y)).partial_fit(X, Y))
        for p in (params, {"lr_schedule": "constant"})
    ]
    assert w[0] == w[1]


def test_partial_fit_with_a_part_of_the_classes():
    net = classifier(lr=0.05, class_weight="balanced")
    for _ in range(30):
        net.partial_fit(X[:100], Y[:100], classes=np.unique(Y)).partial_fit(X[50:], Y[50:])
    assert net.predict_proba(X).shape == (150, 3) and net.score(X, Y) > 0.8
    declared = classifier(classes=["versicolor", "setosa", "virginica"]).partial_fit(X[:9], Y[:9])
    assert declared.classes_.tolist() == ["setosa", "versicolor", "virginica"]


def test_set_params_between_partial_fits():
    """An lr of next to nothing changes nothing; optimizer__… counts too."""
    net = classifier().partial_fit(X, Y, classes=np.unique(Y))
    before = weights(net)
    net.set_params(lr=1e-300)
    assert weights(net.partial_fit(X, Y)) == before
    net.set_params(lr=0.01, optimizer__weight_decay=0.25)
    assert weights(net.partial_fit(X, Y)) != before
    assert {g["lr"] for g in net.optimizer_.param_groups} == {0.01}
    assert {g["weight_decay"] for g in net.optimizer_.param_groups} == {0.25}


def test_warm_start_goes_on_and_a_cold_start_does_not():
    cold = classifier(lr_schedule="constant").fit(X, Y)
    first = weights(cold)
    assert weights(cold.fit(X, Y)) == first and cold.n_iter_ == 3
    warm = classifier(lr_schedule="constant", warm_start=True).fit(X, Y)
    assert weights(warm) == first
    warm.fit(X, Y)
    assert warm.n_iter_ == 6
    assert weights(warm) == weights(classifier(lr_schedule="constant", max_epochs=6).fit(X, Y))
    linear = classifier(warm_start=True, lr=0.01).fit(X, Y)
    before = weights(linear)
    assert weights(linear.fit(X, Y)) != before


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_layer_sizes": (9,)},
        {"activation": "tanh"},
        {"dropout": 0.5},
        {"output": "logistic"},
        {"optimizer": torch.optim.SGD},
        {"criterion": nn.MultiMarginLoss},
        {"module": DropoutNet},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_net_is_refused(changed):
    net = classifier().fit(X, Y)
    before = weights(net)
    net.set_params(**changed, warm_start=True)
    for go_on in (net.fit, net.partial_fit):
        with pytest.raises(ValueError, match=f"built with {next(iter(changed))}="):
            go_on(X, Y)
    assert weights(net) == before
    assert weights(net.set_params(warm_start=False).fit(X, Y)) != before


def test_the_same_net_given_otherwise_goes_on():
    net = pickle.loads(pickle.dumps(classifier().fit(X, Y)))
    net.set_params(hidden_layer_sizes=[8], lr=0.001, epsilon=0.3, device="cpu").partial_fit(X, Y)
    assert net.n_iter_ == 4


def test_unknown_parameter_of_the_optimizer():
    net = classifier().fit(X, Y).set_params(optimizer__weight_deca=0.1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight_deca'"):
        net.partial_fit(X, Y)


def test_pickled_net_goes_on_by_fit_without_a_warning():
    net = pickle.loads(pickle.dumps(classifier(warm_start=True).fit(X, Y)))
    assert net.fit(X, Y).n_iter_ == 6


class Remembering(nn.Module):
    """A module that keeps what it computed, as those do whose attention one wants to see."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        self.logits = self.layer(x)
        return self.logits


def test_a_module_that_keeps_tensors_of_the_graph():
    net = classifier(module=Remembering).fit(X, Y)
    before = weights(net)
    net.partial_fit(X, Y)
    assert weights(net) != before


def test_weight_of_a_class_that_is_not_there_yet():
    net = classifier(class_weight={"setosa": 2, "virginica": 3})
    there = Y != "virginica"
    net.partial_fit(X[there], Y[there], classes=np.unique(Y))
    assert net.partial_fit(X, Y).n_iter_ == 2


def test_what_means_the_same_net_goes_on():
    net = classifier(dtype="auto").fit(X.astype(np.float32), Y)
    assert net.set_params(dtype="float32").partial_fit(X, Y).n_iter_ == 4
    net = classifier(module=DropoutNet, module__n_features=np.int64(4)).fit(X, Y)
    net.set_params(dropout=0.5, activation="tanh", module__n_features=4)  # of our perceptron
    assert net.partial_fit(X, Y).n_iter_ == 4


@pytest.mark.parametrize(
    ("params", "changed"),
    [
        ({"module": DropoutNet}, {"module__n_features": 5}),
        ({}, {"criterion__label_smoothing": 0.5}),
        ({}, {"epsilon_unit": "std"}),
        ({"epsilon_unit": np.ones(4)}, {"epsilon_unit": np.array([1, 1, 1, 2])}),
        ({"dtype": "float32"}, {"dtype": "float64"}),
    ],
    ids=str,
)
def test_components_of_another_net_are_refused(params, changed):
    net = classifier(**params).fit(X, Y).set_params(**changed)
    with pytest.raises(ValueError, match=f"built with {next(iter(changed))}="):
        net.partial_fit(X, Y)


class Counted(nn.Module):
    """A module with a state that no state_dict has."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("shift", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.shift += 1
        return self.layer(x) + self.shift * torch.arange(3)


class Meddler(Callback):
    """Change the net where no one expects it, then fail."""

    armed = False

    def on_epoch_end(self, net, **kwargs):
        if self.armed:
            for parameter in net.module_.parameters():
                parameter.requires_grad_(False)
            net.optimizer_.add_param_group({"params": [torch.ones(1, requires_grad=True)]})
            raise RuntimeError("boom")


@pytest.mark.parametrize("params", [{}, {"module": Counted}], ids=["ours", "own module"])
def test_an_error_in_a_callback_leaves_the_net_as_it_was(params):
    meddler = Meddler()
    net = classifier(callbacks=[meddler], **params).fit(X, Y)
    twin = pickle.loads(pickle.dumps(net))
    meddler.armed = True
    with pytest.raises(RuntimeError, match="boom"):
        net.partial_fit(X, Y)
    assert net.n_iter_ == 3
    np.testing.assert_array_equal(net.predict_proba(X), twin.predict_proba(X))
    meddler.armed = False
    for same in (net, twin):
        same.partial_fit(X, Y)
    assert weights(net) == weights(twin)


class OtherOptimizer(Callback):
    def on_train_begin(self, net, **kwargs):
        net.optimizer_ = torch.optim.RMSprop(net.module_.parameters(), lr=0.01)


def test_an_optimizer_that_a_callback_has_put_there():
    net = classifier(callbacks=[OtherOptimizer()]).fit(X, Y)
    assert net.partial_fit(X, Y).n_iter_ == 4
