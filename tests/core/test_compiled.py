"""What ``compile=True`` compiles of the package's perceptron, and how often."""

import numpy as np
import pytest
import torch

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV

X = np.random.default_rng(0).normal(size=(70, 6)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(int)
OPTIONS = [
    {},
    {"epsilon": 0},
    {"clean_weight": 0.5, "norm": "l2"},
    {"dropout": 0.3, "input_dropout": 0.1},
    {"clip": (-1, 1), "output": "logistic"},
    {"perturbation_dtype": "bfloat16"},
    {"y": np.stack([Y, X[:, 2] > 0], axis=1)},
]


class Counting:
    """A compiler that changes nothing and counts the graphs that it gets."""

    def __init__(self):
        self.n_graphs = 0

    def __call__(self, graph, example_inputs):
        self.n_graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def nothing_compiled_yet():
    torch.compiler.reset()


def fitted(y=Y, **options):
    return AdvBPClassifier((5,), max_epochs=3, batch_size=32, random_state=0, **options).fit(X, y)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: str(o)[:40])
def test_one_graph_for_all_fits_that_trains_as_without(options):
    compiler = Counting()
    plain = fitted(**options)
    for _ in range(2):
        net = fitted(compile=True, compile__backend=compiler, **options)
        np.testing.assert_allclose(net.predict_proba(X), plain.predict_proba(X), rtol=1e-4)
        np.testing.assert_allclose(
            net.history_[:, "train_loss"], plain.history_[:, "train_loss"], rtol=1e-5
        )
    assert compiler.n_graphs == 1


@pytest.mark.parametrize("options", [{"random_start": 0.5}, {"perturbation": "random"}], ids=str)
def test_noise_is_not_compiled(options):
    compiler = Counting()
    net = fitted(compile=True, compile__backend=compiler, **options)
    np.testing.assert_array_equal(net.predict_proba(X), fitted(**options).predict_proba(X))
    assert compiler.n_graphs == 0


@pytest.mark.parametrize("batch_size", [-1, 70, 500])
def test_all_rows_in_one_batch_are_compiled_too(batch_size):
    compiler = Counting()
    options = {"max_epochs": 3, "batch_size": batch_size, "random_state": 0}
    AdvBPClassifier((5,), compile=True, compile__backend=compiler, **options).fit(X, Y)
    assert compiler.n_graphs == 1


def test_stacks_are_not_compiled(monkeypatch):
    axes = []  # of 6 nets with 6 rows a batch

    def counting_compile(function, **options):
        return lambda x, y, **keywords: axes.append(x.ndim) or function(x, y, **keywords)

    monkeypatch.setattr(torch, "compile", counting_compile)
    options = {"max_epochs": 2, "batch_size": 6, "epsilons": [0.1, 0.2], "cv": 3}
    AdvBPClassifierCV((5,), compile=True, random_state=0, **options).fit(X, Y)
    assert axes and set(axes) == {2}  # those of the fit on all rows
