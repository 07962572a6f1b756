"""What the searches change beside the parameters of `AdvBPClassifier` is what they say."""

import numpy as np
import pytest
from skorch.callbacks import Callback

from benchmarks.reproduction.callbacks import net_of_cell

X = np.random.default_rng(0).random((60, 5), dtype=np.float32)
Y = (X[:, 0] > 0.5).astype(int)
TINY = {"hidden_layer_sizes": (4,), "lr": 0.01, "batch_size": 20, "max_epochs": 3}


class Seen(Callback):
    """Remember the weights after each step, and ε in each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.weights, self.epsilons = [], []

    def on_batch_end(self, net, **kwargs):
        self.weights.append(net.module_.layers[0].weight.detach().numpy().copy())

    def on_epoch_end(self, net, **kwargs):
        self.epsilons.append(float(net._displace.keywords["epsilon"]))


def trained(**settings):
    """Return the net of a cell, and what was seen of its training."""
    net, seen = net_of_cell(**TINY | settings, random_state=0), Seen()
    net.callbacks.append(seen)
    return net.fit(X, Y), seen


def test_ends_with_the_average_of_the_weights():
    net, seen = trained(average=0.75)
    averaged, *later = seen.weights
    for weights in later:
        averaged = 0.75 * averaged + 0.25 * weights
    assert len(seen.weights) == 9
    np.testing.assert_allclose(net.module_.layers[0].weight.detach(), averaged, rtol=1e-5)
    assert not np.allclose(averaged, seen.weights[-1], rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "epsilons"),
    [({}, [0.1, 0.1, 0.1]), ({"epsilon_ramp": (0.0, 2.0)}, [0.0, 0.1, 0.2])],
)
def test_epsilon_goes_from_the_first_factor_to_the_last(settings, epsilons):
    _, seen = trained(epsilon=0.1, **settings)
    np.testing.assert_allclose(seen.epsilons, epsilons, rtol=1e-6)


def test_epsilon_is_drawn_anew_for_each_batch():
    _, seen = trained(epsilon=0.1, epsilon_spread=(0.5, 1.5))
    draw = np.random.default_rng(0).uniform
    expected = [0.1 * draw(0.5, 1.5) for _ in range(9)]
    np.testing.assert_allclose(seen.epsilons, expected[2::3], rtol=1e-6)


def test_begins_with_a_multiple_of_the_weights():
    whole, half = (trained(initial_scale=factor, lr=1e-12)[1].weights[0] for factor in (1.0, 0.5))
    np.testing.assert_allclose(half, whole / 2, rtol=1e-5)


def test_last_layer_begins_as_usual():
    whole, half = (
        trained(initial_scale=factor, lr=1e-12)[0].module_.layers[-1].weight.detach()
        for factor in (1.0, 0.5)
    )
    np.testing.assert_allclose(half, whole, rtol=1e-5)


def test_optimizer_is_found_by_its_name():
    assert trained(optimizer="SGD")[0].optimizer_.__class__.__name__ == "SGD"
