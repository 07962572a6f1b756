"""Small nets are tried on several folds, each compared with the start on the same images."""

import json

import numpy as np
import pytest

from benchmarks.reproduction import search_folds
from benchmarks.reproduction.trials import Run, parts


def write(folder, name, error):
    figures = {"error": error, "training_error": 0.0, "seconds": 10.0, "seed": int(name[-1])}
    (folder / f"{name}.json").write_text(json.dumps(figures), encoding="utf-8")


def test_compares_with_the_start_fold_by_fold(tmp_path, monkeypatch):
    monkeypatch.setattr(search_folds, "CANDIDATES", [("relu", {}), ("relu", {"lr": 0.1})])
    for name, error in (("relu.s0", 1.0), ("relu.s1", 1.4), ("relu.s2", 9.0)):
        write(tmp_path, name, error)
    write(tmp_path, "relu.lr-0.1.s0", 0.9)
    assert search_folds.rows_of(tmp_path)[1][:5] == ["relu", "lr 0.1", "0.90", "1", "-0.10"]
    write(tmp_path, "relu.lr-0.1.s1", 1.1)
    better, start = search_folds.rows_of(tmp_path)[1:]
    assert better == ["relu", "lr 0.1", "1.00 ± 0.14", "2", "-0.20 ± 0.10", "0.00 ± 0.00", "10"]
    assert start[1:5] == ["(start)", "3.80 ± 4.51", "3", ""]


def test_each_seed_holds_out_a_fold_of_its_own():
    start = {"relu": {"epsilon": 0.1}}
    runs = search_folds.cells(search_folds.FOLDER, [("relu", {}, 3)], start)
    assert [(run.seed, run.fold) for run in runs] == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("fold", [0, 1, 4])
def test_folds_are_counted_from_the_end(fold):
    run = Run(None, "mnist", {}, 0, validate=True, attacked=False, fold=fold)
    X, y, X_held, y_held, _ = parts(run, (("data", "digits"),), 100)
    X_all, y_all, *_ = parts(run._replace(validate=False), (("data", "digits"),), 100)
    held = slice(80 - 20 * fold, 100 - 20 * fold)
    np.testing.assert_array_equal(X_held, X_all[held])
    np.testing.assert_array_equal(y_held, y_all[held])
    np.testing.assert_array_equal(X, np.delete(X_all, held, axis=0))
    np.testing.assert_array_equal(y, np.delete(y_all, held))


def test_kept_results_are_of_the_declared_candidates():
    declared = [(units, changes, 6) for units, changes in search_folds.CANDIDATES]
    runs = search_folds.cells(search_folds.FOLDER, declared, search_folds.START)
    assert len({run.path for run in runs}) == len(runs)
    assert set(search_folds.FOLDER.glob("*.json")) <= {run.path for run in runs}
    for run in runs:
        if run.path.is_file():
            figures = json.loads(run.path.read_text("utf-8"))
            settings = json.loads(json.dumps(run.settings)) | {"amp": figures["settings"]["amp"]}
            assert figures["settings"] == settings and figures["seed"] == run.seed, run.path.name
