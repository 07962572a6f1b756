"""The benchmark of error bars goes on where it stopped, and chooses without test rows."""

import json

import numpy as np
import pytest

from benchmarks.uncertainty import regression

RNG = np.random.default_rng(0)
TABLE = "yacht"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A file of one table, settings of a moment, and results of their own."""
    X = RNG.normal(size=(60, 3))
    test = np.stack([RNG.permutation(60)[:6] for _ in range(3)])
    data = {f"{TABLE}_X": X, f"{TABLE}_y": X[:, 0] + RNG.normal(size=60), f"{TABLE}_test": test}
    np.savez(tmp_path / "tables.npz", **data)
    monkeypatch.setattr(regression, "TABLES", (TABLE,))
    monkeypatch.setattr(regression, "CHOICE", tmp_path / "choice.json")
    monkeypatch.setattr(regression, "STEPS_CHOICE", tmp_path / "steps.json")
    monkeypatch.setitem(regression.FIXED, "max_epochs", 1)
    quick = {"max_epochs": 2, "cv": 2, "epsilons": [0, 0.1], "n_nets": 2}

    def search(table, division, seed, **options):
        return regression.AdvBPRegressorCV(output="gaussian", **quick | options)

    monkeypatch.setattr(regression, "search", search)
    for name in (regression.OURS, regression.PLAIN):
        epsilons = {"epsilons": [0]} if name == regression.PLAIN else {}
        monkeypatch.setitem(
            regression.METHODS, name, lambda *given, e=epsilons: search(*given, **e)
        )
    return tmp_path


def options(folder, *more):
    given = ["--data", folder / "tables.npz", "--results", folder / "of/regression", *more]
    return [*map(str, given), "--tables", TABLE]


def test_it_goes_on_where_it_stopped(tiny, capsys):
    regression.main(options(tiny, "--choose"))
    regression.main(options(tiny, "--choose-steps"))
    for name, of in (("choice", regression.RATES), ("steps", regression.STEPS)):
        assert json.loads((tiny / f"{name}.json").read_text("utf-8"))["chosen"] in of.values()
    regression.main(options(tiny, "--divisions", "1"))
    regression.main(options(tiny, "--divisions", "2"))
    out = capsys.readouterr().out
    runs = regression.runs_of(tiny / "of/regression")[TABLE]
    assert runs.keys() == regression.METHODS.keys()
    for divisions in runs.values():
        assert len(divisions) == 2
        assert all(np.isfinite([d["rmse"], d["nll"]]).all() for d in divisions)
    assert runs[regression.PLAIN][0]["epsilon"] == 0
    assert " (2) " in out and "1.18 ± 0.21" in out and "of 1 tables" in out
    figures = json.loads((tiny / "regression.json").read_text("utf-8"))
    assert figures["likelihoods"][TABLE] == runs


def test_a_rate_is_chosen_without_the_test_rows(tiny):
    with np.load(tiny / "tables.npz") as file:
        data = dict(file)
    rows, test = data[f"{TABLE}_X"], data[f"{TABLE}_test"][0]
    division = regression.Division(data, TABLE, 0)
    mean, scale = (getattr(np.delete(rows, test, 0), of)(0) for of in ("mean", "std"))
    np.testing.assert_allclose(np.sort(division.test[0] * scale + mean, 0), np.sort(rows[test], 0))
    seen = np.concatenate([part[1] for part in vars(division.without_test()).values()])
    assert len(seen) == 54 and not np.isin(data[f"{TABLE}_y"][test], seen).any()
    assert len(division.test[1]) == 5


def test_published_figures_are_of_the_same_tables():
    assert len(regression.TABLES) == 9
    deep, dropout = regression.PUBLISHED.values()
    assert deep.keys() == dropout.keys()
