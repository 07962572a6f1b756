"""The final runs have the settings that the search chose, and what is said of them is in files."""

import json

import numpy as np
import pytest

from benchmarks.reproduction import (
    final,
    findings,
    search_halves,
    search_mnist,
    sentences,
    tables,
    trials,
)
from benchmarks.reproduction.cells import Tried

TINY = {"hidden_layer_sizes": (4,), "lr": 0.01, "batch_size": 50, "max_epochs": 2}
CHOSEN = {
    "seeds": 2,
    "first": {
        "relu": {"changes": {"average": 0.9}, "why": "so"},
        "logistic": {"changes": {"epsilon": 0.2}, "why": "so"},
    },
}


@pytest.fixture
def tiny(monkeypatch, tmp_path_factory):
    """Let two small settings take the place of those that were chosen."""
    monkeypatch.setattr(trials, "NETS", tmp_path_factory.mktemp("nets"))
    start = {units: TINY | {"activation": units} for units in CHOSEN["first"]}
    monkeypatch.setattr(search_mnist, "START", start)
    monkeypatch.setattr(final, "START", start)
    monkeypatch.setattr(final, "CHOSEN", CHOSEN)
    monkeypatch.setattr(final, "ROUNDS", ("first",))


def read(path):
    return json.loads(path.read_text("utf-8"))


def test_goes_on_where_it_stopped(tiny, tmp_path):
    options = ["--data", "digits", "--rows", "300", "--results", str(tmp_path)]
    final.main([*options, "--at-most", "3"])
    tmp_path /= "first"
    adversarial = ("relu.adversarial.s0", "logistic.adversarial.s0", "relu.adversarial.s1")
    first = {f"{name}.json" for name in (*adversarial, "relu.together")}
    assert {path.name for path in tmp_path.iterdir()} == first
    written = {name: (tmp_path / name).stat().st_mtime_ns for name in first}
    final.main(options)
    names = {path.name for path in tmp_path.iterdir()}
    later = ["logistic.adversarial.s1", "logistic.together"]
    later += [
        f"{units}.{control}.s{seed}"
        for units in CHOSEN["first"]
        for control in ("plain", "random-signs")
        for seed in range(2)
    ]
    assert names == first | {f"{name}.json" for name in later}
    assert all((tmp_path / name).stat().st_mtime_ns == at for name, at in written.items())
    assert not list(trials.NETS.iterdir())
    figures = read(tmp_path / "relu.adversarial.s1.json")
    assert figures["scored_on"] == "test images" and figures["rows"] == 300
    assert figures["settings"]["average"] == 0.9 and figures["seed"] == 1
    assert {"amp", "max_epochs"} <= figures["settings"].keys() and "seconds" in figures
    assert figures["passport"]["command"] and figures["passport"]["processor"]
    control = read(tmp_path / "relu.plain.s1.json")["settings"]
    assert control == figures["settings"] | {"epsilon": 0.0}


def test_nets_answer_together_by_the_mean_of_their_probabilities(tiny, tmp_path):
    paths, rows = (("data", "digits"),), 300
    together = final.averages(tmp_path)[0]
    nets = [final.net_of(run, paths, rows, final.net_of_cell)[0] for run in together.runs]
    *_, X, y, _ = final.parts(together.runs[0], paths, rows)
    one, other = (net.predict_proba(X) for net in nets)
    final.do_average(together, paths, rows)
    errors = 100 * np.mean((one + other).argmax(1) != y)
    figures = read(together.path)
    assert figures["error"] == pytest.approx(errors, abs=1e-4) and figures["n_nets"] == 2


def made(folder, errors):
    """Return findings with these test errors of {"UNITS.METHOD": of each seed}."""
    for name, of_seeds in errors.items():
        for seed, error in enumerate(of_seeds):
            path = folder / "final/first" / f"{name}.s{seed}.json"
            path.parent.mkdir(exist_ok=True, parents=True)
            figures = {"error": error, "training_error": 0.0, "seconds": 10.0}
            path.write_text(json.dumps(figures), encoding="utf-8")
    return findings.Findings(folder)


@pytest.mark.parametrize(
    ("errors", "found", "distance", "verdict"),
    [
        ([0.70, 0.72], "0.71 ± 0.01 % (2 seeds", "0.07 points below the paper’s", "reached"),
        ([0.78, 0.788], "0.78 ± 0.01 % (2 seeds", "the paper’s", "reached"),
        ([0.80, 0.82], "0.81 ± 0.01 % (2 seeds", "0.03 points above the paper’s", "missed"),
        ([0.70], "0.70 % (a single seed", "0.08 points below the paper’s", "not judged yet"),
    ],
)
def test_sentence_says_whether_the_mark_is_reached(
    tiny, tmp_path, errors, found, distance, verdict
):
    nets = made(tmp_path, {"relu.adversarial": errors})
    sentence, uncertain = sentences.final_sentences(nets)
    begin = "With rectified linear units the first search chose average 0.9. Trained"
    assert sentence.startswith(begin) and f"a test error of {found}" in sentence
    assert sentence.endswith(f"), {distance} 0.78 %: the mark is {verdict}.")
    assert "an error of 0.78 % has a standard error of 0.09 points." in uncertain
    short = sentences.final_in_short(nets)
    assert found.split("(")[0] in short and short.endswith(f"the paper’s 0.78 % is {verdict}).")
    _, row = tables.final_rows(nets)
    assert row[:3] == ["first", "rectified linear", "adversarial"] and row[5] == "0.78"


def test_sentences_on_other_nets_beside_them(tiny, tmp_path):
    found = made(tmp_path, {"relu.adversarial": [0.7, 0.72], "relu.plain": [1.2, 1.3]})
    (tmp_path / "final/first/relu.together.json").write_text('{"error": 0.6, "n_nets": 2}', "utf-8")
    sentence, _ = sentences.final_sentences(found)
    assert "Plain back-propagation, all else the same, has 1.25 ± 0.07 % (2 seeds). All" in sentence
    assert "All 2 adversarial nets together" in sentence and sentence.endswith("have 0.60 %.")
    assert [row[2] for row in tables.final_rows(found)[1:]] == ["adversarial", "plain"]
    assert sentences.beyond_sentences(found) == [
        "Of the 1 groups of nets with the settings of the searches, each of which answers by the "
        "mean of its probabilities, the lowest test error is 0.60 %, of the 2 nets with rectified "
        "linear units that the first search chose; it is picked by the test error itself."
    ]


def test_sentence_has_the_validation_error_of_the_choice():
    figures = {"average 0.9": [0.8, 0.9], "epsilon 0.2": [1.0], "epsilon 0.3": [0.95]}
    searched = [
        Tried("relu", sum(of) / len(of), changes, [{"error": e} for e in of])
        for changes, of in figures.items()
    ]
    assert sentences.on_validation(searched, "average 0.9") == (
        ", which has 0.85 ± 0.07 % on the validation images, the others 0.95 % and more"
    )


def test_choice_was_searched():
    """What is trained with five seeds is a candidate that has been tried on validation images."""
    assert final.CHOSEN["seeds"] >= 5
    for units, of in final.CHOSEN["first"].items():
        (run,) = search_mnist.search()._replace(candidates=[(units, of["changes"], 1)]).cells()
        assert of["why"] and run.path.is_file()
    size = {"hidden_layer_sizes", "max_epochs"}
    for units, of in final.CHOSEN["second"].items():
        chosen = search_mnist.START[units] | of["changes"]
        found = [
            figures["settings"]
            for one in search_halves.of_units(units)[0]
            for figures in one.figures
        ]
        assert of["why"] and any(
            settings.keys() == chosen.keys()
            and all(settings[name] == chosen[name] for name in chosen.keys() - size - {"amp"})
            for settings in found
        )


def test_kept_results_are_of_the_chosen_settings():
    """Whoever changes `final.json` has to run it again."""
    runs = {run.path: run for run in final.finals()}
    assert set(final.FOLDER.rglob("*.s*.json")) <= runs.keys()
    for path, run in runs.items():
        if path.is_file():
            kept = read(path)
            declared = json.loads(json.dumps(run.settings)) | {"amp": kept["settings"]["amp"]}
            assert kept["settings"] == declared and kept["rows"] == 60_000, path.name
            assert kept["scored_on"] == "test images" and kept["seed"] == run.seed
