"""The benchmark on tables reads what it promises to read, and counts correctly."""

import json

import numpy as np
import pytest

from benchmarks import report
from benchmarks.tables import tabular


def saved(path, **extra):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=80), rng.integers(0, 3, 80), rng.normal(size=80)])
    np.savez(path, X=X, y=np.where(X[:, 0] > 0, "a", "b"), **extra)
    return str(path)


@pytest.mark.parametrize(
    "extra",
    [
        {"categorical": np.array([False, True, False])},
        {"categorical": np.array([1])},
        {"categorical": np.array(["kind"]), "feature_names": np.array(["a", "kind", "b"])},
    ],
    ids=["mask", "numbers", "names"],
)
def test_categories_are_one_hot_and_stay(tmp_path, extra):
    X, _, categories = tabular.load(saved(tmp_path / "table.npz", **extra))
    assert categories.tolist() == [False, True, False]
    prepared, unit = tabular.prepared(X, categories, np.arange(60))
    assert prepared.shape == (80, 5) and unit.tolist() == [1, 1, 0, 0, 0]


def test_report_of_regression_alone():
    """Without tables of classes there is no table of ranks."""
    figures = json.loads((report.RESULTS / "tabular.json").read_text("utf-8"))
    numbers = [t for t in figures["tables"] if t["regression"]]
    text = report.tabular_section(figures | {"tables": numbers, "mean ranks": {}})
    assert "| diabetes " in text and "mean rank" not in text


def test_runs_and_writes_figures(tmp_path, capsys):
    table = saved(tmp_path / "table.npz", categorical=np.array([1]))
    written = tmp_path / "figures.json"
    tiny = ["--splits", "2", "--epochs", "2", "--epsilons", "3", "--hidden", "4"]
    source = ["--source", "a generator"]
    tabular.main(["--data", table, "diabetes", *source, *tiny, "--json", str(written)])
    figures = json.loads(written.read_text("utf-8"))
    classes, numbers = figures["tables"]
    assert classes["table"] == "table" and not classes["regression"] and numbers["regression"]
    assert [t["source"] for t in figures["tables"]] == ["a generator", "scikit-learn"]
    assert [t["classes"] for t in figures["tables"]] == [2, None]
    assert {"best", "one_se", "epsilon 0", "MLPClassifier"} <= classes["errors"].keys()
    assert all(len(errors) == 2 for t in figures["tables"] for errors in t["errors"].values())
    assert set(figures["mean ranks"]) == set(classes["errors"])
    assert "mean ranks" in capsys.readouterr().out


def test_what_is_clearly_worse():
    plain = np.array([5.0, 5.1, 4.9, 5.0, 5.2])
    for above, clearly in ((0.5, True), (0.05, False), (-1.0, False)):
        noise = np.array([0.01, -0.01, 0.0, 0.01, -0.01])
        found = tabular.comparison({"best": plain + above + noise, "epsilon 0": plain})
        assert found["clearly"] is clearly and found["mean"] == pytest.approx(above)
    scattered = plain + np.array([4.0, -3.0, 1.0, 2.0, -1.5])
    assert not tabular.comparison({"best": scattered, "epsilon 0": plain})["clearly"]


def test_ranks_are_shared_by_equal_errors():
    def table(errors, regression=False):
        return {"regression": regression, "errors": errors}

    tables = [table({"best": [1.0], "epsilon 0": [1.0]}), table({"best": [1.0], "epsilon 0": [2]})]
    tables.append(table({"other": [0.0]}, regression=True))
    assert tabular.mean_ranks(tables) == {"best": 1.25, "epsilon 0": 1.75}
