"""Attacks: one step, many steps that are never weaker, and a net that is as before."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris
from torch import nn
from torch.nn import functional as F

from sk_advbp import AdvBPClassifier
from sk_advbp.core import perturb
from sk_advbp.core.attacks import ATTACKS, Objective, fgsm, pgd

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
Y = load_iris().target_names[Y]
CODES = np.unique(Y, return_inverse=True)[1]
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


class DropoutNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))


NETS = {
    "own": {},
    "logistic": {"output": "logistic", "activation": "tanh", "dropout": 0.2},
    "l2": {"norm": "l2", "epsilon": 0.5, "clip": (-1.5, 1.5)},
    "custom": {"module": DropoutNet, "dtype": "float64"},
}


@pytest.fixture(scope="module")
def fitted():
    def fit(name="own"):
        if name not in cache:
            options = {"hidden_layer_sizes": (8,), "max_epochs": 20, "lr": 0.02, "random_state": 0}
            cache[name] = AdvBPClassifier(**options | NETS[name]).fit(X, Y)
        return cache[name]

    cache = {}
    return fit


nets = pytest.mark.parametrize("name", NETS)


def row_losses(net, x, codes=CODES):
    """Loss and error of each row, from the module alone."""
    with torch.no_grad():
        logits = net.module_(torch.as_tensor(x))
        target = torch.as_tensor(codes)
        if net.output == "logistic":
            one_hot = F.one_hot(target, 3).to(logits)
            losses = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(1)
        else:
            losses = F.cross_entropy(logits, target, reduction="none")
    return losses.numpy(), (logits.argmax(1) != target).numpy()


@nets
@norms
@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)], ids=["", "clip"])
def test_fgsm_is_one_perturbation(name, norm, clip, fitted):
    net = fitted(name)
    target = torch.as_tensor(CODES)

    def loss(x):
        logits = net.module_(x)
        if net.output == "logistic":
            one_hot = F.one_hot(target, 3).to(logits)
            return F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum")
        return F.cross_entropy(logits, target, reduction="sum")

    expected = perturb(loss, torch.as_tensor(X), 0.3, norm=norm, clip=clip).numpy()
    moved = net.adversarial_examples(X, Y, epsilon=0.3, norm=norm, clip=clip)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-12)


@nets
@norms
@pytest.mark.parametrize("restarts", [1, 3])
def test_pgd_is_never_weaker_than_fgsm_on_any_sample(name, norm, restarts, fitted):
    net = fitted(name)
    options = {"epsilon": 0.4, "norm": norm}
    one = net.adversarial_examples(X, Y, attack="fgsm", **options)
    many = net.adversarial_examples(
        X, Y, attack="pgd", n_steps=5, n_restarts=restarts, random_state=0, **options
    )
    clean_losses, _ = row_losses(net, X)
    losses_1, fooled_1 = row_losses(net, one)
    losses_n, fooled_n = row_losses(net, many)
    assert (fooled_n >= fooled_1).all()
    same = fooled_n == fooled_1
    assert (losses_n[same] >= losses_1[same] - 1e-12).all()
    assert losses_n.mean() > losses_1.mean() > clean_losses.mean()


@nets
@norms
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("epsilon", [0.3, np.array([0.5, 0.0, 0.1, 0.0])], ids=["scalar", "array"])
def test_stays_within_epsilon_and_clip(name, norm, attack, epsilon, fitted):
    net, (low, high) = fitted(name), (-1.2, np.array([0.3, 1.0, 2.0, 0.0]))
    moved = net.adversarial_examples(
        X, Y, epsilon=epsilon, norm=norm, clip=(low, high), attack=attack, random_state=0
    )
    assert (moved >= np.minimum(low, X)).all() and (moved <= np.maximum(high, X)).all()
    epsilon = np.broadcast_to(epsilon, X.shape)
    still = epsilon == 0
    np.testing.assert_array_equal(moved[still], X[still])
    unit = np.divide(moved - X, epsilon, out=np.zeros_like(X), where=~still)
    size = np.abs(unit).max(1) if norm == "linf" else np.linalg.norm(unit, axis=1)
    assert 0.5 < size.max() <= 1 + 1e-12


@nets
@norms
@pytest.mark.parametrize("attack", ATTACKS)
def test_zero_epsilon_returns_x(name, norm, attack, fitted):
    moved = fitted(name).adversarial_examples(X, Y, epsilon=0, norm=norm, attack=attack)
    np.testing.assert_array_equal(moved, X)
    assert not np.shares_memory(moved, X)


@norms
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("size", [7, 64, 1])
def test_chunks_give_what_all_rows_at_once_give(size, attack, norm, fitted, monkeypatch):
    net = fitted()
    options = {"epsilon": 0.3, "norm": norm, "attack": attack, "random_state": 0}
    if attack == "pgd":
        options |= {"n_steps": 3, "n_restarts": 3}
    whole = net.adversarial_examples(X, Y, **options)
    monkeypatch.setattr(type(net), "_rows_at_once", lambda self: size)
    np.testing.assert_allclose(net.adversarial_examples(X, Y, **options), whole, atol=1e-12)


@nets
def test_defaults_are_those_of_the_training_and_the_predicted_labels(name, fitted):
    net = fitted(name)
    explicit = {"epsilon": net.epsilon, "norm": net.norm, "clip": net.clip}
    for labels in (None, net.predict(X)):
        np.testing.assert_allclose(
            net.adversarial_examples(X),
            net.adversarial_examples(X, labels, **explicit),
            atol=1e-12,
        )


@nets
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("training", [False, True])
def test_leaves_the_estimator_as_it_was(name, attack, training, fitted):
    net = pickle.loads(pickle.dumps(fitted(name)))
    net.module_.train(training)
    torch.manual_seed(1)
    x = X.copy()

    def state():
        return (
            {k: v.tolist() for k, v in net.module_.state_dict().items()},
            [p.grad is None or p.grad.tolist() for p in net.module_.parameters()],
            [m.training for m in net.module_.modules()],
            net.generator_.get_state().tolist(),
            {k: id(v) for k, v in vars(net).items()},
            torch.get_rng_state().tolist(),
            x.tolist(),
        )

    before = state()
    moved = net.adversarial_examples(x, Y, attack=attack)
    assert state() == before
    again = net.adversarial_examples(x, Y, attack=attack, epsilon=0.1, random_state=0)
    np.testing.assert_array_equal(
        again, net.adversarial_examples(x, Y, attack=attack, epsilon=0.1, random_state=0)
    )
    assert not np.array_equal(moved, x)


def test_random_state_of_the_starts(fitted):
    options = {"attack": "pgd", "n_steps": 1, "epsilon": 0.5, "n_restarts": 2}
    a, b, c = (fitted().adversarial_examples(X, Y, random_state=s, **options) for s in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, torch.tensor, list])
def test_forms_of_the_data(form, fitted):
    moved = fitted().adversarial_examples(form(X), Y)
    assert type(moved) is np.ndarray
    np.testing.assert_array_equal(moved, fitted().adversarial_examples(X, Y))


def test_data_frame_keeps_its_names():
    frame = pd.DataFrame(X, columns=list("abcd"), index=range(10, 160))
    net = AdvBPClassifier(max_epochs=1, random_state=0).fit(frame, Y)
    moved = net.adversarial_examples(frame, Y)
    assert moved.columns.tolist() == list("abcd") and moved.index.equals(frame.index)
    assert net.predict(moved).shape == (150,)


@pytest.mark.parametrize("attack", ATTACKS)
def test_features_that_do_not_move_keep_all_digits_in_float32(attack):
    net = AdvBPClassifier(max_epochs=1, dtype="float32", random_state=0).fit(X, Y)
    epsilon = np.array([0.2, 0.0, 0.2, 0.0])
    moved = net.adversarial_examples(X, Y, epsilon=epsilon, attack=attack)
    np.testing.assert_array_equal(moved[:, epsilon == 0], X[:, epsilon == 0])
    assert np.abs(moved - X).max() <= 0.2 + 1e-6


@pytest.mark.parametrize(
    "options, message",
    [
        ({"attack": "bim"}, "'attack' .*'pgd'.* Got 'bim'"),
        ({"epsilon": -0.1}, r"epsilon must .*>= 0.* Got -0\.1"),
        ({"epsilon": [0.1, 0.2]}, r"epsilon must .*\(4,\)"),
        ({"norm": "l1"}, "'norm' .*'l2'.* Got 'l1'"),
        ({"clip": "unit"}, r"clip must be .* Got 'unit'"),
        ({"clip": (1, 0)}, r"clip must be .*low < high.* Got \(1, 0\)"),
        ({"attack": "pgd", "n_steps": 0}, "'n_steps' .* Got 0"),
        ({"attack": "pgd", "step_size": 0}, "'step_size' .* Got 0"),
        ({"attack": "pgd", "n_restarts": 0}, "'n_restarts' .* Got 0"),
        ({"attack": "pgd", "random_state": -1}, "-1|random_state|seed"),
    ],
)
def test_bad_options(options, message, fitted):
    with pytest.raises(ValueError, match=message):
        fitted().adversarial_examples(X, Y, **options)


@norms
def test_pure_functions_on_a_linear_loss(norm):
    """The maximum over the ball is known: x + ε·direction; PGD finds it from any start."""
    slope = torch.tensor([3.0, -4.0], dtype=torch.float64)
    x = torch.zeros(5, 2, dtype=torch.float64)

    def losses(x, target):
        return (x @ slope) * target, torch.zeros(len(x), dtype=torch.bool)

    objective = Objective(losses, torch.tensor([1.0, 1.0, 2.0, -1.0, 1.0]).double())
    direction = slope.sign() if norm == "linf" else slope / 5
    expected = 0.5 * direction * torch.tensor([1.0, 1, 1, -1, 1]).double()[:, None]
    torch.testing.assert_close(fgsm(objective, x, 0.5, norm=norm), expected)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    climbed = pgd(objective, x, 0.5, norm=norm, n_steps=40, step_size=0.2, generators=generators)
    torch.testing.assert_close(climbed, expected, rtol=1e-6, atol=1e-6)
    assert (x == 0).all()


def test_pgd_prefers_what_fools_the_net_to_the_largest_loss():
    """A loss that falls where the prediction flips."""

    def losses(x, target):
        return -(x[:, 0] ** 2), x[:, 0].abs() > 0.4

    x = torch.full((3, 1), 0.1)
    moved = pgd(
        Objective(losses, torch.zeros(3)),
        x,
        0.5,
        n_steps=0,
        generators=[torch.Generator().manual_seed(s) for s in range(20)],
    )
    assert (moved.abs() > 0.4).all()
