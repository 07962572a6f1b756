"""What is done for one file of results: train a net, score it, attack it."""

import importlib.util
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch

from benchmarks.passport import write_json
from benchmarks.reproduction.experiments import PLAIN
from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data
from sk_advbp.robustness import adversarial_accuracy_score, transfer_accuracy_score

NETS = Path(tempfile.gettempdir()) / "sk_advbp-nets"
N_VALIDATION = 10_000
# Added to the variances of the standardised columns, of which ZCA takes the root.
ZCA_BIAS = 0.1
FGSM_EPSILONS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
PGD = {"epsilon": 0.1, "attack": "pgd", "n_steps": 40, "n_restarts": 5, "random_state": 0}
N_PGD = 1000
BOUNDS = {"clipped": (0.0, 1.0), "not clipped": None}
TRANSFER_EPSILONS = (0.1, 0.25)


class Run(NamedTuple):
    """One net to train and to score, and the file that says how it ended.

    Attributes
    ----------
    path : Path
    data : str
        Of `arrays`.
    settings : dict
        Of what builds the net, `AdvBPClassifier` or a function; ε in units of pixels, for whitened
        columns in their own.
    seed : int
    validate : bool
        Whether training images are held out and scored, instead of the test images.
    attacked : bool
    kept : bool
        Whether the net will be needed again, by a `Pair` or where nets answer together.
    fold : (int, int) or None
        Which part of how many is held out; None: the last 10,000 training images.
    """

    path: Path
    data: str
    settings: dict
    seed: int
    validate: bool
    attacked: bool
    kept: bool = False
    fold: tuple | None = None


class Pair(NamedTuple):
    """Two nets between which examples are carried, and the file that says how well.

    Attributes
    ----------
    path : Path
    runs : dict of str to Run
    """

    path: Path
    runs: dict


# ---- data ----------------------------------------------------------------------------


@lru_cache
def arrays(name, paths):
    """Return X_train, y_train, X_test, y_test and the units of a pixel in each column.

    The columns of ZCA have no such units: None, as for images that are left as they are.
    """
    given = dict(paths)
    if name == "mnist":
        data = load_data(given["data"])
        return data.X_train, data.y_train, data.X_test, data.y_test, None
    X, y, X_test, y_test = cifar10(Path(given["cifar"]))
    X, X_test = (pixels.reshape(len(pixels), -1, 3) / np.float32(255) for pixels in (X, X_test))
    # In float32 the sum of so many numbers is far off.
    mean, deviation = (of((0, 1), dtype=np.float64).astype(np.float32) for of in (X.mean, X.std))
    X, X_test = (((pixels - mean) / deviation).reshape(len(pixels), -1) for pixels in (X, X_test))
    if name == "cifar zca":
        X, X_test = whitened(X, X_test)
        return X, y, X_test, y_test, None
    return X, y, X_test, y_test, np.tile(1 / deviation, X.shape[1] // 3)


def whitened(X, X_test):
    """Return X and X_test by ZCA: directions in which X varies much have a variance of 1.

    The others have less, by `ZCA_BIAS`. Mean and covariance are of all training images, those that
    are held out from a choice among them, as are mean and deviation of the colours.
    """
    mean = X.mean(0, dtype=np.float64).astype(np.float32)
    X = X - mean
    variances, directions = np.linalg.eigh((X.T @ X / len(X)).astype(np.float64))
    whitening = (directions / np.sqrt(variances + ZCA_BIAS) @ directions.T).astype(np.float32)
    return X @ whitening, (X_test - mean) @ whitening


def cifar10(path):
    """Return uint8 images (n, 32, 32, 3) and labels, training and test part.

    The file has X_train, y_train, X_test and y_test, or beside it lies the ``cifar10.py`` that
    decodes it.
    """
    decoder = path.with_name("cifar10.py")
    if decoder.is_file():
        spec = importlib.util.spec_from_file_location("cifar10", decoder)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.load_cifar10(path)
    with np.load(path) as stored:
        return tuple(stored[k] for k in ("X_train", "y_train", "X_test", "y_test"))


# ---- one run -------------------------------------------------------------------------


def net_of(run, paths, rows, build=AdvBPClassifier):
    """Return the net of `run`, trained, and the seconds that it took.

    `build` makes it of the settings. One that will be needed again lies in the folder for
    temporary files until then.
    """
    X, y, *_, units = parts(run, paths, rows)
    settings = dict(run.settings)
    if units is not None and np.any(settings["epsilon"]):
        settings["epsilon"] = settings["epsilon"] * units
    stored = place_of(run, paths, rows)
    if stored.is_file():
        return joblib.load(stored)
    start = time.perf_counter()
    net = build(**settings, random_state=run.seed, device="cpu").fit(X, y)
    seconds = time.perf_counter() - start
    if run.kept:
        NETS.mkdir(exist_ok=True)
        joblib.dump((net, seconds), stored)
    return net, seconds


def place_of(run, paths, rows):
    """Return the file in which a net of `run` waits."""
    return NETS / f"{run.path.stem}-{joblib.hash((run, paths, rows))}.joblib"


def parts(run, paths, rows):
    """Return X, y to learn, X, y to score, and the units of a pixel."""
    X, y, X_test, y_test, units = arrays(run.data, paths)
    X, y = X[:rows], y[:rows]
    if not run.validate:
        return X, y, X_test, y_test, units
    held_out = np.arange(len(X)) >= len(X) - min(N_VALIDATION, len(X) // 5)
    if run.fold:
        part, n_parts = run.fold
        held_out = np.arange(len(X)) * n_parts // len(X) == part
    return X[~held_out], y[~held_out], X[held_out], y[held_out], units


def percent(accuracy):
    """Return the error in percent."""
    return round(100 * (1 - accuracy), 4)


def resistance(net, X, y):
    """Return {attack: {bounds: error in percent}} on examples made against `net` itself."""
    found = {}
    for epsilon in FGSM_EPSILONS:
        found[f"FGSM {epsilon:g}"] = {
            name: percent(adversarial_accuracy_score(net, X, y, epsilon, clip=clip, attack="fgsm"))
            for name, clip in BOUNDS.items()
        }
    X, y = X[:N_PGD], y[:N_PGD]
    found[f"PGD {PGD['epsilon']:g}"] = {
        name: percent(adversarial_accuracy_score(net, X, y, clip=clip, **PGD))
        for name, clip in BOUNDS.items()
    }
    return found


def do(run, paths, rows, threads=1, build=AdvBPClassifier):
    """Train and score the net of `run`, and write its file."""
    torch.set_num_threads(threads)
    net, seconds = net_of(run, paths, rows, build)
    X, y, X_scored, y_scored, _ = parts(run, paths, rows)
    figures = {
        "settings": run.settings,
        "seed": run.seed,
        "rows": len(X),
        "scored_on": "validation images" if run.validate else "test images",
        "seconds": round(seconds, 1),
        "error": percent(net.score(X_scored, y_scored)),
        "training_error": percent(net.score(X, y)),
    }
    if run.attacked:
        figures["attacks"] = resistance(net, X_scored, y_scored)
        figures["rows_of_pgd"] = len(X_scored[:N_PGD])
    write_json(run.path, figures)
    print(f"{run.path.stem}: {figures['error']:.2f} % in {seconds:.0f} s", flush=True)


def do_transfer(pair, paths, rows, threads=1):
    """Train the two nets of `pair` and write the errors of each on examples against the other."""
    torch.set_num_threads(threads)
    nets = {method: net_of(run, paths, rows)[0] for method, run in pair.runs.items()}
    *_, X, y, _ = parts(pair.runs[PLAIN], paths, rows)
    errors = {
        f"{source} to {target}": {
            f"FGSM {epsilon:g}": percent(
                transfer_accuracy_score(nets[source], nets[target], X, y, epsilon, clip=(0.0, 1.0))
            )
            for epsilon in TRANSFER_EPSILONS
        }
        for source in nets
        for target in nets
        if source != target
    }
    settings = {method: run.settings for method, run in pair.runs.items()}
    write_json(pair.path, {"settings": settings, "seed": pair.runs[PLAIN].seed, "errors": errors})
    for run in pair.runs.values():
        place_of(run, paths, rows).unlink()
    print(f"{pair.path.stem}: {errors}", flush=True)
