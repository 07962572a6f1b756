"""What a user's module or loss gets is never the user's memory: both may work in place."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sk_advbp import AdvBPClassifier, AdvBPRegressor
from sk_advbp.core import perturb
from sk_advbp.robustness import adversarial_accuracy_score

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
CODES = (X[:, 0] + X[:, 1] > 0).astype(int)


class InPlace(nn.Module):
    """A module that does something to its input first, in place or not."""

    def __init__(self, first, n_outputs):
        super().__init__()
        self.first = first
        self.layer = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.layer(self.first(x))


def halved(x):
    x /= 2
    return x


def written_through_a_view(x):
    x[:, :2] = -x[:, 2:]
    return x


def written_out(x):
    return torch.tanh(x, out=x) if not x.requires_grad else torch.tanh_(x)


# What works in place, and the same without.
FIRST = {
    "relu": (nn.ReLU(inplace=True), torch.relu),
    "dropout": (nn.Dropout(0.0, inplace=True), lambda x: x),
    "hardtanh": (nn.Hardtanh(inplace=True), F.hardtanh),
    "division": (halved, lambda x: x / 2),
    "view": (written_through_a_view, lambda x: torch.cat([-x[:, 2:], x[:, 2:]], 1)),
    "out": (written_out, torch.tanh),
    "fill": (lambda x: x.masked_fill_(x < 0, -1.0), lambda x: x.masked_fill(x < 0, -1.0)),
}


def of_a_read_only_file(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def read_only(X, folder):
    X = X.copy()
    X.flags.writeable = False
    return X


# As the module gets it, or in need of a conversion.
ARRAYS = {
    "float32": lambda X, folder: X.astype("f4"),
    "float64": lambda X, folder: X.copy(),
    "columns": lambda X, folder: np.asfortranarray(X, dtype="f4"),
    "tensor": lambda X, folder: torch.tensor(X, dtype=torch.float32),
    "read-only": lambda X, folder: read_only(X.astype("f4"), folder),
    "file": lambda X, folder: of_a_read_only_file(X.astype("f4"), folder),
}


def fitted(estimator, first, X, y, **params):
    n_outputs = 2 if estimator is AdvBPClassifier else 1
    torch.manual_seed(0)
    module = InPlace(first, n_outputs)
    net = estimator(module=module, max_epochs=3, epsilon=0.1, lr=0.05, random_state=0, **params)
    return net.fit(X, y)


@pytest.mark.parametrize("in_place, pure", FIRST.values(), ids=FIRST)
@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("estimator", [AdvBPClassifier, AdvBPRegressor])
def test_a_module_may_work_in_place(estimator, array, in_place, pure, tmp_path):
    given = ARRAYS[array](X, tmp_path)
    before = np.asarray(given).copy()
    net, expected = (fitted(estimator, first, given, CODES) for first in (in_place, pure))
    np.testing.assert_array_equal(net.predict(given), expected.predict(given))
    np.testing.assert_array_equal(net.predict(given), net.predict(given))
    for attack in ("fgsm", "pgd"):
        options = {"attack": attack, "n_steps": 2, "random_state": 0}
        np.testing.assert_array_equal(
            net.adversarial_examples(given, CODES, **options),
            expected.adversarial_examples(given, CODES, **options),
        )
    if estimator is AdvBPClassifier:
        scores = [adversarial_accuracy_score(n, given, CODES, 0.2) for n in (net, expected)]
        assert scores[0] == scores[1]
    np.testing.assert_array_equal(np.asarray(given), before)


@pytest.mark.parametrize(
    "params",
    [
        {"clean_weight": 0.5},
        {"random_start": 0.5, "norm": "l2"},
        {"epsilon": 0},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"iterator_train": torch.utils.data.DataLoader},
        {"warm_start": True},
        {"batch_size": -1},
    ],
    ids=lambda p: "-".join(p),
)
def test_in_place_under_other_options(params):
    given = X.astype("f4")
    params = {"max_epochs": 3, "random_state": 0} | params
    nets = []
    for first in FIRST["division"]:
        torch.manual_seed(0)
        net = AdvBPClassifier(module=InPlace(first, 2), **params)
        nets.append(net.fit(given, CODES).partial_fit(given, CODES).predict_proba(given))
    np.testing.assert_array_equal(*nets)
    np.testing.assert_array_equal(given, X.astype("f4"))


def test_a_hook_of_the_perceptron_may_work_in_place():
    given = X.astype("f4")
    net = AdvBPClassifier((8,), max_epochs=2, random_state=0).fit(given, CODES)

    def doubled(module, args):
        args[0].mul_(2)

    net.module_.register_forward_pre_hook(doubled)
    first, second = net.predict_proba(given), net.predict_proba(given)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(given, X.astype("f4"))


class InPlaceLoss(nn.Module):
    """A loss that spoils both of what it gets."""

    def __init__(self, reduction="none"):
        super().__init__()

    def forward(self, output, target):
        target.neg_()
        return output.mul_(target.neg() if target.ndim > 1 else 1.0).square().mean(1)


@pytest.mark.parametrize("estimator", [AdvBPClassifier, AdvBPRegressor])
def test_a_loss_may_work_in_place(estimator):
    """The targets of the second epoch are those of the first; scores are of what was put out."""
    seen = []

    class Watched(InPlaceLoss):
        def forward(self, output, target):
            seen.append(target.sum().item())
            return super().forward(output, target)

    net = estimator((8,), criterion=Watched, batch_size=-1, max_epochs=3, epsilon=0.1)
    net.set_params(iterator_train__shuffle=False, random_state=0).fit(X, CODES)
    assert len(seen) == 6 and len(set(seen)) == 1
    if estimator is AdvBPClassifier:
        moved = net.adversarial_examples(X, CODES, epsilon=0.1)
        accuracy = adversarial_accuracy_score(net, X, CODES, 0.1, attack="fgsm")
        assert accuracy == pytest.approx(net.score(moved, CODES))


def test_perturb_of_a_loss_in_place():
    x = torch.tensor([[1.0, -2.0]])
    moved = perturb(lambda x: x.mul_(torch.tensor([3.0, -1.0])).sum(), x, 0.5)
    assert moved.tolist() == [[1.5, -2.5]] and x.tolist() == [[1.0, -2.0]]
