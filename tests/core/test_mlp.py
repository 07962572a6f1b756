"""The perceptron: its function, its initialisation, its dropout, its source of randomness."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sk_advbp.core import MultilayerPerceptron, perturb

FUNCTIONS = {
    "identity": lambda a: a,
    "logistic": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
}
activations = pytest.mark.parametrize("activation", FUNCTIONS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def perceptron(*sizes, seed=0, **options):
    fan_in, *hidden, fan_out = sizes
    return MultilayerPerceptron(fan_in, fan_out, hidden, generator=seeded(seed), **options)


def arrays(module):
    return [p.detach().numpy() for p in module.parameters()]


@pytest.mark.parametrize("sizes", [(4, 3), (4, 5, 3), (2, 5, 4, 3, 1)])
@activations
def test_forward(activation, sizes):
    module = perceptron(*sizes, activation=activation, dtype=torch.float64)
    x = torch.randn(6, sizes[0], generator=seeded(), dtype=torch.float64)
    *hidden, (W, b) = zip(arrays(module)[::2], arrays(module)[1::2], strict=True)
    h = x.numpy()
    for V, c in hidden:
        h = FUNCTIONS[activation](h @ V.T + c)
    np.testing.assert_allclose(module(x).detach().numpy(), h @ W.T + b, rtol=1e-12, atol=1e-14)


def test_parameters_are_weight_and_bias_layer_by_layer_as_in_linear():
    module = perceptron(4, 7, 5, 3)
    expected = [(7, 4), (7,), (5, 7), (5,), (3, 5), (3,)]
    assert [tuple(p.shape) for p in module.parameters()] == expected
    assert all(isinstance(layer, nn.Linear) for layer in module.layers)


@activations
def test_initial_bounds(activation):
    """Uniform draws fill their interval: the largest of many lies just below the bound."""
    fan_in, width, fan_out = 60, 80, 40
    module = perceptron(fan_in, width, fan_out, activation=activation)
    W, b, V, c = arrays(module)
    glorot = math.sqrt(6 / (fan_in + width))
    hidden = {"logistic": 4 * glorot, "relu": math.sqrt(6 / fan_in)}.get(activation, glorot)
    bias = 1 if activation == "tanh" else 1 / math.sqrt(fan_in)
    for values, bound in [(W, hidden), (V, math.sqrt(6 / (width + fan_out))), (b, bias)]:
        largest = np.abs(values).max()
        assert (1 - 10 / values.size) * bound < largest <= bound
        assert abs(values.mean()) < 4 * bound / math.sqrt(3 * values.size)
    assert (c == 0).all()


@activations
def test_signal_keeps_its_size_through_many_layers(activation):
    """What the initialisation is for: neither vanishing nor exploding."""
    module = perceptron(64, *[64] * 6, 10, activation=activation)
    x = torch.randn(500, 64, generator=seeded())
    gradient = torch.autograd.grad(module(x).square().sum(), module.layers[0].weight)[0]
    assert 0.05 < module(x).std() < 20
    assert 1e-2 < gradient.norm() / math.sqrt(len(x)) < 1e4


def test_randomness_comes_from_the_given_generator_alone():
    before = torch.get_rng_state()
    same = [perceptron(4, 5, 3, seed=1, dropout=0.5, input_dropout=0.5) for _ in range(2)]
    other = perceptron(4, 5, 3, seed=2)
    x = torch.ones(6, 4)
    assert all(map(np.array_equal, arrays(same[0]), arrays(same[1])))
    assert not np.array_equal(arrays(same[0])[0], arrays(other)[0])
    assert torch.equal(same[0](x), same[1](x))
    assert not torch.equal(same[0](x), same[0](x))
    assert torch.equal(torch.get_rng_state(), before)


def test_reset_parameters_draws_anew():
    module = perceptron(4, 5, 3)
    first = [a.copy() for a in arrays(module)]
    module.reset_parameters()
    assert not np.array_equal(arrays(module)[0], first[0])
    module.generator = seeded()
    module.reset_parameters()
    assert all(map(np.array_equal, arrays(module), first))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype(dtype):
    module = perceptron(4, 5, 3, dtype=dtype)
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert module(torch.ones(2, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.3), (0.25, 0.6)])
def test_dropout_masks_have_their_rates_and_keep_the_mean(rates):
    dropout, input_dropout = rates
    module = perceptron(40, 30, 20, 3, dropout=dropout, input_dropout=input_dropout)
    masks = module.dropout_masks(torch.zeros(1000, 40))
    assert [None if m is None else tuple(m.shape) for m in masks] == [
        None if rate == 0 else (1000, width)
        for rate, width in [(input_dropout, 40), (dropout, 30), (dropout, 20)]
    ]
    for mask, rate in zip(masks, [input_dropout, dropout, dropout], strict=True):
        if mask is not None:
            kept = torch.tensor(1 / (1 - rate))
            assert set(mask.unique().tolist()) == {0.0, kept.item()}
            assert (mask == 0).double().mean() == pytest.approx(rate, abs=0.02)


def test_dropout_is_applied_to_what_each_layer_takes_in():
    module = perceptron(4, 5, 3, activation="tanh", dropout=0.5, input_dropout=0.5)
    x = torch.randn(6, 4, generator=seeded())
    module.generator = seeded(5)
    result = module(x).detach().numpy()
    module.generator = seeded(5)
    first, second = (m.numpy() for m in module.dropout_masks(x))
    W, b, V, c = arrays(module)
    expected = (np.tanh((x.numpy() * first) @ W.T + b) * second) @ V.T + c
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_nothing_is_dropped_outside_training():
    module = perceptron(4, 5, 3, dropout=0.5, input_dropout=0.5).eval()
    plain = perceptron(4, 5, 3).eval()
    x = torch.ones(6, 4)
    assert module.dropout_masks(x) == [None, None]
    assert torch.equal(module(x), plain(x))


def test_a_dropped_feature_is_not_perturbed():
    module = perceptron(6, 5, 3, activation="tanh", input_dropout=0.5)
    x = torch.randn(8, 6, generator=seeded())
    module.generator = seeded(3)
    dropped = module.dropout_masks(x)[0] == 0
    module.generator = seeded(3)
    moved = perturb(lambda x: module(x).square().sum(), x, 0.1)
    assert torch.equal(moved == x, dropped)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_the_weights_but_not_the_generator(copied):
    module = perceptron(4, 5, 3, dropout=0.5)
    twin = copied(module)
    assert twin.generator is None and module.generator is not None
    assert all(map(np.array_equal, arrays(twin), arrays(module)))
    assert twin.state_dict().keys() == module.state_dict().keys()
    x = torch.ones(3, 4)
    assert torch.equal(twin.eval()(x), module.eval()(x))
