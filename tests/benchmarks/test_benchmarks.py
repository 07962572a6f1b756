"""The speed benchmarks run and write what they measured; how fast anything was is no test."""

import importlib
import json
import math
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from benchmarks.tables.summary import OURS, PLAIN

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = {
    "step_cost": ["--profile"],
    "fit_time": [],
    "search_time": [],
    "search_cv": [],
    "memory": [],
    "serve": [],
}

# Those of the peers are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


def run(script, *options):
    """Run one of the scripts; return what it wrote to stdout and stderr."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        importlib.import_module(f"benchmarks.{script}").main([*map(str, options)])
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run every script with tiny settings; {name: (stdout, stderr)} and the folder of the JSON."""
    folder = tmp_path_factory.mktemp("results")
    tiny = ["--quick", "--repeats", 1, "--threads", 1, "--data", folder / "none.npz"]
    said = {
        script: run(f"speed.{script}", *tiny, "--json", folder / f"{script}.json", *options)
        for script, options in SCRIPTS.items()
    }
    quick = ["--splits", 2, "--quick"]
    models = ["--models", OURS, PLAIN, "--json", folder / "tabular.json"]
    shutil.copy(BENCHMARKS / "results/regression.json", folder)  # the test of its own makes one
    run("tables.tabular", "--data", "wine", "diabetes", *quick, *models)
    for name, options in (("defaults", []), ("search_defaults", ["--search"])):
        written = ["--json", folder / f"{name}.json"]
        run("tables.defaults", "--data", "wine", *quick, *options, *written)
    return said, folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_writes_figures_with_their_passport(results, script):
    said, folder = results
    stdout, stderr = said[script]
    figures = json.loads((folder / f"{script}.json").read_text("utf-8"))
    assert figures["quick"] and figures["repeats"] == 1
    assert figures["passport"]["versions"]["torch"]
    assert stdout.startswith("| work ") and "total" in stderr
    for comparison in figures["comparisons"]:
        assert comparison["threads"] == 1
        for figure in (*comparison["measured"].values(), *comparison["ratios"]):
            assert all(math.isfinite(value) for value in figure["values"])
            assert figure["min"] <= figure["median"] <= figure["max"]


def test_ratios_have_the_targets_of_their_work(results):
    _, folder = results
    comparisons = json.loads((folder / "fit_time.json").read_text("utf-8"))["comparisons"]
    synthetic, _, mnist, prediction = (
        {(ratio["ours"], ratio["to"]): ratio["must"] for ratio in comparison["ratios"]}
        for comparison in comparisons
    )
    assert synthetic["ours, float32", "plain loop by hand"] == 1.10
    assert mnist["ours, float32", "plain loop by hand"] is None
    assert mnist["ours, amp", "plain loop by hand"] == 0.70
    assert list(prediction.values()) == [1.15]


def test_profile_names_what_takes_the_time(results):
    said, folder = results
    text = (folder / "step_cost.profile.txt").read_text("utf-8")
    assert text in said["step_cost"][0]
    assert "tottime" in text and "Self CPU" in text and "ours, amp" in text


def test_report_fills_the_tables_and_nothing_else(results, tmp_path):
    _, folder = results
    readme = tmp_path / "README.md"
    before = (BENCHMARKS / "README.md").read_text("utf-8")
    headings = re.findall("^#.*", before, re.M)
    readme.write_text(before, encoding="utf-8")
    for _ in range(2):  # The second time over the tables of the first.
        run("report", "--results", folder, "--readme", readme)
        filled = readme.read_text("utf-8")
        assert "Not measured yet" not in filled
        assert filled.count("A trial with tiny settings") == len(SCRIPTS)
        assert filled.count("| ours, float32 / plain loop by hand") == 2
        assert filled.count("| wine ") == 2 and filled.count("| diabetes ") == 1
        assert len(re.findall(rf"\| {OURS} +\| [12]\.[05]0 ", filled)) == 2
        assert re.findall("^#.*", filled, re.M) == headings
        assert filled.count("| lr=0.002 ") == filled.count("| epsilons=[0] ") == 1
    run("report", "--results", tmp_path / "empty", "--readme", readme)
    assert readme.read_text("utf-8").count("Not measured yet") == len(SCRIPTS) + 6
