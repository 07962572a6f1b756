"""Small nets learn from halves of the images, each compared with the start on the same ones."""

import json

import numpy as np
import pytest

from benchmarks.reproduction import search_halves
from benchmarks.reproduction.trials import Run, parts


def write(folder, name, error):
    figures = {"error": error, "training_error": 0.0, "seconds": 10.0, "seed": int(name[-1])}
    (folder / f"{name}.json").write_text(json.dumps(figures), encoding="utf-8")


def test_compares_with_the_start_seed_by_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(search_halves, "CANDIDATES", [("relu", {}), ("relu", {"lr": 0.1})])
    for name, error in (("relu.s0", 1.0), ("relu.s1", 1.4), ("relu.s2", 9.0)):
        write(tmp_path, name, error)
    write(tmp_path, "relu.lr-0.1.s0", 0.9)
    assert search_halves.rows_of(tmp_path)[1][:5] == ["relu", "lr 0.1", "0.90", "1", "-0.10"]
    write(tmp_path, "relu.lr-0.1.s1", 1.1)
    better, start = search_halves.rows_of(tmp_path)[1:]
    assert better == ["relu", "lr 0.1", "1.00 ± 0.14", "2", "-0.20 ± 0.10", "0.00 ± 0.00", "10"]
    assert start[1:5] == ["(start)", "3.80 ± 4.51", "3", ""]


def test_seeds_hold_out_the_halves_in_turn():
    runs = search_halves.search(n_seeds=3, only="clip").cells()
    assert [(run.seed, run.fold) for run in runs] == [(0, (0, 2)), (1, (1, 2)), (2, (0, 2))]


@pytest.mark.parametrize(
    ("fold", "held"), [(None, slice(80, 100)), ((0, 2), slice(50)), ((2, 4), slice(50, 75))]
)
def test_holds_out_a_part(fold, held):
    run = Run(None, "mnist", {}, 0, validate=True, attacked=False, fold=fold)
    X, y, X_held, y_held, _ = parts(run, (("data", "digits"),), 100)
    X_all, y_all, *_ = parts(run._replace(validate=False), (("data", "digits"),), 100)
    np.testing.assert_array_equal(X_held, X_all[held])
    np.testing.assert_array_equal(y_held, y_all[held])
    np.testing.assert_array_equal(X, np.delete(X_all, held, axis=0))
    np.testing.assert_array_equal(y, np.delete(y_all, held))
