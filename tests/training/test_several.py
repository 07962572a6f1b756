"""Several nets that learn together and answer as one are the nets of separate trainings."""

import pickle
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from skorch.callbacks import Callback, EpochScoring
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.core import MultilayerPerceptron
from sk_advbp.core.attacks import perceptron_gradient
from sk_advbp.core.mixture import (
    log_complement,
    log_probabilities,
    mixture,
    mixture_deltas,
    n_units,
)

K, N, D, M = 3, 50, 4, 3
RNG = np.random.default_rng(0)
X, WEIGHT = RNG.normal(size=(N, D)), RNG.integers(0, 4, size=N).astype(float)
LABELS, NUMBERS = np.arange(N) % M, RNG.normal(size=(N, 2))
MATRIX = RNG.integers(0, 2, size=(N, M))
YS = {"softmax": LABELS, "logistic": LABELS, "multilabel": MATRIX}
YS |= {"identity": NUMBERS, "gaussian": NUMBERS}


class Begin(Callback):
    """Begin with the weights of net `number` of a stack; None only keeps what it begins with."""

    def __init__(self, number, initial):
        self.number, self.initial = number, initial

    def on_train_begin(self, net, **kwargs):
        if self.number is None:
            self.initial.update(net.module_.state_dict())
            self.initial.update({name: value.clone() for name, value in self.initial.items()})
        else:
            own = {name: value[self.number] for name, value in self.initial.items()}
            net.module_.load_state_dict(own)


class Masks:
    """Dropout masks that are drawn once for all nets, and given to each of them again."""

    def __init__(self, monkeypatch):
        self.drawn, self.number, self.turn = [], None, 0
        draw = MultilayerPerceptron.dropout_masks

        def dropout_masks(module, x):
            if not module.training or not (module.dropout or module.input_dropout):
                return draw(module, x)
            if module.n_nets is not None:
                self.drawn.append(draw(module, x))
                return self.drawn[-1]
            masks = self.drawn[self.turn]
            self.turn += 1
            return [None if mask is None else mask[self.number] for mask in masks]

        monkeypatch.setattr(MultilayerPerceptron, "dropout_masks", dropout_masks)

    def replay(self, number):
        self.number, self.turn = number, 0


def estimator(output, callbacks, **options):
    cls = AdvBPRegressor if output in ("identity", "gaussian") else AdvBPClassifier
    if output != "multilabel":
        options["output"] = output
    quick = {"hidden_layer_sizes": (6, 5), "max_epochs": 5, "batch_size": 16, "epsilon": 0.2}
    shared = {"iterator_train__shuffle": False, "random_state": 0, "callbacks": callbacks}
    return cls(**quick | shared | {"lr": 0.02} | options)


def parameters(module):
    return [p.detach().numpy() for p in module.parameters()]


SGD = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
OPTIONS = [
    *({"activation": a, "output": o} for a, o in product(
        ("relu", "tanh", "logistic", "identity"), ("softmax", "logistic", "identity", "gaussian")
    )),
    {"norm": "l2"},
    {"norm": "l2", "epsilon": np.array([0, 0.1, 0.2, 0.3])},
    {"clip": (-0.5, np.array([0.1, 0.5, 1.0, 2.0]))},
    {"clean_weight": 0.4},
    {"clean_weight": 1.0},
    {"epsilon": 0},
    {"hidden_layer_sizes": ()},
    {"dropout": 0.4, "input_dropout": 0.2},
    {"dropout": 0.4, "clean_weight": 0.5, "clip": (-1, 1), "weighted": True},
    {"lr_schedule": "constant", "batch_size": -1},
    *({"weighted": True, "output": o} for o in YS),
    {"output": "multilabel"},
    {"output": "multilabel", "clean_weight": 0.4, "norm": "l2", "dropout": 0.4},
    SGD,
    {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1},
    {"optimizer": torch.optim.RMSprop, "lr": 0.005},
]  # fmt: skip


@pytest.mark.parametrize("closed_form", [True, False], ids=["closed form", "autograd"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: str(o)[:70])
def test_each_net_is_that_of_a_separate_training(options, closed_form, monkeypatch):
    options = dict(options)
    output = options.pop("output", "softmax")
    weight = WEIGHT if options.pop("weighted", False) else None
    y = YS[output]
    if not closed_form:
        monkeypatch.setattr(AdvBPClassifier, "_has_closed_form", lambda self: False)
        monkeypatch.setattr(AdvBPRegressor, "_has_closed_form", lambda self: False)
    masks, initial = Masks(monkeypatch), {}
    several = estimator(output, [Begin(None, initial)], n_nets=K, **options)
    several.fit(X, y, sample_weight=weight)
    curves = []
    for number, ours in enumerate(several.estimators_):
        masks.replay(number)
        alone = estimator(output, [Begin(number, initial)], **options)
        alone.fit(X, y, sample_weight=weight)
        for theirs, of_stack in zip(
            parameters(alone.module_), parameters(ours.module_), strict=True
        ):
            np.testing.assert_allclose(of_stack, theirs, rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours.predict(X), alone.predict(X), atol=1e-8)
        curves.append(alone.loss_curve_)
    np.testing.assert_allclose(several.loss_curve_, np.mean(curves, axis=0), rtol=1e-8)


@pytest.mark.parametrize("perturbation", [{"perturbation": "random"}, {"random_start": 0.5}])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_net_has_noise_of_its_own(norm, perturbation, monkeypatch):
    moved = []
    step = AdvBPClassifier._displacement

    def displacement(self):
        displace = step(self)

        def watched(gradient, x):
            moved.append((displace(gradient, x), x))
            return moved[-1][0]

        watched.keywords = displace.keywords
        return watched

    monkeypatch.setattr(AdvBPClassifier, "_displacement", displacement)
    options = {"norm": norm, "max_epochs": 1, "batch_size": -1, **perturbation}
    estimator("softmax", None, n_nets=K, **options).fit(X, LABELS)
    ((x_moved, x),) = moved
    steps = (x_moved - x).numpy()
    assert steps.shape == (K, N, D)
    assert not np.allclose(steps[0], steps[1])
    size = np.abs(steps).max(-1) if norm == "linf" else np.linalg.norm(steps, axis=-1)
    assert (size <= 0.2 + 1e-9).all() and size.max() > 0.19


# ---- one answer ------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["softmax", "logistic", "multilabel"])
def test_probabilities_are_the_mean_of_the_members(output):
    net = estimator(output, None, n_nets=5).fit(X, YS[output])
    members = net.estimators_
    mean = np.mean([member.predict_proba(X) for member in members], axis=0)
    np.testing.assert_allclose(net.predict_proba(X), mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(net.predict_log_proba(X), np.log(mean), rtol=0, atol=1e-12)
    if output == "multilabel":
        np.testing.assert_array_equal(net.predict(X), mean > 0.5)
        return
    np.testing.assert_array_equal(net.predict(X), net.classes_[mean.argmax(1)])
    vote = VotingClassifier([(str(i), m) for i, m in enumerate(members)], voting="soft")
    vote.estimators_, vote.le_ = members, None
    np.testing.assert_allclose(vote.predict_proba(X), mean, atol=1e-12)


def test_numbers_are_the_mean_of_the_members():
    net = estimator("identity", None, n_nets=4).fit(X, 7 + 100 * NUMBERS)
    members = [member.predict(X) for member in net.estimators_]
    np.testing.assert_allclose(net.predict(X), np.mean(members, axis=0), rtol=1e-12)
    assert np.ptp(members, axis=0).min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("output", ["softmax", "logistic"])
def test_mixture_of_certain_nets_is_finite_and_right(output, dtype):
    """Logits that leave no digit of 1 - p, with gradients."""
    z = torch.tensor([[[900.0, -900, 0]], [[0.0, 900, -900]], [[-80, 3, 0]]], dtype=dtype)
    z.requires_grad_()
    mixed = mixture(z, output)
    assert torch.isfinite(mixed).all()
    p = log_probabilities(z.detach(), output).exp().mean(0)
    torch.testing.assert_close(log_probabilities(mixed.detach(), output).exp(), p)
    (gradient,) = torch.autograd.grad(F.cross_entropy(mixed, torch.tensor([2])), z)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mixture_of_labels_is_as_exact_where_nets_are_certain(dtype):
    """Of one net it is the net's own, of several the mean of p and of 1 - p, with gradients."""
    z = torch.tensor([[900.0, -900, 80, -80, 0.5]], dtype=dtype)
    torch.testing.assert_close(mixture(z, "multilabel"), z[0])
    z = torch.cat([z, -z, z]).requires_grad_()
    mixed = mixture(z, "multilabel")
    p = z.detach().sigmoid().mean(0)
    torch.testing.assert_close(mixed.detach().sigmoid(), p)
    for target in (p.ceil(), p.floor()):
        (expected,) = torch.autograd.grad(
            F.binary_cross_entropy_with_logits(mixed, target, reduction="sum"), z, retain_graph=True
        )
        found = mixture_deltas(z.detach()[:, :, None], target[:, None], "multilabel")[..., 0]
        torch.testing.assert_close(found, expected)


def test_complement_keeps_what_is_small():
    log_p = torch.tensor([[0.0, -50.0, -60.0], [-1.0, -2.0, -3.0]], dtype=torch.float64)
    log_p = log_p.log_softmax(1)
    rest = [[np.logaddexp.reduce(np.delete(row, i)) for i in range(3)] for row in log_p.numpy()]
    np.testing.assert_allclose(log_complement(log_p).numpy(), rest, rtol=1e-12, atol=1e-15)


# ---- attacks ---------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("output", YS)
@pytest.mark.parametrize("sizes", [(), (7,), (6, 5)])
def test_gradient_through_the_mean(sizes, output, activation):
    generator = torch.Generator().manual_seed(1)
    module = MultilayerPerceptron(
        D,
        n_units(M, output),
        sizes,
        activation,
        generator=generator,
        dtype=torch.float64,
        n_nets=4,
        output=output,
    ).eval()
    x = torch.from_numpy(X).requires_grad_()
    z = module(x)
    if output == "gaussian":
        mean, s = module.outputs(x).chunk(2, dim=-1)
        variance = (F.softplus(s) + 1e-6 + mean.square()).mean(0) - mean.mean(0).square()
        target = torch.randn(N, M, generator=generator, dtype=torch.float64)
        loss = -Normal(mean.mean(0), variance.sqrt()).log_prob(target).mean(1)
    elif output == "identity":
        target = torch.randn(N, M, generator=generator, dtype=torch.float64)
        loss = (z - target).square().mean(1)
    elif output == "multilabel":
        target = torch.from_numpy(MATRIX)
        loss = F.binary_cross_entropy_with_logits(z, target.double(), reduction="none").sum(1)
    else:
        target = torch.from_numpy(LABELS)
        one_hot = F.one_hot(target, M).double()
        bce = F.binary_cross_entropy_with_logits(z, one_hot, reduction="none").sum(1)
        loss = bce if output == "logistic" else F.cross_entropy(z, target, reduction="none")
    (expected,) = torch.autograd.grad(loss.sum(), x)
    found = perceptron_gradient(module)(x.detach(), target)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    if output not in ("identity", "gaussian"):
        answer = z > 0 if output == "multilabel" else z.argmax(1)
        predicted = perceptron_gradient(module)(x.detach(), answer)
        torch.testing.assert_close(perceptron_gradient(module)(x.detach(), None), predicted)


@pytest.mark.parametrize("output", YS)
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_attacks_are_those_by_automatic_differentiation(attack, output, monkeypatch):
    y = YS[output]
    net = estimator(output, None, n_nets=K).fit(X, y)
    options = {"epsilon": 0.3, "attack": attack, "n_steps": 5, "random_state": 0}
    ours = net.adversarial_examples(X, y, **options)
    monkeypatch.setattr(type(net), "_has_closed_form", lambda self: False)
    np.testing.assert_allclose(ours, net.adversarial_examples(X, y, **options), atol=1e-10)
    assert np.abs(ours - X).max() <= 0.3 + 1e-12


# ---- what the estimators do with them ----------------------------------------------------


def test_a_net_that_watches_batches_sees_one_answer():
    scoring = EpochScoring("accuracy", name="acc", lower_is_better=False, on_train=True)
    net = estimator("softmax", [scoring], n_nets=K, epsilon=0).fit(X, LABELS)
    assert len(net.history[:, "acc"]) == 5 and all(0 <= a <= 1 for a in net.history[:, "acc"])


@pytest.mark.parametrize("output", ["softmax", "identity", "gaussian"])
def test_early_stopping_watches_the_mixture(output):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, D))
    y = X[:, :2] if output in ("identity", "gaussian") else (X[:, 0] > 0).astype(int)
    net = estimator(
        output, None, n_nets=K, early_stopping=True, max_epochs=60, n_iter_no_change=3, tol=0.05
    )
    net.fit(X, y)
    assert net.n_iter_ < 60 and len(net.validation_scores_) == net.n_iter_
    # The best weights are those of one epoch, for all nets.
    assert {"valid_loss", "train_loss"} <= net.history[-1].keys()


@pytest.mark.parametrize("output", ["softmax", "multilabel", "identity", "gaussian"])
def test_partial_fit_warm_start_and_pickles_go_on(output):
    y = YS[output]
    constant = {"lr_schedule": "constant", "max_epochs": 2, "n_nets": K}
    whole = estimator(output, None, **constant).set_params(max_epochs=4).fit(X, y)
    twice = pickle.loads(pickle.dumps(estimator(output, None, **constant).fit(X, y)))
    twice.set_params(warm_start=True).fit(X, y)
    steps = estimator(output, None, **constant)
    for _ in range(4):
        announced = {} if output in ("identity", "gaussian") else {"classes": np.arange(M)}
        steps.partial_fit(X, y, **announced)
    for other in (twice, steps):
        for ours, theirs in zip(parameters(other.module_), parameters(whole.module_), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert len(steps.estimators_[0].loss_curve_) == 4
    with pytest.raises(ValueError, match=r"n_nets=3.*Got 4"):
        twice.set_params(n_nets=4).fit(X, y)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"module": nn.Linear(D, M)}, "VotingClassifier"),
        ({"optimizer": torch.optim.Adagrad}, "Adam, AdamW, SGD, RMSprop"),
        ({"optimizer": torch.optim.LBFGS}, "treats each weight alike"),
    ],
    ids=["module", "Adagrad", "LBFGS"],
)
def test_what_several_nets_cannot_do_is_refused(options, message):
    net = AdvBPClassifier(n_nets=2, **options)
    with pytest.raises(ValueError, match=message):
        net.fit(X, LABELS)
    assert not hasattr(net, "module_")


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", None])
def test_number_of_nets_is_checked(bad):
    with pytest.raises(ValueError, match="n_nets"):
        AdvBPClassifier(n_nets=bad).fit(X, LABELS)


def test_the_search_refits_several_nets_with_its_epsilon():
    search = AdvBPClassifierCV(
        (6,), n_nets=4, epsilons=[0, 0.2], cv=3, max_epochs=4, random_state=0
    )
    search.fit(X, LABELS)
    single = clone(search).set_params(n_nets=1).fit(X, LABELS)
    assert search.epsilon_ == single.epsilon_ and search.best_score_ == single.best_score_
    members = search.estimators_
    assert [type(member) for member in members] == [AdvBPClassifier] * 4
    assert {member.epsilon for member in members} == {search.epsilon_}
    mean = np.mean([member.predict_proba(X) for member in members], axis=0)
    np.testing.assert_allclose(search.predict_proba(X), mean, atol=1e-12)


def test_members_attack_and_learn_on_as_single_nets():
    net = estimator("softmax", None, n_nets=2).fit(X, LABELS)
    one = net.estimators_[1]
    assert one.n_nets == 1 and one.n_iter_ == 5
    assert np.abs(one.adversarial_examples(X, LABELS) - X).max() <= 0.2 + 1e-12
    before = net.predict_proba(X)
    one.partial_fit(X, LABELS)
    np.testing.assert_array_equal(net.predict_proba(X), before)


def test_perceptrons_are_stacked_and_taken_apart():
    generator = torch.Generator().manual_seed(0)
    nets = [MultilayerPerceptron(D, M, (5,), "tanh", generator=generator) for _ in range(3)]
    stacked = MultilayerPerceptron.from_nets(nets)
    drawn = MultilayerPerceptron(
        D, M, (5,), "tanh", generator=torch.Generator().manual_seed(0), n_nets=3
    )
    for ours, theirs in zip(parameters(stacked), parameters(drawn), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x = torch.from_numpy(X).float()
    outputs = stacked.outputs(x)
    for single, net, z in zip(stacked.nets(), nets, outputs, strict=True):
        assert torch.equal(single(x), net(x))
        torch.testing.assert_close(z, net(x))
    assert len(list(stacked.activations)) == 1


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_hooks_see_what_the_units_put_out(activation):
    module = MultilayerPerceptron(D, M, (5, 4), activation)
    seen = []
    for unit in module.activations:
        unit.register_forward_hook(lambda unit, inputs, output: seen.append(output.shape))
    module(torch.zeros(2, D))
    assert seen == [(2, 5), (2, 4)]
