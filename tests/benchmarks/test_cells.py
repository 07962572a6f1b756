"""What the searches have kept is what they declare, and the tables that they keep show it."""

import json

import pytest

from benchmarks.harness import markdown
from benchmarks.reproduction import search_halves, search_mnist


@pytest.mark.parametrize("of", [search_mnist, search_halves])
def test_kept_results_are_of_the_declared_candidates(of):
    """Whoever changes a candidate has to run it again, and no two share a file."""
    runs = of.search().cells()
    assert len({run.path for run in runs}) == len(runs)
    assert set(of.FOLDER.glob("*.json")) <= {run.path for run in runs}
    for run in runs:
        if run.path.is_file():
            figures = json.loads(run.path.read_text("utf-8"))
            declared = json.loads(json.dumps(run.settings)) | {"amp": figures["settings"]["amp"]}
            assert figures["settings"] == declared and figures["seed"] == run.seed, run.path.name


@pytest.mark.parametrize("of", [search_mnist, search_halves])
def test_kept_table_is_that_of_the_files(of):
    text = (of.FOLDER / "README.md").read_text("utf-8")
    assert markdown(of.rows_of()) in text
