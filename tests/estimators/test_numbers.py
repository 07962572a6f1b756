"""A value that passed its check is converted there: numbers of any kind do what Python's do."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import DataLoader

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.robustness import adversarial_accuracy_score

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)

WHOLE = [np.int8, np.int64, np.uint16, np.intp]
REAL = [np.float16, np.float32, np.float64, np.longdouble, Fraction]

# Parameter, value, what else it needs. Each value is exact in float16.
INTEGERS = [
    ("hidden_layer_sizes", 5, {}),
    ("batch_size", 16, {}),
    ("batch_size", 16, {"module": nn.Linear(4, 2)}),
    ("batch_size", 16, {"iterator_train": DataLoader}),
    ("iterator_train__batch_size", 16, {}),
    ("iterator_valid__batch_size", 16, {}),
    ("iterator_valid__batch_size", 16, {"iterator_valid": DataLoader}),
    ("max_epochs", 3, {}),
    ("n_iter_no_change", 2, {"early_stopping": True, "validation_fraction": 0.25}),
    ("random_state", 3, {}),
    ("verbose", 0, {}),
    ("epsilon", 1, {}),
    ("lr", 1, {}),
    ("clean_weight", 1, {}),
    ("random_start", 1, {}),
    ("dropout", 0, {}),
    ("tol", 0, {}),
    ("module__width", 6, {}),
]
REALS = [
    ("epsilon", 0.125, {}),
    ("epsilon_unit", 0.5, {}),
    ("lr", 0.0625, {}),
    ("lr", 0.0625, {"optimizer": torch.optim.RMSprop, "lr_schedule": "constant"}),
    ("lr", 0.0625, {"optimizer": torch.optim.SGD, "module": nn.Linear(4, 2)}),
    ("optimizer__weight_decay", 0.125, {}),
    ("optimizer__eps", 0.125, {}),
    ("optimizer__momentum", 0.5, {"optimizer": torch.optim.SGD}),
    ("optimizer__param_groups", 0.125, {}),
    ("criterion__label_smoothing", 0.25, {"criterion": nn.CrossEntropyLoss}),
    ("dropout", 0.25, {}),
    ("input_dropout", 0.25, {"clean_weight": 0.5}),
    ("clean_weight", 0.25, {}),
    ("clean_weight", 0.25, {"module": nn.Linear(4, 2)}),
    ("random_start", 0.25, {"norm": "l2"}),
    ("tol", 0.125, {"early_stopping": True, "validation_fraction": 0.25}),
    ("validation_fraction", 0.25, {"early_stopping": True}),
]


class Wide(nn.Sequential):
    def __init__(self, width=3):
        super().__init__(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def trained(name, value, others):
    if name == "optimizer__param_groups":
        value = [("*bias", {"weight_decay": value})]
    if name == "module__width":
        others = others | {"module": Wide}
    defaults = {"hidden_layer_sizes": 5, "max_epochs": 2, "batch_size": 32, "random_state": 0}
    net = AdvBPClassifier(**defaults | others | {name: value}).fit(X, Y)
    return net, np.concatenate([net.predict_proba(X), net.partial_fit(X, Y).predict_proba(X)])


CASES = [(*row, kind) for row in INTEGERS for kind in WHOLE]
CASES += [(*row, kind) for row in REALS for kind in REAL]


@pytest.mark.filterwarnings("ignore:epsilon is .* standard deviations")  # of which 1 is many
@pytest.mark.parametrize("name, value, others, kind", CASES)
def test_numbers_of_any_kind(name, value, others, kind):
    net, found = trained(name, kind(value), others)
    _, expected = trained(name, value, others)
    np.testing.assert_array_equal(found, expected)
    # What a user asks for afterwards is what the user gave.
    if "param_groups" not in name:
        assert type(net.get_params()[name]) is kind


@pytest.mark.parametrize("flag", ["early_stopping", "warm_start", "amp", "compile", "use_caching"])
def test_numpys_flags(flag):
    _, found = trained(flag, np.False_, {})
    np.testing.assert_array_equal(found, trained(flag, False, {})[1])


@pytest.mark.parametrize("kind", REAL)
def test_attacks(kind):
    net, _ = trained("epsilon", 0.125, {})
    options = {"n_steps": 3, "n_restarts": 2, "random_state": 1}
    given = {k: np.int8(v) for k, v in options.items()}
    for norm in ("linf", "l2"):
        np.testing.assert_array_equal(
            net.adversarial_examples(
                X, Y, epsilon=kind(0.25), attack="pgd", step_size=kind(0.25), norm=norm, **given
            ),
            net.adversarial_examples(
                X, Y, epsilon=0.25, attack="pgd", step_size=0.25, norm=norm, **options
            ),
        )
    clip = (kind(-0.5), kind(0.5))
    scores = [
        adversarial_accuracy_score(net, X, Y, e, clip=c)
        for e, c in ((kind(0.25), clip), (0.25, (-0.5, 0.5)))
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("kind", [np.float32, Fraction])
def test_searches(optimizer, kind):
    params = {"max_epochs": 2, "random_state": np.int64(0), "optimizer": optimizer}
    searches = [
        AdvBPClassifierCV((5,), lr=lr, batch_size=size, epsilons=n, cv=cv, n_jobs=jobs, **params)
        for lr, size, n, cv, jobs in (
            (kind(0.0625), np.int16(16), np.int8(3), np.int8(2), np.int64(1)),
            (0.0625, 16, 3, 2, 1),
        )
    ]
    np.testing.assert_array_equal(*(s.fit(X, Y).predict_proba(X) for s in searches))


def test_a_grid_of_arrays():
    grid = {
        "batch_size": np.arange(16, 64, 16),
        "lr": np.logspace(-3, -2, 2, dtype="f4"),
        "hidden_layer_sizes": np.array([4, 5]),
    }
    search = GridSearchCV(AdvBPClassifier(max_epochs=2), grid, cv=2, error_score="raise")
    assert np.isfinite(search.fit(X, Y).cv_results_["mean_test_score"]).all()


# ---- weights ---------------------------------------------------------------------------

NETS = {
    "perceptron": AdvBPClassifier((5,), max_epochs=3, random_state=0),
    "float32": AdvBPClassifier((5,), max_epochs=3, random_state=0, dtype="float32"),
    "module": AdvBPClassifier(module=nn.Linear(4, 2), max_epochs=3, random_state=0),
    "balanced": AdvBPClassifier((5,), max_epochs=3, random_state=0, class_weight="balanced"),
    "held out": AdvBPClassifier(
        (5,), max_epochs=3, random_state=0, early_stopping=True, validation_fraction=0.3
    ),
    "std": AdvBPClassifier((5,), max_epochs=3, random_state=0, epsilon_unit="std"),
    "cross-validation": AdvBPClassifierCV((5,), max_epochs=3, random_state=0, epsilons=2, cv=2),
    "regressor": AdvBPRegressor((5,), max_epochs=3, random_state=0, dtype="float32"),
}


@pytest.mark.parametrize("scale", [1e-50, 2.0**-1040, 1e-300, 1e50, 2.0**1000, 1e306])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_the_scale_of_weights_changes_nothing(net, scale):
    weight = np.linspace(1, 2, 60)
    weight[::7] = 0
    found = net.fit(X, Y, sample_weight=weight * scale).predict(X)
    # Powers of two change no digit, and denormal weights have lost some of theirs.
    rtol = 0 if np.log2(scale) % 1 == 0 and scale > 1e-300 else 1e-4
    np.testing.assert_allclose(found, net.fit(X, Y, sample_weight=weight).predict(X), rtol=rtol)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_equal_tiny_weights_are_no_weights(net):
    found, expected = (net.fit(X, Y, w).predict(X) for w in (np.full(60, 1e-50), np.ones(60)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_weights_that_vanish_beside_others_are_left_out():
    """Where float32 cannot hold both: a mini-batch of the small ones alone would have no loss."""
    weight = np.where(np.arange(60) < 30, 1e-60, 1.0)
    order = {"iterator_train__shuffle": False, "batch_size": 10, "dtype": "float32"}
    for module in (None, nn.Linear(4, 2)):
        net = AdvBPClassifier((5,), max_epochs=2, module=module, random_state=0, **order)
        found, expected = net.fit(X, Y, weight), None
        found = net.predict_proba(X)
        expected = net.fit(X[30:], Y[30:]).predict_proba(X)
        np.testing.assert_array_equal(found, expected)


def test_huge_class_weights():
    net = AdvBPClassifier((5,), max_epochs=2, random_state=0)
    for scale in (1e-200, 1e200):
        net.set_params(class_weight={0: scale, 1: 2 * scale})
        found = net.fit(X, Y, np.full(60, scale)).predict_proba(X)
        expected = net.set_params(class_weight={0: 1, 1: 2}).fit(X, Y).predict_proba(X)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_scores_under_attack_with_weights_of_any_scale():
    net = NETS["perceptron"].fit(X, Y)
    weight = np.linspace(1, 2, 60)
    expected = adversarial_accuracy_score(net, X, Y, 0.3, sample_weight=weight)
    for scale in (1e-310, 1e-50, 1e307):
        found = adversarial_accuracy_score(net, X, Y, 0.3, sample_weight=weight * scale)
        assert found == pytest.approx(expected, rel=1e-6)
