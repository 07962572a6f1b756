"""The Adversarial Robustness Toolbox as oracle, and the bridge to it."""

import builtins
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPRegressor
from sk_advbp.core import attacks
from sk_advbp.robustness import to_art

REASON = "the Adversarial Robustness Toolbox comes with the extra 'attacks'"
ACTIVATIONS = ["relu", "tanh", "logistic", "identity"]
OPTIONS = {"max_epochs": 1, "dtype": "float32", "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def evasion():
    return pytest.importorskip("art.attacks.evasion", reason=REASON, exc_type=ImportError)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def random_nets(n, rng):
    """Yield n float32 nets with weights of their own, and samples in [0, 1] with labels."""
    kinds = list(product(ACTIVATIONS, ["softmax", "logistic"], [(), (7,), (9, 5)], [2, 4]))
    generator = torch.Generator().manual_seed(0)
    for i in range(n):
        activation, output, hidden, n_classes = kinds[i % len(kinds)]
        X = rng.random((12, int(rng.integers(2, 12))), dtype=np.float32)
        y = np.arange(12) % n_classes
        net = AdvBPClassifier(hidden, activation, output=output, epsilon=0, **OPTIONS).fit(X, y)
        for parameter in net.module_.parameters():
            nn.init.normal_(parameter, generator=generator)
        yield net, X, y


def test_fgsm_is_arts_on_500_nets(evasion):
    rng = np.random.default_rng(0)
    worst = 0.0
    for i, (net, X, y) in enumerate(random_nets(500, rng)):
        norm, per_feature, clip = [
            ("linf", False, None),
            ("linf", True, None),
            ("linf", False, (0.0, 1.0)),
            ("linf", True, (0.0, 1.0)),
            ("l2", False, None),
            ("l2", False, (0.0, 1.0)),
        ][i % 6]
        epsilon = float(rng.uniform(0.01, 0.5))
        if per_feature:  # ART takes no zeros
            epsilon = rng.uniform(0.01, 0.5, X.shape[1]).astype(np.float32)
        theirs = evasion.FastGradientMethod(
            to_art(net, clip_values=clip),
            norm=2 if norm == "l2" else np.inf,
            eps=epsilon,
            eps_step=epsilon,
        ).generate(X, y)
        ours = net.adversarial_examples(X, y, epsilon=epsilon, norm=norm, clip=clip)
        worst = max(worst, np.abs(ours - theirs).max())
    assert ours.dtype == np.float32
    assert worst <= 1e-6


@pytest.fixture(scope="module")
def mnist_net(mnist):
    net = AdvBPClassifier((100,), **OPTIONS | {"max_epochs": 3})
    return net.fit(mnist.X_train[:10_000], mnist.y_train[:10_000])


def arts_pgd(evasion, net, X, y, epsilon, **start):
    """Return where 20 steps of ART's PGD lead."""
    attack = evasion.ProjectedGradientDescent(
        to_art(net),
        eps=epsilon,
        eps_step=2.5 * epsilon / 20,
        max_iter=20,
        batch_size=500,
        verbose=False,
        **start,
    )
    return attack.generate(X, y)


# The accuracy of either attack varies by 0.4 points from one random start to the next on 2,000
# images, by 0.15 on 10,000: hence the same start, and all of the test images.
@pytest.mark.data
@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_pgd_from_the_same_start_is_arts_on_mnist(evasion, mnist, mnist_net, epsilon, monkeypatch):
    X, y = mnist.X_test, mnist.y_test
    theirs = arts_pgd(evasion, mnist_net, X, y, epsilon, num_random_init=0)
    x, target = torch.from_numpy(X), torch.from_numpy(y)
    climb = attacks.Objective(mnist_net._losses_and_errors, target).gradient
    last = attacks.climb_in_box(climb, x, x, torch.tensor(epsilon), None, 20, 2.5 / 20)
    # One rounding of a gradient that is nearly zero sends a pixel the other way.
    assert np.mean(np.abs(last.numpy() - theirs).max(1) > 1e-5) < 0.005
    monkeypatch.setattr(attacks, "random_start", lambda x, *_: torch.zeros_like(x))
    ours = mnist_net.adversarial_examples(X, y, epsilon=epsilon, attack="pgd", n_steps=20)
    accuracy = mnist_net.score(theirs, y)
    # Ours keeps the FGSM point where that is the stronger one.
    assert accuracy - 0.005 <= mnist_net.score(ours, y) <= accuracy


@pytest.mark.data
@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_pgd_from_random_starts_is_as_strong_as_arts_on_mnist(evasion, mnist, mnist_net, epsilon):
    X, y = mnist.X_test, mnist.y_test
    np.random.seed(0)  # noqa: NPY002 - ART's random starts
    theirs = arts_pgd(evasion, mnist_net, X, y, epsilon, num_random_init=1)
    ours = mnist_net.adversarial_examples(
        X, y, epsilon=epsilon, attack="pgd", n_steps=20, random_state=0
    )
    assert mnist_net.score(ours, y) == pytest.approx(mnist_net.score(theirs, y), abs=0.005)


@pytest.mark.parametrize("output", ["softmax", "logistic"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arts_classifier_is_the_net(evasion, digits, dtype, output):
    X, y = digits
    net = AdvBPClassifier((20,), output=output, clip=(0, 1), **OPTIONS | {"dtype": dtype})
    pipeline = make_pipeline(StandardScaler(), net).fit(X, y)
    transformed = pipeline[:-1].transform(X)
    classifier = to_art(pipeline)
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    logits = net._logits(transformed).numpy()
    np.testing.assert_allclose(classifier.predict(transformed), logits, rtol=1e-4, atol=1e-4)
    assert classifier.nb_classes == 10 and classifier.input_shape == (64,)
    assert np.array_equal(classifier.clip_values, (0, 1))
    net.set_params(clip=None)  # of the next training
    assert np.array_equal(to_art(net).clip_values, (0, 1))
    classifier.loss_gradient(transformed.astype(np.float32), np.eye(10)[y])
    assert all(p.grad is None for p in to_art(net).model.parameters())
    after = net.module_.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_attacks_run_on_it(evasion, digits):
    X, y = digits
    net = AdvBPClassifier((50,), **OPTIONS | {"max_epochs": 20}).fit(X[500:], y[500:])
    X, y = X[:60].reshape(-1, 1, 8, 8), y[:60]
    classifier = to_art(net, clip_values=(0.0, 1.0), image_shape=(1, 8, 8))
    square = evasion.SquareAttack(classifier, eps=0.1, max_iter=50, verbose=False)
    apgd = evasion.AutoProjectedGradientDescent(
        classifier, eps=0.1, eps_step=0.02, max_iter=10, nb_random_init=1, verbose=False
    )
    for attack in (square, apgd):
        moved = attack.generate(X, y)
        assert np.abs(moved - X).max() <= 0.1 + 1e-6
        assert net.score(moved.reshape(60, 64), y) < net.score(X.reshape(60, 64), y)


def test_custom_module_and_criterion(evasion, digits):
    X, y = digits
    X = X.reshape(-1, 1, 8, 8)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    net = AdvBPClassifier(module=module, criterion=nn.MultiMarginLoss, **OPTIONS).fit(X, y)
    theirs = evasion.FastGradientMethod(to_art(net), eps=0.1).generate(X[:50], y[:50])
    ours = net.adversarial_examples(X[:50], y[:50], epsilon=0.1)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_without_the_toolbox_the_extra_is_named(monkeypatch):
    import_ = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == "art":
            raise ImportError(name)
        return import_(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"extra 'attacks': python -m pip install .*\[attacks\]"):
        to_art(AdvBPClassifier())


@pytest.mark.parametrize("module", [None, nn.Sequential(nn.ReLU(inplace=True), nn.Linear(64, 10))])
def test_arrays_of_float64_and_of_the_users(evasion, digits, module):
    """Attacks that hand over float64, on nets of float32, leave the user's array alone."""
    X, y = digits[0][:20].astype(np.float64), digits[1][:20]
    net = AdvBPClassifier((8,), module=module, **OPTIONS).fit(digits[0], digits[1])
    classifier, before = to_art(net), X.copy()
    expected = net.predict_proba(X).argmax(1)
    np.testing.assert_array_equal(classifier.predict(X).argmax(1), expected)
    np.testing.assert_array_equal(classifier.predict(X.astype("f4")).argmax(1), expected)
    assert classifier.loss_gradient(X, np.eye(10)[y]).shape == X.shape
    moved = evasion.FastGradientMethod(classifier, eps=0.1).generate(X, y)
    assert 0 < np.abs(moved - X).max() <= 0.1 + 1e-6
    np.testing.assert_array_equal(X, before)


def test_regressors_are_refused():
    pytest.importorskip("art.estimators.classification", reason=REASON, exc_type=ImportError)
    X = np.zeros((10, 2))
    with pytest.raises(TypeError, match="to_art wraps classifiers"):
        to_art(AdvBPRegressor((4,), max_epochs=1).fit(X, X[:, 0]))
