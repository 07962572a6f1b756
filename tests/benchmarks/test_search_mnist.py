"""The search for the paper's figures goes on where it stopped, and does what its settings say."""

import json

import numpy as np
import pytest
from skorch.callbacks import Callback

from benchmarks.reproduction import search_mnist

X = np.random.default_rng(0).random((60, 5), dtype=np.float32)
Y = (X[:, 0] > 0.5).astype(int)
TINY = {"hidden_layer_sizes": (4,), "lr": 0.01, "batch_size": 20, "max_epochs": 3}


def read(path):
    return json.loads(path.read_text("utf-8"))


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
    net, seen = search_mnist.net_of_cell(**TINY | settings, random_state=0), Seen()
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


def test_weights_stay_within_the_ball():
    free, seen = trained()[1].weights[-1], trained(max_norm=0.3)[1]
    assert np.linalg.norm(free, axis=1).max() > 0.3
    assert max(np.linalg.norm(w, axis=1).max() for w in seen.weights) <= 0.3 + 1e-6


def test_optimizer_is_found_by_its_name():
    assert trained(optimizer="SGD")[0].optimizer_.__class__.__name__ == "SGD"


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Let two small candidates take the place of all; return how to search among them."""
    monkeypatch.setattr(search_mnist, "START", {"relu": TINY})
    candidates = [("relu", {"epsilon": 0.2}, 2), ("relu", {"average": 0.9}, 1)]
    monkeypatch.setattr(search_mnist, "CANDIDATES", candidates)
    options = ["--data", "digits", "--rows", "300", "--results", str(tmp_path)]
    return tmp_path, lambda *more: search_mnist.main([*options, *more])


def test_goes_on_where_it_stopped(tiny, capsys):
    folder, search = tiny
    names = [f"relu.{name}.json" for name in ("average-0.9.s0", "epsilon-0.2.s0", "epsilon-0.2.s1")]
    search("--at-most", "2")
    assert sorted(path.name for path in folder.iterdir()) == names[1:]
    written = {name: (folder / name).stat().st_mtime_ns for name in names[1:]}
    search()
    assert sorted(path.name for path in folder.iterdir()) == names
    assert {name: (folder / name).stat().st_mtime_ns for name in names[1:]} == written
    figures = read(folder / names[0])
    assert figures["scored_on"] == "validation images" and figures["rows"] == 240
    assert figures["settings"]["average"] == 0.9 and figures["passport"]["command"]
    capsys.readouterr()
    search("--table")
    assert capsys.readouterr().out.count("\n| relu ") == 2


def test_table_has_the_lowest_error_first(tiny):
    folder, _ = tiny
    for name, error in (("epsilon-0.2.s0", 0.9), ("epsilon-0.2.s1", 0.8), ("average-0.9.s0", 0.7)):
        figures = {"error": error, "training_error": 0.0, "seconds": 10.0}
        (folder / f"relu.{name}.json").write_text(json.dumps(figures), encoding="utf-8")
    _, *rows = search_mnist.rows_of(folder)
    assert rows == [
        ["relu", "average 0.9", "0.70", "0.70", "0.00", "10"],
        ["relu", "epsilon 0.2", "0.85 ± 0.07", "0.90, 0.80", "0.00 ± 0.00", "10"],
    ]


def test_kept_results_are_of_the_declared_candidates():
    """Whoever changes a candidate has to run it again, and no two share a file."""
    runs = search_mnist.cells()
    assert len({run.path for run in runs}) == len(runs)
    assert {path for path in search_mnist.FOLDER.glob("*.json")} <= {run.path for run in runs}
    for run in runs:
        if run.path.is_file():
            figures = read(run.path)
            declared = json.loads(json.dumps(run.settings)) | {"amp": figures["settings"]["amp"]}
            assert figures["settings"] == declared and figures["seed"] == run.seed, run.path.name


def test_kept_table_is_that_of_the_files():
    text = (search_mnist.FOLDER / "README.md").read_text("utf-8")
    assert search_mnist.markdown(search_mnist.rows_of()) in text
