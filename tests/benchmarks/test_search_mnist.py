"""The search for the paper's figures goes on where it stopped, and does what its settings say."""

import json

import pytest

from benchmarks.reproduction import search_mnist

TINY = {"hidden_layer_sizes": (4,), "lr": 0.01, "batch_size": 20, "max_epochs": 3}


def read(path):
    return json.loads(path.read_text("utf-8"))


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
