"""What ``compile=True`` compiles of the package's perceptron, and how often."""

import numpy as np
import pytest
import torch

from sk_advbp import AdvBPClassifier

X = np.random.default_rng(0).normal(size=(70, 6)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(int)
OPTIONS = [
    {},
    {"epsilon": 0},
    {"clean_weight": 0.5, "norm": "l2"},
    {"dropout": 0.3, "input_dropout": 0.1},
    {"clip": (-1, 1), "output": "logistic"},
    {"perturbation_dtype": "bfloat16"},
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


def fitted(**options):
    return AdvBPClassifier((5,), max_epochs=3, batch_size=32, random_state=0, **options).fit(X, Y)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
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
