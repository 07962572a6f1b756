"""A device without float64: what an Apple GPU refuses is never asked for."""

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor, parameters
from sk_advbp.callbacks import OverfittingWatch
from sk_advbp.robustness import adversarial_accuracy_score

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)
WEIGHT = np.linspace(1, 2, 60)


# What happens to the user's arrays before they are on a device, and to the losses of an epoch
# after they were: torch.isfinite asks for their size.
OF_THE_HOST = {f"aten.{name}.default" for name in ("lift_fresh", "detach", "stack", "abs")}
OF_THE_HOST |= {"aten.select.int"}


class WithoutFloat64(TorchDispatchMode):
    """Let no operation of torch make a float64 tensor, as on ``"mps"``."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if str(function) in OF_THE_HOST:
            return result
        parts = result if isinstance(result, (tuple, list)) else [result]
        if any(torch.is_tensor(part) and part.dtype == torch.float64 for part in parts):
            raise TypeError(f"{function} made a float64 tensor on a device that has none")
        return result


@pytest.fixture
def small_device():
    with WithoutFloat64():
        yield


class OwnSamples(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return X[i], Y[i]


FITS = {
    "perceptron": ({}, {}),
    "weights": ({"class_weight": "balanced"}, {"sample_weight": WEIGHT}),
    "options": (
        {"norm": "l2", "random_start": 0.5, "clean_weight": 0.5, "dropout": 0.2, "clip": (-1, 1)},
        {},
    ),
    "unit": ({"epsilon_unit": "std", "epsilon": np.full(4, 0.1)}, {}),
    "held out": ({"early_stopping": True, "validation_fraction": 0.3}, {"sample_weight": WEIGHT}),
    "module": ({"module": nn.Linear(4, 2)}, {"sample_weight": WEIGHT}),
    "loader": ({"iterator_train": DataLoader, "iterator_valid": DataLoader}, {}),
    "sgd": ({"optimizer": torch.optim.SGD, "lr": np.float64(0.01)}, {}),
    "watched": ({"callbacks": [OverfittingWatch((X, Y), n_steps=2)]}, {}),
}


def used(net):
    """Whatever a fitted net can do."""
    net.partial_fit(X, Y)
    net.predict_proba(torch.as_tensor(X))
    for norm in ("linf", "l2"):
        for attack in ("fgsm", "pgd"):
            net.adversarial_examples(X, Y, attack=attack, norm=norm, n_steps=2)
    adversarial_accuracy_score(net, X, Y, 0.1, sample_weight=WEIGHT)


@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize("params, of_fit", FITS.values(), ids=FITS)
def test_a_fit_without_float64(small_device, params, of_fit, dtype):
    net = AdvBPClassifier((5,), max_epochs=2, random_state=0, dtype=dtype, **params)
    used(net.fit(X, Y, **of_fit))
    assert net.dtype_ == "float32"


def test_others_without_float64(small_device):
    search = AdvBPClassifierCV((5,), max_epochs=2, epsilons=2, cv=2, random_state=0)
    search.fit(X, Y, sample_weight=WEIGHT).predict(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    AdvBPClassifierCV((5,), max_epochs=2, cv=2, scoring="neg_log_loss").fit(X, Y)
    net = AdvBPRegressor((5,), max_epochs=2).fit(X, X[:, :2] * 100, sample_weight=WEIGHT)
    net.adversarial_examples(X, X[:, :2] * 100)
    used(AdvBPClassifier((5,), max_epochs=2).fit(OwnSamples()))
    net = AdvBPClassifier((5,), classes=[0, 1], module__in_features=4).initialize()
    assert net.dtype_ == "float32"
    net.infer(X)


def test_float64_is_refused_where_there_is_none(small_device):
    assert not parameters.has_float64("cpu")
    for call in (
        lambda net: net.fit(X, Y),
        lambda net: net.set_params(module__in_features=4, classes=[0, 1]).initialize(),
    ):
        with pytest.raises(InvalidParameterError, match="'float64' is not there on the device"):
            call(AdvBPClassifier(dtype="float64"))


def test_means_are_exact():
    """In float64, of values that float32 would sum with an error."""
    from sk_advbp.training.net import RunningMeans

    losses = torch.rand(3000, generator=torch.Generator().manual_seed(0))
    means, of_many = RunningMeans(), RunningMeans()
    for i, loss in enumerate(losses):
        means.add({"loss": loss}, (torch.zeros(1 + i % 3, 2), None))
        of_nets = {"loss": loss, "losses": torch.stack([loss, -loss])}
        of_many.add(of_nets, (torch.zeros(2, 1 + i % 3, 2), None))
    expected = np.average(losses.numpy().astype(float), weights=1 + np.arange(3000) % 3)
    assert means.mean_losses() == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(of_many.mean_losses(), [expected, -expected], rtol=1e-14)
