"""Modules, losses and optimizers of the user's own."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sk_advbp import AdvBPClassifier

RNG = np.random.default_rng(0)
N = 60
Y = np.array(["left", "right", "none"])[np.arange(N) % 3]
IMAGES = RNG.normal(size=(N, 1, 6, 6)) * 0.3
IMAGES[Y == "left", :, :, :3] += 1
IMAGES[Y == "right", :, :, 3:] += 1
X = IMAGES.reshape(N, 36)[:, ::5]


def classifier(**params):
    defaults = {"max_epochs": 6, "batch_size": 16, "lr": 0.02, "random_state": 0}
    return AdvBPClassifier(**defaults | params)


def weights(net):
    return [p.detach().numpy().tobytes() for p in net.module_.parameters()]


class ConvNet(nn.Sequential):
    def __init__(self, channels=4):
        super().__init__(
            nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten()
        )
        self.append(nn.Linear(channels * 16, 3))


class NormNet(nn.Sequential):
    """BatchNorm sees the input itself."""

    def __init__(self, n_features=8, momentum=0.1):
        super().__init__(nn.BatchNorm1d(n_features, momentum=momentum), nn.Linear(n_features, 3))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"norm": "l2", "epsilon": 0.5},
        {"epsilon": np.full((1, 6, 6), 0.1), "clip": (np.full((1, 6, 6), -1.0), 2)},
        {"random_start": 0.5, "clean_weight": 0.5},
        {"norm": "l2", "perturbation": "random", "epsilon": np.full((1, 6, 6), 0.1)},
        {"output": "logistic", "early_stopping": True, "validation_fraction": 0.3},
        {"optimizer__weight_decay": 0.01, "module__channels": 6, "dtype": "float64"},
    ],
    ids=lambda p: "-".join(p),
)
def test_images(params):
    net = classifier(module=ConvNet, **params).fit(IMAGES, Y)
    assert net.score(IMAGES, Y) > 0.9
    assert (net.n_features_in_, net.sample_shape_) == (1, (1, 6, 6))
    assert net.dtype_ == params.get("dtype", "float32")
    moved = net.adversarial_examples(IMAGES, Y, epsilon=0.3, attack="pgd", n_steps=3)
    assert (moved.shape == IMAGES.shape and np.abs(moved - IMAGES).max() <= 0.3 + 1e-6) or (
        params.get("norm") == "l2"
    )
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(twin.predict_proba(IMAGES), net.predict_proba(IMAGES))
    with pytest.raises(ValueError, match=r"samples of shape \(1, 6, 5\)"):
        net.predict(IMAGES[..., :5])


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_batch_norm_learns_from_the_moved_batch_alone(epsilon, clean_weight):
    """One full batch: its statistics are momentum · those of x', which is found by hand."""
    module = NormNet().double()
    net = classifier(
        module=module,
        batch_size=-1,
        max_epochs=1,
        dtype="float64",
        epsilon=epsilon,
        clean_weight=clean_weight,
    ).fit(X, Y)
    x = torch.tensor(X, requires_grad=True)
    target = torch.tensor(np.searchsorted(net.classes_, Y))
    twin = copy.deepcopy(module).train()
    F.cross_entropy(twin(x), target).backward()
    moved = X + epsilon * np.sign(x.grad.numpy())
    norm = net.module_[0]
    np.testing.assert_allclose(norm.running_mean, 0.1 * moved.mean(0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(norm.running_var, 0.9 + 0.1 * moved.var(0, ddof=1), rtol=1e-10)
    assert norm.num_batches_tracked == 1
    assert module[0].num_batches_tracked == 0


def test_batch_norm_is_left_alone_by_predictions_and_attacks():
    net = classifier(module=NormNet, early_stopping=True, validation_fraction=0.3).fit(X, Y)
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    assert before["0.num_batches_tracked"] % -(-42 // 16) == 0  # of training batches alone
    net.predict(X)
    net.adversarial_examples(X, Y, attack="pgd")
    after = net.module_.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert not any(m.training for m in net.module_.modules())


class OneRow(nn.Module):
    """A criterion that gives one loss for each row and output."""

    def __init__(self, reduction="mean", scale=1.0):
        super().__init__()
        self.reduction, self.scale = reduction, scale

    def forward(self, logits, target):
        assert self.reduction == "none"
        return self.scale * (F.one_hot(target, logits.shape[1]) - logits.softmax(1)) ** 2


@pytest.mark.parametrize(
    "criterion, params",
    [
        (nn.CrossEntropyLoss, {"criterion__label_smoothing": 0.1}),
        (nn.MultiMarginLoss, {}),
        (nn.NLLLoss, {"module": nn.Sequential(nn.Linear(8, 3), nn.LogSoftmax(1))}),
        (OneRow, {"criterion__scale": 4.0}),
    ],
)
@pytest.mark.parametrize("module", ["own", "custom"])
def test_own_criterion(criterion, params, module):
    if module == "own":
        params = {k: v for k, v in params.items() if k != "module"}
    else:
        params = {"module": nn.Sequential(nn.Linear(8, 3))} | params
    w = np.linspace(0.5, 2, N)
    net = classifier(criterion=criterion, **params, max_epochs=30, lr=0.05).fit(X, Y, w)
    if criterion is not nn.NLLLoss or module == "custom":
        assert net.score(X, Y) > 0.8
    assert net.loss_curve_[-1] < net.loss_curve_[0]


def test_cross_entropy_as_own_criterion_is_the_default():
    given = classifier(criterion=nn.CrossEntropyLoss).fit(X, Y)
    default = classifier().fit(X, Y)
    for ours, theirs in zip(given.module_.parameters(), default.module_.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_weighted_loss_of_a_module_that_never_sees_weights():
    """Integer weights are repeated rows."""
    w = np.arange(N) // 3 % 3
    common = {"module": nn.Linear(8, 3), "batch_size": -1, "dtype": "float64"}
    weighted = classifier(**common).fit(X, Y, w)
    repeated = classifier(**common).fit(np.repeat(X, w, 0), np.repeat(Y, w))
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("module", [None, NormNet], ids=["own", "custom"])
@pytest.mark.parametrize(
    "optimizer, params",
    [
        (torch.optim.LBFGS, {"batch_size": -1, "lr": 0.1, "optimizer__max_iter": 5}),
        (torch.optim.SGD, {"optimizer__momentum": 0.9, "optimizer__nesterov": True}),
        (torch.optim.RMSprop, {}),
        (torch.optim.AdamW, {"optimizer__weight_decay": 0.1, "optimizer__foreach": True}),
        (torch.optim.Adam, {"optimizer__fused": False, "optimizer__betas": (0.8, 0.99)}),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
@pytest.mark.parametrize("lr_schedule", ["constant", "linear"])
def test_optimizers(optimizer, params, module, lr_schedule):
    net = classifier(
        optimizer=optimizer, module=module, lr_schedule=lr_schedule, **{"max_epochs": 20} | params
    ).fit(X, Y)
    assert isinstance(net.optimizer_, optimizer) and net.score(X, Y) > 0.8
    if optimizer is not torch.optim.LBFGS:  # torch's loses its parameters in a pickle
        twin = pickle.loads(pickle.dumps(net))
        assert weights(net.partial_fit(X, Y)) == weights(twin.partial_fit(X, Y))


def test_parameter_groups_have_rates_of_their_own():
    groups = [("layers.0.*", {"lr": 1e-300})]
    net = classifier(optimizer__param_groups=groups, hidden_layer_sizes=5, epsilon=0)
    first = weights(classifier(lr=1e-300, max_epochs=1, hidden_layer_sizes=5).fit(X, Y))
    for _ in range(2):
        net.partial_fit(X, Y, classes=np.unique(Y))
        assert weights(net)[:2] == first[:2] and weights(net)[2:] != first[2:]


@pytest.mark.parametrize("module", [None, NormNet], ids=["own", "custom"])
def test_compiled(module):
    options = {"compile": True, "compile__backend": "eager"}
    net = classifier(module=module, **options, max_epochs=2).fit(X, Y)
    plain = classifier(module=module, max_epochs=2).fit(X, Y)
    np.testing.assert_allclose(net.predict_proba(X), plain.predict_proba(X), rtol=1e-5)
    assert net.module_.state_dict().keys() == plain.module_.state_dict().keys()
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_allclose(twin.predict_proba(X), net.predict_proba(X), rtol=1e-6)


def test_module_object_with_parameters_of_its_class():
    net = classifier(module=NormNet(), module__momentum=0.5).fit(X, Y)
    assert net.module_[0].momentum == 0.5


@pytest.mark.parametrize(
    "given, dtype, expected",
    [
        (np.float64, "auto", "float32"),
        (np.float32, "auto", "float32"),
        (np.float64, "float64", "float64"),
        (np.float32, "float64", "float64"),
    ],
)
def test_dtype(given, dtype, expected):
    net = classifier(module=NormNet, dtype=dtype, max_epochs=1).fit(X.astype(given), Y)
    assert net.dtype_ == expected
    assert {str(p.dtype) for p in net.module_.parameters()} == {f"torch.{expected}"}
    assert net.predict_proba(X).dtype == expected


def test_parameters_of_the_default_criterion_count():
    smooth = classifier(criterion__label_smoothing=0.2).fit(X, Y)
    by_class = classifier(
        criterion=nn.CrossEntropyLoss, criterion__label_smoothing=0.2, hidden_layer_sizes=(100,)
    ).fit(X, Y)
    assert weights(smooth) == weights(by_class) != weights(classifier().fit(X, Y))


def test_weights_of_the_loss_are_of_the_dtype_of_the_net():
    weight = torch.tensor([1.0, 2.0, 3.0])
    net = classifier(criterion=nn.CrossEntropyLoss, criterion__weight=weight, module=None)
    assert net.set_params(dtype="float64").fit(X, Y).criterion_.weight.dtype == torch.float64


def test_default_device_of_torch_is_not_asked():
    options = {"max_epochs": 2, "device": "cpu", "random_state": 0}
    net = AdvBPClassifier((8,), **options)
    with torch.device("meta"):
        found = net.fit(X, Y).predict_proba(X)
        net.adversarial_examples(X, Y, attack="pgd")
    np.testing.assert_array_equal(net.fit(X, Y).predict_proba(X), found)
