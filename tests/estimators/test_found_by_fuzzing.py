"""What fuzzing has found, each as one row; `nasty_inputs` goes on looking."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch.utils.data import TensorDataset

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.robustness import adversarial_accuracy_score, transfer_accuracy_score

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 2))
Y = np.arange(24) % 2
QUICK = {"hidden_layer_sizes": (3,), "max_epochs": 1, "random_state": 0}


def fitted(**params):
    return AdvBPClassifier(**QUICK | params).fit(X, Y)


def search(**params):
    return AdvBPClassifierCV(**QUICK | {"epsilons": 2, "cv": 2} | params)


REFUSED = {
    "a device without values": (lambda: fitted(device="meta"), "'device' parameter must be"),
    "no classes": (lambda: fitted(classes=[]), "at least one label"),
    "a module that is none": (lambda: fitted(module=float), "module must be a torch.nn.Module"),
    "folds of other rows": (
        lambda: search(cv=[([0, 1], [2, 99])]).fit(X, Y),
        "cv has rows that X has not, which has 24",
    ),
    "a fold without rows": (
        lambda: search(cv=[([0, 1, 2], np.arange(0))]).fit(X, Y),
        "folds with training and test rows",
    ),
    "epsilon beyond float32": (
        lambda: fitted(dtype="float32").adversarial_examples(X, Y, epsilon=1e300),
        r"moved by epsilon is too large for dtype\('float32'\)",
    ),
    "outputs that overflow": (
        lambda: fitted(epsilon=0).predict_proba(np.full((1, 2), 1.7e308)),
        "output of the net is not finite",
    ),
    "an odd nonlinearity": (
        lambda: fitted(predict_nonlinearity=len).predict_proba(X),
        "must return a tensor. Got int",
    ),
    "deviations that overflow": (
        lambda: search().fit(X * 1e300, Y),
        "too large for a standard deviation",
    ),
    "a unit that overflows": (
        lambda: AdvBPClassifier(**QUICK, epsilon_unit="std").fit(X * 1e300, Y),
        "too large for a standard deviation",
    ),
    "y beyond float32": (
        lambda: AdvBPRegressor(**QUICK, dtype="float32").fit(X, Y).partial_fit(X, 1e300 * (1 + Y)),
        r"y contains values too large for dtype\('float32'\)",
    ),
    "a rate beyond float32": (
        lambda: fitted(dtype="float32", lr=1e300, optimizer=torch.optim.RMSprop),
        r"lr of the optimizer is too large for dtype\('float32'\)",
    ),
    "a dataset without y": (
        lambda: adversarial_accuracy_score(fitted(), TensorDataset(torch.as_tensor(X)), None, 0.1),
        "must return exactly 2 values",
    ),
    "a dataset without rows": (
        lambda: adversarial_accuracy_score(
            fitted(), TensorDataset(torch.empty(0, 2), torch.empty(0)), None, 0.1
        ),
        "has 0 samples",
    ),
    "a nonlinearity set after fit": (
        lambda: fitted().set_params(predict_nonlinearity=np.ones(2)).predict_proba(X),
        "must be a callable, None or 'auto'. Got array",
    ),
    "X and y of different lengths": (
        lambda: transfer_accuracy_score(fitted(), fitted(), X[:2], Y, 0.1),
        "inconsistent numbers of samples",
    ),
}


@pytest.mark.parametrize("call, reason", REFUSED.values(), ids=REFUSED)
def test_refused_in_a_sentence(call, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda net: net.predict_proba(X),
        lambda net: net.forward(TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))),
        lambda net: adversarial_accuracy_score(net, X, Y, 0.1),
        lambda net: transfer_accuracy_score(net, net, X, Y, 0.1),
        lambda net: net.adversarial_examples(X, Y),
        lambda net: net.trim_for_prediction(),
    ],
)
def test_not_fitted(call):
    for net in (AdvBPClassifier(), AdvBPClassifierCV()):
        with pytest.raises(NotFittedError):
            call(net)


def test_a_batch_far_larger_than_the_data_takes_no_memory():
    net = search(batch_size=10**12).fit(X, Y)
    np.testing.assert_array_equal(
        net.predict_proba(X), search(batch_size=-1).fit(X, Y).predict_proba(X)
    )


def test_one_class_is_never_mistaken_under_attack():
    net = AdvBPClassifier(**QUICK).fit(X, np.zeros(24))
    assert adversarial_accuracy_score(net, X, np.zeros(24), 5.0) == 1 == net.score(X, np.zeros(24))


def test_tensors_with_a_gradient():
    x, y, w = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (X, Y, Y + 1.0))
    net = AdvBPClassifier(**QUICK).fit(x, y, sample_weight=w)
    expected = AdvBPClassifier(**QUICK).fit(X, Y, sample_weight=Y + 1.0)
    np.testing.assert_array_equal(net.predict_proba(x), expected.predict_proba(X))
    moved = net.adversarial_examples(x, y)
    np.testing.assert_array_equal(moved, expected.adversarial_examples(X, Y))
    assert adversarial_accuracy_score(net, x, y, 0.1, sample_weight=w) <= 1


def test_a_second_processor_is_the_processor():
    assert fitted(device="cpu:1").device_ == "cpu"


def test_a_class_that_is_ruled_out():
    """A logit of -inf is meant; its probability is 0."""

    class RuledOut(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.tensor([0.0, 0.0, -torch.inf])

    net = AdvBPClassifier(module=RuledOut(2, 3), classes=[0, 1, 2], max_epochs=1).fit(X, Y)
    assert (net.predict_proba(X)[:, 2] == 0).all()


def test_a_step_beyond_int64():
    options = {"epsilon": 0.1, "attack": "pgd", "random_state": 0}
    net = fitted()
    moved = net.adversarial_examples(X, Y, step_size=10**30, **options)
    np.testing.assert_array_equal(moved, net.adversarial_examples(X, Y, step_size=1e30, **options))
