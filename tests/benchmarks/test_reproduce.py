"""The reproduction runs, goes on where it stopped, and its findings are what the files say."""

import json

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.decomposition import PCA

from benchmarks import passport
from benchmarks.reproduction import (
    experiments,
    findings,
    reproduce,
    sentences,
    tables,
    trials,
)
from benchmarks.reproduction.experiments import (
    ADVERSARIAL,
    BOTH,
    DECAY,
    DROPOUT,
    PLAIN,
    SIGNS,
    Experiment,
    Method,
    Net,
    candidates,
)

TINY = {"hidden_layer_sizes": (10,), "lr": 0.01, "batch_size": 50}
NET = Net("mnist", TINY, {"output": ("logistic", "softmax")}, (1, 2))
METHODS = {
    PLAIN: Method({"epsilon": 0.0}, {"lr": (0.01, 0.02)}),
    ADVERSARIAL: Method({}, {"epsilon": (0.05, 0.1)}),
    SIGNS: Method({"perturbation": "random"}, control_of=ADVERSARIAL),
}
EXPERIMENT = Experiment({"relu": NET}, METHODS, seeds=2, attacked=True)


def run(folder, *options):
    reproduce.main(["--data", "digits", "--rows", "300", "--results", str(folder), *options])


@pytest.fixture(autouse=True)
def nets_of_their_own(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(trials, "NETS", tmp_path_factory.mktemp("nets"))


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Let one small experiment take the place of all."""
    monkeypatch.setattr(reproduce, "EXPERIMENTS", {"mnist": EXPERIMENT})
    for module in (findings, tables):
        monkeypatch.setattr(module, "EXPERIMENTS", {"mnist": EXPERIMENT})
        monkeypatch.setattr(module, "methods_of", lambda name: [(name, m) for m in METHODS])
    return tmp_path


def read(path):
    return json.loads(path.read_text("utf-8"))


def test_every_method_chooses_then_learns_all_seeds(tiny):
    run(tiny)
    choices = sorted(path.name for path in (tiny / "choice").iterdir())
    assert choices == [
        f"mnist.relu.{m}.{i}.json" for m in ("adversarial", "plain") for i in range(6)
    ]
    table = reproduce.Table("mnist", EXPERIMENT, tiny)
    for method in (PLAIN, ADVERSARIAL):
        runs = table.candidates("relu", method)
        assert [r.settings["max_epochs"] for r in runs] == [1, 1, 1, 1, 2, 2]
        assert {r.settings["output"] for r in runs[4:]} == {"logistic", "softmax"}
        errors = [read(r.path)["error"] for r in runs]
        assert table.chosen("relu", method) == runs[errors.index(min(errors))].settings
        assert all(read(r.path)["rows"] == 240 for r in runs)  # a fifth is held out
    control = table.chosen("relu", SIGNS)
    assert control == table.chosen("relu", ADVERSARIAL) | {"perturbation": "random"}
    finals = [path for path in tiny.glob("*.json") if "transfer" not in path.name]
    assert len(finals) == 2 * 3
    for path in finals:
        figures = read(path)
        assert figures["scored_on"] == "test images" and figures["rows"] == 300
        assert figures["passport"]["versions"]["torch"] and "seconds" in figures
        assert figures["error"] <= figures["attacks"]["PGD 0.1"]["clipped"]
    assert len(list(tiny.glob("*transfer*"))) == 2
    assert not list(trials.NETS.iterdir())


def test_tests_the_methods_that_are_named(tiny):
    given = reproduce.options(["--methods", PLAIN])
    table = reproduce.Table("mnist", EXPERIMENT, tiny, methods=given.methods)
    assert table.final_methods("relu") == [PLAIN]
    assert reproduce.Table("mnist", EXPERIMENT, tiny).final_methods("relu") == list(METHODS)
    with pytest.raises(SystemExit):
        reproduce.options(["--methods", "plane"])


def test_goes_on_where_it_stopped(tiny):
    run(tiny)
    files = sorted(tiny.rglob("*.json"))
    written = {path: path.stat().st_mtime_ns for path in files}
    lost = tiny / "mnist.relu.plain.s1.json"
    before = read(lost)
    lost.unlink()
    run(tiny)
    assert sorted(tiny.rglob("*.json")) == files
    assert [p for p in files if p.stat().st_mtime_ns != written[p]] == [lost]
    assert read(lost)["error"] == before["error"]  # and every run can be repeated


def test_findings_are_those_of_the_files(tiny):
    run(tiny)
    found = findings.Findings(tiny)
    errors = [read(tiny / f"mnist.relu.plain.s{seed}.json")["error"] for seed in range(2)]
    assert [run["error"] for run in found.runs("mnist", "relu", PLAIN)] == errors
    middle = sum(errors) / 2
    spread = abs(errors[0] - errors[1]) / 2**0.5
    row = tables.error_rows(found, "mnist")[1]
    assert [row[0], row[2], row[5]] == ["rectified linear", f"{middle:.2f} ± {spread:.2f}", "2"]
    assert f"from {middle:.2f} ± {spread:.2f} to " in sentences.mnist_sentences(found)[0]
    for name in ("headline", "mnist", "resistance clipped", "resistance not clipped", "transfer"):
        assert len(tables.TABLES[name](found)) > 1
    assert sentences.resistance_sentences(found)


def test_workers_name_the_command_that_was_typed():
    passports = Parallel(n_jobs=2, batch_size=1)(delayed(passport.passport)() for _ in range(2))
    assert {of["command"] for of in passports} == {passport.passport()["command"]}
    assert "loky" not in passports[0]["command"]


def made(folder, errors, fooled=None):
    """Return findings of which every figure is given by hand.

    Parameters
    ----------
    folder : Path
    errors : dict of (experiment, net, method) to list of float or None
        A test error for each seed; None where a seed is not finished.
    fooled : dict of the same to list of float, or None
        Errors under every attack; None: the test errors.
    """
    for key, of_seeds in errors.items():
        for seed, error in enumerate(of_seeds):
            if error is not None:
                under_attack = {"clipped": (fooled or errors)[key][seed]}
                attacks = {attack: under_attack for attack in findings.FOOLED_BY}
                figures = {"error": error, "training_error": 0.0, "attacks": attacks}
                path = folder / f"{reproduce.slug(*key)}.s{seed}.json"
                path.write_text(json.dumps(figures), encoding="utf-8")
    return findings.Findings(folder)


def test_sentences_on_mnist_compare_the_same_seeds(tmp_path):
    errors = {
        ("mnist", "relu", PLAIN): [1.4, 1.2, 9.0],
        ("mnist", "relu", SIGNS): [1.3, 1.3, 9.0],
        ("mnist", "relu", ADVERSARIAL): [0.8, 0.7, None],
        ("mnist", "tanh", PLAIN): [1.4, 1.2],
        ("mnist", "tanh", SIGNS): [1.4, 1.2],
        ("mnist", "tanh", ADVERSARIAL): [0.8, 1.3],
    }
    hyperbolic, rectified = sentences.mnist_sentences(made(tmp_path, errors))
    assert rectified == (
        "With rectified linear units the claim holds: adversarial back-propagation takes the test "
        "error from 1.30 ± 0.14 to 0.75 ± 0.07 % (2 seeds). Random signs of the same ε take it to "
        "1.30 ± 0.00 %. Plain back-propagation is 0.10 points below the paper’s 1.40 %, "
        "adversarial 0.03 points below the paper’s 0.78 %."
    )
    assert "the claim does not hold" in hyperbolic and "paper" not in hyperbolic


def test_a_single_seed_makes_no_claim(tmp_path):
    errors = {("mnist", "relu", method): [1.0] for method in (PLAIN, SIGNS, ADVERSARIAL)}
    found = made(tmp_path, errors)
    for sentences_of in (sentences.mnist_sentences, sentences.resistance_sentences):
        (sentence,) = sentences_of(found)
        assert "the claim is not judged yet" in sentence and "no claim" in sentence


def test_sentence_on_resistance(tmp_path):
    errors = {("mnist", "relu", PLAIN): [1, 1], ("mnist", "relu", ADVERSARIAL): [1, 1]}
    fooled = {("mnist", "relu", PLAIN): [90, 92], ("mnist", "relu", ADVERSARIAL): [9, 11]}
    (sentence,) = sentences.resistance_sentences(made(tmp_path, errors, fooled))
    assert "the claim holds" in sentence
    assert sentence.count("from 91.00 ± 1.41 to 10.00 ± 1.41 %") == 2


@pytest.mark.parametrize(
    ("adversarial", "verdict"), [(36, "holds"), (39, "does not hold"), (41, "does not hold")]
)
def test_sentences_on_cifar(tmp_path, adversarial, verdict):
    of_method = {PLAIN: 40, DECAY: 38, DROPOUT: 36, ADVERSARIAL: adversarial, SIGNS: 40}
    errors = {("cifar", "relu", m): [error, error + 1] for m, error in of_method.items()}
    errors["cifar", "relu", BOTH] = [35]
    gains, claim, gap, beside = sentences.cifar_sentences(made(tmp_path, errors), "cifar")
    assert "standardised colours plain" in gains and "error of 40.50 ± 0.71 % (2 seeds)" in gains
    assert "by -2.00 ± 0.00 points with weight decay, -4.00 ± 0.00 points with dropout" in gains
    assert f"The claim {verdict}," in claim
    assert f"{adversarial - 40:+.2f} ± 0.00 points with adversarial back-propagation," in gains
    assert "by 40.50 ± 0.71 points with plain back-propagation, 38.50 ± 0.71 points with" in gap
    assert beside.endswith("of dropout alone by -1.00 points (a single seed so far, no claim).")


def test_says_where_dropout_gains_nothing(tmp_path):
    errors = {("cifar zca", "relu", m): [40, 41] for m in (PLAIN, DECAY, SIGNS)}
    errors |= {("cifar zca", "relu", m): [41, 42] for m in (DROPOUT, ADVERSARIAL)}
    gains, claim, _ = sentences.cifar_sentences(made(tmp_path, errors), "cifar zca")
    assert "whitened columns" in gains and "+1.00 ± 0.00 points with dropout" in gains
    assert claim.startswith("The claim is not judged, since dropout gains nothing, if similar")


def test_sentence_on_whitened_columns(tmp_path):
    (tmp_path / "choice").mkdir()
    found = findings.Findings(tmp_path)
    of_method = {DECAY: (50, 44), DROPOUT: (40, 43), ADVERSARIAL: (45, 44)}
    for method, errors in of_method.items():
        for name, error in zip(("cifar zca", "cifar"), errors, strict=True):
            for _ in range(2):  # longer trainings are known once the shorter ones are done
                for i, run in enumerate(found.tables[name].candidates("relu", method)):
                    figures = {"error": error + i if i < 4 else 1}  # the longest is not compared
                    run.path.write_text(json.dumps(figures), encoding="utf-8")
    (sentence,) = sentences.inputs_sentences(found)
    assert "are 50.00 against 44.00 % with weight decay, 40.00 against 43.00 % with d" in sentence


def test_sentence_on_epsilon(tmp_path):
    along = dict(zip(experiments.EPSILONS, [1.5, 1.4, 1.2, 1, 1.3, 1.5, 2], strict=True))
    errors = {("epsilon", "relu", f"{e:g}"): [error] * 2 for e, error in along.items()}
    fooled = {("epsilon", "relu", f"{e:g}"): [9 - 10 * e] * 2 for e in along}
    (sentence,) = sentences.epsilon_sentences(made(tmp_path, errors, fooled))
    assert "least at ε = 0.08, 1.00 % against 1.50 % without (2 seeds)" in sentence
    assert "lower than without at ε = 0.02, 0.05, 0.08, 0.12." in sentence
    assert "least at ε = 0.3: 6.00 % against 9.00 %" in sentence
    assert "catastrophic" not in sentence


def test_sentence_on_catastrophic_overfitting(tmp_path):
    errors = {("epsilon", "relu", f"{epsilon:g}"): [5, 5] for epsilon in experiments.EPSILONS}
    found = made(tmp_path, errors)
    for epsilon in experiments.EPSILONS:
        for path in tmp_path.glob(f"epsilon.relu.{epsilon:g}.s*.json"):
            figures = read(path)
            figures["attacks"]["FGSM 0.1"]["clipped"] = 7 if epsilon < 0.2 else 1
            figures["attacks"]["PGD 0.1"]["clipped"] = 9
            path.write_text(json.dumps(figures), encoding="utf-8")
    (sentence,) = sentences.epsilon_sentences(found)
    assert "At ε = 0.2, 0.3 the nets err less under FGSM than on clean images, and" in sentence


def test_sentence_beyond_the_paper(tmp_path):
    (tmp_path / "choice").mkdir()
    methods = list(experiments.EXPERIMENTS["beyond"].methods)
    found = made(tmp_path, {("beyond", "relu", methods[1]): [0.7, 0.72]})
    assert not sentences.beyond_sentences(found)
    for i, method in enumerate(methods):
        for run in found.tables["beyond"].candidates("relu", method):
            run.path.write_text(json.dumps({"error": 1.0 - 0.1 * (i == 1)}), encoding="utf-8")
    (sentence,) = sentences.beyond_sentences(found)
    assert f"“{methods[1]}” did best" in sentence and "0.71 ± 0.01 % (2 seeds)" in sentence
    assert "0.07 points below that of the paper, 0.78 %" in sentence
    assert "0.07 points above that of virtual adversarial training, 0.64 %" in sentence


def test_sentences_on_carried_examples(tmp_path):
    errors = {"plain to adversarial": {"FGSM 0.25": 15}, "adversarial to plain": {"FGSM 0.25": 45}}
    path = tmp_path / "mnist.relu.transfer.s0.json"
    path.write_text(json.dumps({"errors": errors}), encoding="utf-8")
    ours, theirs = sentences.transfer_sentences(findings.Findings(tmp_path))
    assert "adversarial one an error of 15.00 %" in ours and "plain one 45.00 %" in ours
    assert "19.6 and 40.9 %" in theirs


def test_random_signs_do_far_less():
    """README says so, and that adversarial back-propagation helps under attack, too."""
    found = findings.Findings()
    for net in ("relu", "logistic"):
        runs = found.pairs("mnist", net, (PLAIN, SIGNS, ADVERSARIAL))
        signs, adversarial = (
            np.mean(sentences.gains(runs[method], runs[PLAIN])) for method in (SIGNS, ADVERSARIAL)
        )
        assert signs < adversarial / 2
        for attack in findings.FOOLED_BY:
            plain, signs, adversarial = (
                np.mean([findings.under(attack)(run) for run in of]) for of in runs.values()
            )
            assert adversarial < min(plain, signs) / 2


def test_what_has_not_run_is_not_claimed(tmp_path):
    found = findings.Findings(tmp_path)
    assert all(len(rows_of(found)) == 1 for rows_of in tables.TABLES.values())
    assert not any(sentences_of(found) for sentences_of in sentences.SENTENCES.values())


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_same_effort_for_every_method(name):
    experiment = experiments.EXPERIMENTS[name]
    for net in experiment.nets.values():
        chosen = [m for m in experiment.methods.values() if not m.control_of]
        assert len({len(candidates(net, method)) for method in chosen}) == 1
    assert experiment.seeds >= 5


def test_kept_results_are_of_the_declared_table():
    """Whoever changes an entry of the table has to run it again."""
    for name, experiment in experiments.EXPERIMENTS.items():
        table = reproduce.Table(name, experiment)
        for run in table.choices() + table.finals():
            if run.path.is_file():
                kept = read(run.path)["settings"]
                assert kept == json.loads(json.dumps(run.settings)), run.path.name


def test_no_result_is_kept_of_what_is_not_declared():
    """A page would show it."""
    tables_of_all = [reproduce.Table(*of) for of in experiments.EXPERIMENTS.items()]
    known = {
        task.path
        for table in tables_of_all
        for task in (*table.choices(), *table.finals(), *table.transfers())
    }
    folder = reproduce.FOLDER
    assert {*folder.glob("*.json"), *folder.glob("choice/*.json")} <= known


@pytest.mark.data
def test_adversarial_beats_plain_under_attack_on_mnist(mnist_path, tmp_path):
    options = ["--quick", "--rows", "3000", "--seeds", "1", "--results", str(tmp_path)]
    reproduce.main(["--data", str(mnist_path), *options])
    for units in ("logistic", "relu"):
        under_pgd = {
            method: read(tmp_path / f"mnist.{units}.{method}.s0.json")["attacks"]["PGD 0.1"]
            for method in ("plain", "random-signs", "adversarial")
        }
        for bounds in ("clipped", "not clipped"):
            others = [under_pgd[m][bounds] for m in ("plain", "random-signs")]
            assert under_pgd["adversarial"][bounds] < min(others) - 5


@pytest.fixture
def images(tmp_path):
    """Return images, and the path of a file with them."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(20, 32, 32, 3)) // [1, 2, 4]
    path = tmp_path / "cifar10.npz"
    parts = {f"X_{part}": images.astype(np.uint8) for part in ("train", "test")}
    np.savez(path, **parts, y_train=np.arange(20) % 10, y_test=np.arange(20) % 10)
    return images, path


def test_colours_are_standardised_and_epsilon_is_in_pixels(images):
    images, path = images
    X, _, X_test, _, units = trials.arrays("cifar", (("cifar", str(path)),))
    assert X.shape == X_test.shape == (20, 3072) and X.dtype == np.float32
    colours = X.reshape(-1, 3)
    np.testing.assert_allclose(colours.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(colours.std(0), 1, atol=1e-4)
    # ε of one unit moves a pixel by the whole range: its columns are divided by the deviation.
    np.testing.assert_allclose(
        units.reshape(-1, 3)[0] * (images / 255).std((0, 1, 2)), 1, rtol=1e-3
    )


def test_whitened_columns(images):
    """By scikit-learn's PCA: its components, scaled, and brought back to where the pixels were."""
    given = (("cifar", str(images[1])),)
    X, _, X_test, _, units = trials.arrays("cifar zca", given)
    standardised, *_ = trials.arrays("cifar", given)
    pca = PCA(19).fit(standardised.astype(np.float64))
    variances = pca.explained_variance_ * 19 / 20
    scores = pca.transform(standardised) / np.sqrt(variances + trials.ZCA_BIAS)
    np.testing.assert_allclose(X, scores @ pca.components_, atol=1e-3)
    np.testing.assert_allclose(X_test, X, atol=1e-5)  # the same images
    assert units is None
