import builtins
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from sk_advbp.command import comparison as command
from sk_advbp.command import load_data

QUICK = ["--epochs", "2", "--seeds", "2", "--hidden", "20", "--device", "cpu"]


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run the command, which must stop before any training; return its line on stderr."""

    def refused(*argv):
        monkeypatch.setattr(command, "compare", lambda *args: pytest.fail("training has begun"))
        with pytest.raises(SystemExit) as stop:
            command.main(list(argv))
        assert stop.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("python -m sk_advbp: error: ")
        assert err.count("\n") == 1 and err.endswith("\n")
        return err

    return refused


def without(monkeypatch, package):
    """Let `package` look as if it were not installed."""
    find_spec, import_ = importlib.util.find_spec, builtins.__import__

    def absent(name, *args):
        return None if name == package else find_spec(name, *args)

    def forbidden(name, *args, **kwargs):
        assert name.split(".")[0] != package, f"{name} is imported"
        return import_(name, *args, **kwargs)

    monkeypatch.setattr("sk_advbp.command.options.find_spec", absent)
    monkeypatch.setattr("sk_advbp.command.comparison.find_spec", absent)
    monkeypatch.setattr(builtins, "__import__", forbidden)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--epsilon", "0"], "--epsilon: must be > 0; epsilon 0 is plain back-propagation"),
        (["--epsilon", "-1"], "--epsilon: must be a finite number > 0, got '-1'"),
        (["--epsilon", "nan"], "--epsilon: must be a finite number > 0, got 'nan'"),
        (["--epsilon", "inf"], "--epsilon: must be a finite number > 0, got 'inf'"),
        (["--epsilon", "small"], "--epsilon: must be a finite number > 0, got 'small'"),
        (["--epsilon"], "--epsilon: expected one argument"),
        (["--eps", "1"], "unrecognized arguments: --eps 1"),
        (["--activation", "swish"], "--activation: invalid choice: 'swish'"),
        (["--hidden", "100,0"], "--hidden: must be a whole number >= 1, got '0'"),
        (["--hidden", "100,"], "--hidden: must be a whole number >= 1, got ''"),
        (["--epochs", "0"], "--epochs: must be a whole number >= 1, got '0'"),
        (["--epochs", "1.5"], "--epochs: must be a whole number >= 1, got '1.5'"),
        (["--seeds", "-2"], "--seeds: must be a whole number >= 1, got '-2'"),
        (["--device", "gpu"], "--device: 'gpu' cannot be used"),
        (["--device", "cuda:99"], "--device: 'cuda:99' cannot be used"),
        (["--picture", "examples.txt"], "--picture: 'examples.txt' must end with one of: "),
        (["--picture", "/no/such/folder/a.png"], "cannot be written (No such file or directory)"),
        (["--curve", "curve.txt"], "--curve: 'curve.txt' must end with one of: "),
        (["--curve", "/no/such/folder/a.png"], "cannot be written (No such file or directory)"),
        (["--data", "iris"], "--data: unknown data 'iris': accepted are 'digits', 'mnist' and"),
        (["--data", "/no/file.npz"], "--data: /no/file.npz: cannot be read (No such file or dir"),
        (["digits"], "unrecognized arguments: digits"),
    ],
)
def test_wrong_option_is_one_line_and_status_2(refused, argv, complaint):
    assert complaint in refused(*argv)


def test_unusable_file_is_one_line_and_status_2(refused, tmp_path):
    path = tmp_path / "data.npz"
    path.write_text("X,y\n1,2\n")
    assert f"{path}: is damaged" in refused("--data", str(path))


def test_picture_of_what_is_no_image(refused, tmp_path):
    path, picture = tmp_path / "data.npz", tmp_path / "a.png"
    np.savez(path, X=np.arange(60.0).reshape(20, 3), y=np.arange(20) % 2)
    line = refused("--data", str(path), "--picture", str(picture))
    assert "--picture: only images" in line and "(3,)" in line
    assert not picture.exists()


@pytest.mark.parametrize("option", ["--picture", "--curve"])
def test_picture_without_matplotlib_names_the_extra(option, refused, monkeypatch):
    without(monkeypatch, "matplotlib")
    assert "needs matplotlib, which comes with the extra 'plot'" in refused(option, "a.png")


def test_what_the_estimator_refuses_is_one_line_too(monkeypatch, capsys):
    def compare(options, data):
        raise ValueError("lr must be\nsmaller")

    monkeypatch.setattr(command, "compare", compare)
    with pytest.raises(SystemExit, match="2"):
        command.main([])
    assert capsys.readouterr().err.startswith("python -m sk_advbp: error: lr must be smaller (")


def test_help_explains_each_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    text = capsys.readouterr().out
    for option in "data epsilon activation hidden epochs seeds device picture curve".split():
        assert f"--{option}" in text


@pytest.mark.parametrize("progress", ["rich", "plain"])
def test_digits_with_a_picture(progress, monkeypatch, capsys, tmp_path):
    if progress == "plain":
        without(monkeypatch, "rich")
    picture, curve = tmp_path / "examples.png", tmp_path / "curve.png"
    command.main([*QUICK, "--picture", str(picture), "--curve", str(curve)])
    out, err = capsys.readouterr()
    assert "digits: 1347 training and 450 test rows" in out
    assert "hidden layers 20 (relu), epsilon 0.08, 2 epochs, 2 seeds, cpu" in out
    *_, titles, plain, adversarial, _, _, _, last = out.splitlines()
    assert last == f"{curve} shows accuracy over epsilon, on 450 test rows"
    assert titles.split() == "clean accuracy under FGSM under PGD-20 seconds of fit".split()
    assert plain.startswith("plain") and plain.count("±") == 4
    assert adversarial.startswith("adversarial") and adversarial.count("%") == 3
    assert "8/8" in err
    for path in (picture, curve):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_table_holds_the_estimators_own_scores(capsys):
    command.main([*QUICK, "--seeds", "1"])
    lines = capsys.readouterr().out.splitlines()
    printed = {line.split()[0]: line.split()[1::2] for line in lines[-2:]}
    data = load_data("digits")
    for method, epsilon in {"plain": 0.0, "adversarial": 0.08}.items():
        net = command.AdvBPClassifier(
            (20,), epsilon=epsilon, max_epochs=2, device="cpu", random_state=0
        ).fit(data.X_train, data.y_train)
        attacked = (
            net.adversarial_examples(
                data.X_test, data.y_test, epsilon=0.08, attack=attack, n_steps=20, random_state=0
            )
            for attack in ("fgsm", "pgd")
        )
        expected = [net.score(X, data.y_test) for X in (data.X_test, *attacked)]
        assert printed[method][:3] == [f"{100 * share:.1f}" for share in expected]


def test_file_of_colour_images(capsys, tmp_path):
    rng = np.random.default_rng(0)
    y = np.array(["cat", "dog"] * 20)
    X = rng.integers(0, 256, (40, 4, 5, 3), dtype=np.uint8)
    path, picture = tmp_path / "data.npz", tmp_path / "examples.pdf"
    np.savez(path, X_train=X[:30], y_train=y[:30], X_test=X[30:], y_test=y[30:])
    command.main([*QUICK, "--data", str(path), "--picture", str(picture)])
    assert "30 training and 10 test rows, 60 features" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"%PDF")


def test_ctrl_c_during_fit_ends_quietly():
    script = """
import os, runpy, signal, sys, threading
from sk_advbp import AdvBPClassifier

fit = AdvBPClassifier.fit

def interrupted_fit(*args):
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    return fit(*args)

AdvBPClassifier.fit = interrupted_fit
sys.argv[1:] = ["--epochs", "100000", "--device", "cpu"]
runpy.run_module("sk_advbp", run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 130, run.stderr
    assert run.stdout == "" and "Traceback" not in run.stderr and "Warning" not in run.stderr
