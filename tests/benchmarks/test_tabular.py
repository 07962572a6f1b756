"""The benchmarks on tables read what they promise to read, and count correctly."""

import json
import sys

import numpy as np
import pytest

from benchmarks import report
from benchmarks.tables import data, defaults, summary, tabular

OURS, PLAIN, MLP, LINEAR = summary.OURS, summary.PLAIN, summary.MLP, summary.LINEAR


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
    table = data.load(saved(tmp_path / "table.npz", **extra), "a generator")
    assert (table.name, table.source, table.regression) == ("table", "a generator", False)
    assert table.categories.tolist() == [False, True, False]
    prepared, unit = data.prepared(table.X, table.categories, np.arange(60))
    assert prepared.shape == (80, 5) and unit.tolist() == [1, 1, 0, 0, 0]


def test_no_table_of_the_check_took_part_in_the_decision():
    decision, check = (data.names([group]) for group in data.GROUPS)
    assert len(decision) == 12 and not set(decision) & set(check)
    assert data.names(["digits", "decision"]) == ["digits", *decision]
    assert {data.load(name).regression for name in ("wine", "diabetes")} == {False, True}


def test_runs_writes_figures_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytabkit", None)  # as if it were not there
    table = saved(tmp_path / "table.npz", categorical=np.array([1]))
    written = tmp_path / "figures.json"
    given = ["--data", table, "diabetes", "--splits", "2", "--quick", "--json", str(written)]
    tabular.main([*given, "--models", OURS, LINEAR])
    before = json.loads(written.read_text("utf-8"))
    tabular.main(given)
    said = capsys.readouterr().out
    assert "pytabkit" in said and "mean rank, log loss" in said
    figures = json.loads(written.read_text("utf-8"))
    classes, numbers = figures["tables"]
    assert [t["table"] for t in figures["tables"]] == ["table", "diabetes"]
    assert [t["classes"] for t in figures["tables"]] == [2, None]
    for t, t_before in zip(figures["tables"], before["tables"], strict=True):
        assert list(t["models"]) == list(summary.MODELS[:6])
        assert set(t["commits"]) == set(t["models"])
        assert t["models"][OURS] == t_before["models"][OURS]  # not measured again
        assert len(t["chosen"]) == 2
    assert {len(values) for values in classes["models"][MLP].values()} == {2}
    assert set(classes["models"][MLP]) == {"error", "log loss", "Brier score", "seconds"}
    assert set(numbers["models"][MLP]) == {"error", "seconds"}
    text = report.tabular_section(figures)
    assert "| table " in text and "| diabetes " in text and "Clearly above ε = 0: none" in text
    text = report.tabular_section(figures | {"tables": [numbers]})
    assert "Clearly" not in text and "log loss" not in text


@pytest.mark.parametrize(
    ("search", "changes"),
    [([], ["lr=0.01", "epsilon of theory"]), (["--search"], ["epsilons=[0]"])],
    ids=["one net", "search"],
)
def test_defaults_compare_changes_to_themselves(tmp_path, search, changes):
    written = tmp_path / "figures.json"
    given = ["--data", "wine", "--splits", "2", "--quick", "--json", str(written), *search]
    defaults.main([*given, "--changes", *changes[:1]])
    defaults.main([*given, "--changes", *changes])
    figures = json.loads(written.read_text("utf-8"))
    assert list(figures["changes"]) == changes
    assert figures["changes"][changes[0]].keys() == (
        {defaults.CHOSEN} if search else {defaults.PLAIN, defaults.DEFAULT_EPSILON}
    )
    text = report.defaults_section(figures)
    assert all(f"| {change} " in text for change in changes)


def test_epsilon_of_theory():
    assert defaults.of_theory(1000, 10) == pytest.approx(0.0388, abs=1e-4)


def of_models(error, log_loss=None, seconds=1.0):
    return {
        model: {"error": [e], "seconds": [seconds]}
        | ({} if log_loss is None else {"log loss": [log_loss[i]]})
        for i, (model, e) in enumerate(error.items())
    }


def test_ranks_are_shared_by_equal_errors_and_differences_have_errors():
    tables = [
        {"models": of_models({OURS: 1.0, PLAIN: 1.0, summary.ONE_NET: 0.0, MLP: 3.0})},
        {"models": of_models({OURS: 1.0, PLAIN: 2.0, summary.ONE_NET: 5.0, MLP: 5.0})},
    ]
    assert summary.mean_ranks(tables, "error") == {OURS: 1.25, PLAIN: 1.75, MLP: 3.0}
    assert summary.mean_ranks(tables, "log loss") == {}
    rows = {row[0]: row[1:] for row in summary.summary_rows(tables)}
    assert rows[MLP] == ["3.00", "+3.00 ± 1.00", "2.0"]
    assert rows[summary.ONE_NET] == ["", "+1.50 ± 2.50", "2.0"]
    alone = summary.difference(np.array([2.0]), np.array([1.0]))
    assert alone == {"mean": 1.0, "se": None, "below": 0, "above": 1}


def test_each_measure_has_its_own_realmlp_in_the_ranks():
    both = (summary.REALMLP, summary.REALMLP_OF_LOG_LOSS)
    tables = [{"models": of_models(dict.fromkeys((OURS, *both), 1.0), [1.0, 0.1, 0.2])}]
    assert summary.mean_ranks(tables, "error").keys() == {OURS, both[0]}
    assert summary.mean_ranks(tables, "log loss") == {OURS: 2.0, both[1]: 1.0}


def test_what_is_clearly_worse():
    plain = np.array([5.0, 5.1, 4.9, 5.0, 5.2])
    noise = np.array([0.01, -0.01, 0.0, 0.01, -0.01])
    for above, clearly in ((0.5, True), (0.05, False), (-1.0, False)):
        assert summary.clearly_above(plain + above + noise, plain) is clearly
    scattered = plain + np.array([4.0, -3.0, 1.0, 2.0, -1.5])
    assert not summary.clearly_above(scattered, plain)
    models = {OURS: {"error": plain + 0.5 + noise}, PLAIN: {"error": plain}}
    tables = [{"table": "bad", "models": models}, {"table": "other", "models": {}}]
    assert summary.losses(tables) == ["bad"]
