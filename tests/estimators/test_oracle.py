"""Fits replayed in plain float64 NumPy, written from the equations of arXiv:1510.04189."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn

from sk_advbp import AdvBPClassifier
from sk_advbp.core import MultilayerPerceptron

N, D, M = 23, 4, 3
SIZES = (5, 6)
SEED = 7
LR = 0.3

# f, and f' as a function of h = f(a).
ACTIVATIONS = {
    "identity": (lambda a: a, lambda h: np.ones_like(h)),
    "logistic": (lambda a: 1 / (1 + np.exp(-a)), lambda h: h * (1 - h)),
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (lambda a: np.maximum(a, 0), lambda h: (h > 0).astype(float)),
}
TORCH_ACTIVATIONS = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}
# p and ℓ of each row, as functions of the logits and the one-hot labels or the indicator matrix.
OUTPUTS = {
    "softmax": (
        lambda z: np.exp(z) / np.exp(z).sum(1, keepdims=True),
        lambda p, t: -(t * np.log(p)).sum(1),
    ),
    "logistic": (
        lambda z: 1 / (1 + np.exp(-z)),
        lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum(1),
    ),
}
OUTPUTS["multilabel"] = OUTPUTS["logistic"]


def data(output="softmax", n=N):
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(n, D)), rng.uniform(0.2, 3, size=n)
    labels = np.arange(n) % M
    # Every combination of labels, that of none, too.
    matrix = np.arange(n)[:, None] // 2 ** np.arange(M) % 2
    return X, matrix if output == "multilabel" else labels, w


def back_propagate(weights, x, y, w, activation, output):
    """Return J = Σwℓ/Σw, its gradients by [W₁, b₁, W₂, …], and ∇ₓJ."""
    f, slope = ACTIVATIONS[activation]
    p_of, losses_of = OUTPUTS[output]
    matrices, biases = weights[::2], weights[1::2]
    hidden = [x]
    for W, b in zip(matrices[:-1], biases[:-1], strict=True):
        hidden.append(f(hidden[-1] @ W.T + b))
    one_hot = y if output == "multilabel" else np.eye(M)[y]
    p = p_of(hidden[-1] @ matrices[-1].T + biases[-1])
    share = (w / w.sum())[:, None]
    delta = share * (p - one_hot)  # ∂ℓ/∂z = p - t for both outputs
    gradients = []
    for i in reversed(range(len(matrices))):
        gradients = [delta.T @ hidden[i], delta.sum(0), *gradients]
        delta = delta @ matrices[i]
        if i:
            delta = delta * slope(hidden[i])
    return float(share[:, 0] @ losses_of(p, one_hot)), gradients, delta


def moved(x, g, epsilon, norm="linf", clip=None):
    """Return x' = x + ε·direction(g), within [min(low, x), max(high, x)]."""
    epsilon = np.broadcast_to(epsilon, x.shape)
    if norm == "linf":
        step = epsilon * np.sign(g)
    else:
        step = np.zeros_like(x)
        for i in range(len(x)):
            length = np.sqrt(((epsilon[i] * g[i]) ** 2).sum())
            if length > 0:
                step[i] = epsilon[i] * epsilon[i] * g[i] / length
    result = x + step
    if clip is not None:
        low, high = clip
        result = np.minimum(np.maximum(result, np.minimum(low, x)), np.maximum(high, x))
    return result


def replay(weights, orders, w, *, batch_size, activation, output, clean_weight, epsilon, **move):
    """Do SGD steps from `weights` on the rows in each of the `orders`; return them and losses."""
    X, y, _ = data(output)
    losses = []
    for order in orders:
        batch_losses, batch_weights = [], []
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = (y[rows], w[rows], activation, output)
            clean, clean_gradients, g = back_propagate(weights, X[rows], *batch)
            x = moved(X[rows], g, epsilon, **move)
            loss, gradients, _ = back_propagate(weights, x, *batch)
            weights = [
                v - LR * ((1 - clean_weight) * a + clean_weight * c)
                for v, a, c in zip(weights, gradients, clean_gradients, strict=True)
            ]
            batch_losses.append((1 - clean_weight) * loss + clean_weight * clean)
            batch_weights.append(w[rows].sum())
        losses.append(np.average(batch_losses, weights=batch_weights))
    return weights, losses


def start(activation, epochs, hidden_layer_sizes=SIZES):
    """Return the initial weights and the order of the rows in each epoch, by the seed."""
    generator = torch.Generator().manual_seed(SEED)
    module = MultilayerPerceptron(
        D, M, hidden_layer_sizes, activation, generator=generator, dtype=torch.float64
    )
    orders = [torch.randperm(N, generator=generator).numpy() for _ in range(epochs)]
    return parameters(module), orders


def parameters(module):
    return [p.detach().numpy().copy() for p in module.parameters()]


def fitted(weighted=False, *, epochs, X=None, **params):
    X_, y, w = data(params.get("output"))
    if params.get("output") == "multilabel":
        del params["output"]  # which an indicator matrix says, whatever the parameter is
    net = AdvBPClassifier(
        **{
            "hidden_layer_sizes": SIZES,
            "optimizer": torch.optim.SGD,
            "lr": LR,
            "lr_schedule": "constant",
            "max_epochs": epochs,
            "random_state": SEED,
        }
        | params
    )
    return net.fit(X_ if X is None else X, y, sample_weight=w if weighted else None)


def assert_close(ours, theirs, atol=1e-10):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


ARRAY = np.array([0.3, 0.0, 0.05, 0.7])
MOVES = {
    "plain": {"epsilon": 0},
    "scalar": {"epsilon": 0.2},
    "array": {"epsilon": ARRAY},
    "l2": {"epsilon": 0.5, "norm": "l2"},
    "l2 array": {"epsilon": ARRAY, "norm": "l2"},
    "clip": {"epsilon": 0.4, "clip": (-0.3, 0.6)},
    "clip array": {"epsilon": ARRAY, "clip": (-0.5, np.array([0.1, 0.2, 0.7, 1.5]))},
    "l2 clip": {"epsilon": 0.6, "norm": "l2", "clip": (np.full(D, -0.4), np.full(D, 0.4))},
}
# batch_size, epochs
UPDATES = {"one": (-1, 1), "several": (7, 3)}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("clean_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize(
    "activation, output",
    [*product(["logistic", "tanh", "relu"], ["softmax", "logistic"]), ("tanh", "multilabel")],
)
def test_updates_follow_the_equations(activation, output, move, updates, clean_weight, weighted):
    batch_size, epochs = UPDATES[updates]
    options = {"activation": activation, "output": output, "clean_weight": clean_weight}
    net = fitted(weighted, epochs=epochs, batch_size=batch_size, **options, **MOVES[move])
    w = data()[2] if weighted else np.ones(N)
    initial, orders = start(activation, epochs)
    size = N if batch_size == -1 else batch_size
    expected, losses = replay(initial, orders, w, batch_size=size, **options, **MOVES[move])
    assert_close(parameters(net.module_), expected)
    np.testing.assert_allclose(net.loss_curve_, losses, rtol=1e-10)
    assert not np.allclose(expected[0], initial[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("hidden_layer_sizes", [(), 4, (4,), (3, 4, 5)])
def test_any_depth(hidden_layer_sizes):
    options = {"activation": "identity", "output": "softmax", "clean_weight": 0.0, "epsilon": 0.2}
    net = fitted(epochs=2, batch_size=6, hidden_layer_sizes=hidden_layer_sizes, **options)
    layers = (hidden_layer_sizes,) if hidden_layer_sizes == 4 else hidden_layer_sizes
    initial, orders = start("identity", 2, layers)
    assert_close(
        parameters(net.module_), replay(initial, orders, np.ones(N), batch_size=6, **options)[0]
    )


def sequential(activation, hidden_layer_sizes=SIZES):
    """The same net of torch's own modules, with the same initial weights."""
    widths = [D, *hidden_layer_sizes, M]
    layers = []
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layers += [TORCH_ACTIVATIONS[activation]()] if i else []
        layers += [nn.Linear(fan_in, fan_out, dtype=torch.float64)]
    module = nn.Sequential(*layers)
    initial, _ = start(activation, 0, hidden_layer_sizes)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), initial, strict=True):
            parameter.copy_(torch.from_numpy(value))
    return module


@pytest.mark.parametrize("clean_weight, weighted", [(0.0, False), (0.3, True)])
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize(
    "activation, output",
    [*product(TORCH_ACTIVATIONS, ["softmax", "logistic"]), ("tanh", "multilabel")],
)
def test_custom_module_learns_the_same(activation, output, move, clean_weight, weighted):
    common = {
        "output": output,
        "clean_weight": clean_weight,
        "batch_size": 7,
        "iterator_train__shuffle": False,
        "dtype": "float64",
        **MOVES[move],
    }
    own = fitted(weighted, epochs=3, activation=activation, **common)
    custom = fitted(weighted, epochs=3, module=sequential(activation), **common)
    assert_close(parameters(custom.module_), parameters(own.module_))
    X = data()[0]
    np.testing.assert_allclose(custom.predict_proba(X), own.predict_proba(X), rtol=1e-10)


@pytest.mark.parametrize("output", ["softmax", "multilabel"])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
def test_epsilon_zero_is_the_back_propagation_of_scikit_learn(activation, output):
    X, y, _ = data(output)
    theirs = MLPClassifier(
        SIZES, activation, solver="sgd", alpha=0, batch_size=N, learning_rate_init=LR, momentum=0
    )
    # One step sets it up; the weights are then written over where its optimizer looks.
    theirs.partial_fit(X, y, classes=range(M))
    initial, _ = start(activation, 0)
    for W, b, ours_W, ours_b in zip(
        theirs.coefs_, theirs.intercepts_, initial[::2], initial[1::2], strict=True
    ):
        W[:], b[:] = ours_W.T, ours_b
    for _ in range(5):
        theirs.partial_fit(X, y)
    ours = fitted(epochs=5, batch_size=-1, activation=activation, output=output, epsilon=0)
    assert_close(parameters(ours.module_)[::2], [W.T for W in theirs.coefs_])
    assert_close(parameters(ours.module_)[1::2], theirs.intercepts_)


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.0, "norm": "l2"},
        {"epsilon": np.zeros(D)},
        {"epsilon": 0, "clip": (-0.1, 0.1)},
        {"epsilon": 0, "random_start": 1.0},
        {"epsilon": 0, "perturbation": "random"},
        {"epsilon": 0, "clean_weight": 0.4},
        {"epsilon": 0.5, "clean_weight": 1},
        {"epsilon": 0.5, "clean_weight": 1.0, "random_start": 0.5},
    ],
)
def test_options_that_move_nothing_are_plain_back_propagation_bit_by_bit(options):
    plain = fitted(epochs=3, batch_size=5, epsilon=0)
    same = fitted(epochs=3, batch_size=5, **options)
    assert_close(parameters(same.module_), parameters(plain.module_), atol=0)


class Counting(nn.Linear):
    """Count the passes."""

    def __init__(self):
        super().__init__(D, M)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return super().forward(x)


@pytest.mark.parametrize(
    "options, passes",
    [
        ({"epsilon": 0}, 1),
        ({"epsilon": np.zeros(D), "clean_weight": 0.5}, 1),
        ({"epsilon": 0.1, "clean_weight": 1}, 1),
        ({"epsilon": 0.1, "perturbation": "random"}, 1),
        ({"epsilon": 0.1}, 2),
        ({"epsilon": np.array([0, 0, 0, 0.1]), "norm": "l2"}, 2),
        ({"epsilon": 0.1, "random_start": 0.5}, 2),
    ],
)
def test_number_of_passes(options, passes):
    net = fitted(epochs=2, batch_size=6, module=Counting, **options)
    assert net.module_.passes == passes * 2 * -(-N // 6)


def test_linear_schedule_ends_at_zero():
    """Each step i of T has the rate lr · (1 - i/T)."""
    options = {"activation": "tanh", "output": "softmax", "clean_weight": 0.0, "epsilon": 0.2}
    net = fitted(epochs=3, batch_size=6, lr_schedule="linear", **options)
    weights, orders = start("tanh", 3)
    batches = [order[i : i + 6] for order in orders for i in range(0, N, 6)]
    for i, rows in enumerate(batches):
        new, _ = replay(weights, [rows], np.ones(N), batch_size=6, **options)
        rate = 1 - i / len(batches)
        weights = [v + rate * (u - v) for u, v in zip(new, weights, strict=True)]
    assert_close(parameters(net.module_), weights)
    assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float32_follows_to_its_own_precision(dtype):
    """Same initial draw rounded; ε = 0, as a sign of rounding noise would not agree."""
    net = fitted(epochs=4, batch_size=-1, activation="tanh", epsilon=0, dtype=dtype)
    options = {"activation": "tanh", "output": "softmax", "clean_weight": 0.0, "epsilon": 0}
    initial = parameters(fitted(epochs=1, dtype=dtype, activation="tanh", lr=1e-30).module_)
    _, orders = start("tanh", 4)
    expected, _ = replay(
        [v.astype(float) for v in initial], orders, np.ones(N), batch_size=N, **options
    )
    assert all(v.dtype == dtype for v in parameters(net.module_))
    assert_close(parameters(net.module_), expected, atol=2e-6 if dtype == "float32" else 1e-12)
