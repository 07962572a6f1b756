"""The closed form stands in for the module only while nobody has changed the module."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.nn.modules import module as of_all_modules
from torch.nn.utils import parametrizations, parametrize, prune

from sk_advbp import AdvBPClassifier
from sk_advbp.core import MultilayerPerceptron
from sk_advbp.training.plain import is_plain

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4))
Y = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)


class Changed(Callback):
    """Change the module, when training or an epoch begins."""

    def __init__(self, change, when="on_train_begin"):
        def once(net, **kwargs):
            if not self.done:
                self.done = True
                change(net.module_)

        self.done = False
        setattr(self, when, once)


def doubled_forward(module):
    plain = module.forward
    module.forward = lambda x: 2 * plain(x)


def doubled_layer(module):
    layer = module.layers[1]
    plain = layer.forward
    layer.forward = lambda x: 2 * plain(x)


def replaced_layer(module):
    class Absolute(nn.Linear):
        def forward(self, x):
            return super().forward(x).abs()

    old = module.layers[0]
    module.layers[0] = Absolute(old.in_features, old.out_features, dtype=old.weight.dtype)


def shared(module):
    module.layers[1].bias = module.layers[0].bias


def halved_gradient(module):
    module.layers[0].weight.register_hook(lambda gradient: gradient / 2)


def halved_accumulated(module):
    def halve(parameter):
        parameter.grad.div_(2)

    module.layers[0].weight.register_post_accumulate_grad_hook(halve)


class Orthogonal(nn.Module):
    def forward(self, W):
        return torch.linalg.qr(W.mT if W.shape[0] < W.shape[1] else W)[0].reshape(W.shape)


CHANGES = {
    "forward hook": lambda m: m.layers[0].register_forward_hook(lambda *a: 2 * a[2]),
    "hook of the whole": lambda m: m.register_forward_hook(lambda *a: 2 * a[2]),
    "pre-hook": lambda m: m.layers[1].register_forward_pre_hook(lambda _, a: (2 * a[0],)),
    "backward hook": lambda m: m.layers[1].register_full_backward_hook(
        lambda _, g_in, g_out: tuple(2 * g for g in g_in)
    ),
    "backward pre-hook": lambda m: m.layers[1].register_full_backward_pre_hook(
        lambda _, g_out: tuple(2 * g for g in g_out)
    ),
    "hook of a list": lambda m: m.layers.register_forward_hook(lambda *a: None),
    "parametrization": lambda m: parametrize.register_parametrization(
        m.layers[1], "weight", Orthogonal()
    ),
    "weight norm": lambda m: parametrizations.weight_norm(m.layers[0]),
    "spectral norm": lambda m: parametrizations.spectral_norm(m.layers[1]),
    "pruned": lambda m: prune.l1_unstructured(m.layers[0], "weight", 0.5),
    "pruned bias": lambda m: prune.random_unstructured(m.layers[0], "bias", 0.5),
    "frozen": lambda m: m.layers[0].requires_grad_(False),
    "frozen weight": lambda m: m.layers[1].weight.requires_grad_(False),
    "shared": shared,
    "no bias": lambda m: setattr(m.layers[0], "bias", None),
    "a method of the object": doubled_forward,
    "a method of a layer": doubled_layer,
    "another kind of layer": replaced_layer,
    "hook of a gradient": halved_gradient,
    "hook of a stored gradient": halved_accumulated,
}


def classifier(**params):
    defaults = {"max_epochs": 3, "batch_size": 32, "epsilon": 0.2, "random_state": 0}
    return AdvBPClassifier((6, 6), **defaults | params)


class OwnLoop(AdvBPClassifier):
    """The same net without a closed form: it changes what is computed, to the same."""

    def infer(self, x, **fit_params):
        return super().infer(x, **fit_params)


@pytest.mark.parametrize("when", ["on_train_begin", "on_epoch_begin", "on_batch_begin"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_module_is_trained_as_what_it_is(change, when):
    """As by a net that never had the closed form, and without a word."""
    nets = []
    for estimator in (AdvBPClassifier, OwnLoop):
        torch.manual_seed(0)  # some changes draw
        params = {"max_epochs": 2, "batch_size": 32, "epsilon": 0.2, "random_state": 0}
        nets.append(estimator((6, 6), callbacks=[Changed(change, when)], **params).fit(X, Y))
    net, expected = nets
    assert not is_plain(net.module_)
    np.testing.assert_allclose(net.predict_proba(X), expected.predict_proba(X), rtol=1e-9)
    for p, q in zip(net.module_.parameters(), expected.module_.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        net.adversarial_examples(X, Y), expected.adversarial_examples(X, Y), rtol=1e-9
    )


@pytest.mark.parametrize("name", [name for name in CHANGES if "backward" not in name])
def test_an_attack_on_a_changed_module(name):
    """What comes after the fit counts for attacks, too: no row's loss falls by a tiny step."""
    net = classifier().fit(X, Y)
    CHANGES[name](net.module_)
    moved = net.adversarial_examples(X, Y, epsilon=1e-6)
    loss = nn.CrossEntropyLoss(reduction="none")
    target = torch.tensor(Y)
    with torch.no_grad():
        before, after = (loss(net.module_(torch.tensor(x)), target) for x in (X, moved))
    assert (after >= before - 1e-12).all() and (after > before).any()


PASSES = [
    ({"epsilon": 0}, 1),
    ({"epsilon": 0.1}, 2),
    ({"epsilon": 0.1, "clean_weight": 0.5}, 3),
    ({"epsilon": 0.1, "clean_weight": 1}, 1),
    ({"perturbation": "random"}, 1),
]


@pytest.mark.parametrize("params, n_passes", PASSES)
def test_a_hook_is_called_once_a_pass(params, n_passes):
    calls = []

    def count(module):
        module.layers[0].register_forward_hook(lambda *a: calls.append(1))

    classifier(callbacks=[Changed(count)], **params).fit(X, Y)
    assert len(calls) == 3 * 3 * n_passes


def test_hooks_of_all_modules_are_called():
    calls = []
    handle = of_all_modules.register_module_forward_hook(lambda *a: calls.append(1))
    try:
        classifier(max_epochs=1, callbacks="disable").fit(X, Y)
    finally:
        handle.remove()
    assert len(calls) >= 3 * 2 * 3
    assert is_plain(classifier(max_epochs=1).fit(X, Y).module_)


class Doubled(MultilayerPerceptron):
    def forward(self, x):
        return 2 * super().forward(x)


class WithDoubled(AdvBPClassifier):
    """A subclass that builds another module."""

    def initialize_module(self):
        super().initialize_module()
        self.module_.__class__ = Doubled
        return self


class WithSmoothing(AdvBPClassifier):
    """A subclass that builds another loss."""

    def initialize_criterion(self):
        self.criterion_ = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.5)
        return self


@pytest.mark.parametrize("estimator", [WithDoubled, WithSmoothing])
def test_subclasses_are_trained_as_what_they_are(estimator):
    class Slow(estimator):
        def infer(self, x, **fit_params):
            return super().infer(x, **fit_params)

    params = {"max_epochs": 3, "epsilon": 0.2, "random_state": 0}
    net, slow, usual = (e((6,), **params).fit(X, Y) for e in (estimator, Slow, AdvBPClassifier))
    np.testing.assert_allclose(net.predict_proba(X), slow.predict_proba(X), rtol=1e-9)
    assert np.abs(net.predict_proba(X) - usual.predict_proba(X)).max() > 1e-3


def test_what_is_plain():
    net = classifier().fit(X, Y)
    for module in (
        MultilayerPerceptron(3, 2),
        MultilayerPerceptron(3, 2, (), "tanh", dropout=0.5),
        net.module_,
        copy.deepcopy(net.module_),
        pickle.loads(pickle.dumps(net)).module_,
    ):
        assert is_plain(module)
    assert not is_plain(Doubled(3, 2)) and not is_plain(nn.Linear(3, 2))
    handle = net.module_.register_forward_hook(lambda *a: None)
    assert not is_plain(net.module_)
    handle.remove()
    assert is_plain(net.module_)


@pytest.mark.filterwarnings("ignore")  # of shap's own
def test_deep_explainer_explains_the_perceptron():
    shap = pytest.importorskip("shap")
    net = AdvBPClassifier((8,), max_epochs=20, random_state=0).fit(X.astype("f4"), Y)
    given = torch.as_tensor(X, dtype=torch.float32)
    values = shap.DeepExplainer(net.module_, given[:30]).shap_values(given[:3])
    with torch.no_grad():
        difference = net.module_(given[:3]) - net.module_(given[:30]).mean(0)
    np.testing.assert_allclose(values.sum(1), difference, atol=1e-3)
