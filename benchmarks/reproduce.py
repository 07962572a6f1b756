"""The claims of the paper, tried: train, choose on validation images, test, attack.

    python benchmarks/reproduce.py --data PATH/mnist.npz --cifar PATH/cifar10.npz --jobs 2
    python benchmarks/reproduce.py --quick          # a reduced table, in minutes

`experiments.py` declares what is done. Every finished run writes one JSON file under
``benchmarks/results/reproduction/``, and a run whose file is there is left out: an interrupted
table goes on where it stopped. First every method chooses its settings on the last 10,000
training images, all with as many candidates; then a net for each seed is trained on all
training images and tested once. `findings.py` makes tables and pictures of the files.
"""

import argparse
import importlib.util
import json
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch
from experiments import ADVERSARIAL, EXPERIMENTS, PLAIN, QUICK, candidates
from joblib import Parallel, delayed
from passport import RESULTS, ROOT, write_json

from sk_advbp import AdvBPClassifier
from sk_advbp.datasets import load_data
from sk_advbp.robustness import adversarial_accuracy_score, transfer_accuracy_score

FOLDER = RESULTS / "reproduction"
NETS = Path(tempfile.gettempdir()) / "sk_advbp-nets"
N_VALIDATION = 10_000
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
        Of `AdvBPClassifier`, ε in units of pixels.
    seed : int
    validate : bool
        Whether the last training images are held out and scored, instead of the test images.
    attacked : bool
    """

    path: Path
    data: str
    settings: dict
    seed: int
    validate: bool
    attacked: bool


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
    """Return X_train, y_train, X_test, y_test and the units of a pixel in each column."""
    given = dict(paths)
    if name == "mnist":
        data = load_data(given["data"])
        return data.X_train, data.y_train, data.X_test, data.y_test, None
    X, y, X_test, y_test = cifar10(Path(given["cifar"]))
    X, X_test = (pixels.reshape(len(pixels), -1, 3) / np.float32(255) for pixels in (X, X_test))
    mean, deviation = X.mean((0, 1)), X.std((0, 1))
    X, X_test = (((pixels - mean) / deviation).reshape(len(pixels), -1) for pixels in (X, X_test))
    return X, y, X_test, y_test, np.tile(1 / deviation, X.shape[1] // 3)


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


def net_of(run, paths, rows):
    """Return the net of `run`, trained, and the seconds that it took.

    One that will be needed again lies in the folder for temporary files until then.
    """
    X, y, *_, units = parts(run, paths, rows)
    settings = dict(run.settings)
    if units is not None and np.any(settings["epsilon"]):
        settings["epsilon"] = settings["epsilon"] * units
    stored = NETS / f"{run.path.stem}-{joblib.hash((run, paths, rows))}.joblib"
    if stored.is_file():
        return joblib.load(stored)
    start = time.perf_counter()
    net = AdvBPClassifier(**settings, random_state=run.seed, device="cpu").fit(X, y)
    seconds = time.perf_counter() - start
    if run.attacked:
        NETS.mkdir(exist_ok=True)
        joblib.dump((net, seconds), stored)
    return net, seconds


def parts(run, paths, rows):
    """Return X, y to learn, X, y to score, and the units of a pixel."""
    X, y, X_test, y_test, units = arrays(run.data, paths)
    X, y = X[:rows], y[:rows]
    if not run.validate:
        return X, y, X_test, y_test, units
    n = min(N_VALIDATION, len(X) // 5)
    return X[:-n], y[:-n], X[-n:], y[-n:], units


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


def do(run, paths, rows, threads=1):
    """Train and score the net of `run`, and write its file."""
    torch.set_num_threads(threads)
    net, seconds = net_of(run, paths, rows)
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
    print(f"{pair.path.stem}: {errors}", flush=True)


# ---- the table -----------------------------------------------------------------------


def slug(*words):
    """Return a file name of `words`."""
    return ".".join(words).replace(" ", "-").replace(",", "")


class Table:
    """The runs of one experiment, stage by stage; what is chosen is read from the files.

    Parameters
    ----------
    name : str
    experiment : Experiment
    folder : Path
    seeds : int or None
        Instead of the experiment's number.
    """

    def __init__(self, name, experiment, folder=FOLDER, seeds=None):
        self.name, self.experiment, self.folder = name, experiment, folder
        self.seeds = experiment.seeds if seeds is None else seeds

    def _candidate(self, net_name, method_name, number, settings):
        path = self.folder / "choice" / f"{slug(self.name, net_name, method_name)}.{number}.json"
        net = self.experiment.nets[net_name]
        return Run(path, net.data, settings, 0, validate=True, attacked=False)

    def candidates(self, net_name, method_name):
        """Return the runs among which the method chooses, those known so far.

        Of the first number of epochs all; of each other one, once these are done, the best.
        """
        net, method = self.experiment.nets[net_name], self.experiment.methods[method_name]
        if method.control_of:
            return []
        first = candidates(net, method)
        if len(first) * len(net.epochs) == 1 and not self.experiment.best_only:
            return []
        runs = [self._candidate(net_name, method_name, i, s) for i, s in enumerate(first)]
        if all(run.path.is_file() for run in runs):
            best = min(runs, key=error_of).settings
            runs += [
                self._candidate(net_name, method_name, len(runs) + i, best | {"max_epochs": n})
                for i, n in enumerate(net.epochs[1:])
            ]
        return runs

    def chosen(self, net_name, method_name):
        """Return the settings of least error on the validation images, None before all ran."""
        net, method = self.experiment.nets[net_name], self.experiment.methods[method_name]
        if method.control_of:
            settings = self.chosen(net_name, method.control_of)
            return settings and settings | method.settings
        runs = self.candidates(net_name, method_name)
        if not runs:
            return candidates(net, method)[0]
        if len(runs) < len(candidates(net, method)) + len(net.epochs) - 1:
            return None
        if not all(run.path.is_file() for run in runs):
            return None
        return min(runs, key=error_of).settings

    def choices(self):
        """Return all runs of candidates that are known so far."""
        return [
            run
            for net_name in self.experiment.nets
            for method_name in self.experiment.methods
            for run in self.candidates(net_name, method_name)
        ]

    def final_methods(self, net_name):
        """Return the methods that are trained on all training images."""
        methods = list(self.experiment.methods)
        if not self.experiment.best_only:
            return methods
        runs = [run for m in methods for run in self.candidates(net_name, m)]
        if not all(run.path.is_file() for run in runs):
            return []
        errors = {m: min(error_of(run) for run in self.candidates(net_name, m)) for m in methods}
        return [min(errors, key=errors.get)]

    def final(self, net_name, method_name, seed):
        """Return the run on all training images, None before its settings are chosen."""
        settings = self.chosen(net_name, method_name)
        path = self.folder / f"{slug(self.name, net_name, method_name)}.s{seed}.json"
        net = self.experiment.nets[net_name]
        return settings and Run(path, net.data, settings, seed, False, self.experiment.attacked)

    def finals(self):
        """Return the runs on all training images that are known so far, seed by seed."""
        runs = [
            self.final(net_name, method_name, seed)
            for seed in range(self.seeds)
            for net_name in self.experiment.nets
            for method_name in self.final_methods(net_name)
        ]
        return [run for run in runs if run is not None]

    def transfers(self):
        """Return the pairs of nets that examples are carried between."""
        if not (self.experiment.attacked and {PLAIN, ADVERSARIAL} <= set(self.experiment.methods)):
            return []
        pairs = []
        for seed in range(self.seeds):
            for net_name in self.experiment.nets:
                runs = {m: self.final(net_name, m, seed) for m in (PLAIN, ADVERSARIAL)}
                path = self.folder / f"{slug(self.name, net_name, 'transfer')}.s{seed}.json"
                if all(runs.values()):
                    pairs.append(Pair(path, runs))
        return pairs


def error_of(run):
    """Return the error that the file of a finished run states."""
    return json.loads(run.path.read_text("utf-8"))["error"]


def options(argv=None):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = ROOT.parent / "shared/data"
    parser.add_argument("--data", default=str(data / "mnist.npz"), help="or mnist, from OpenML")
    parser.add_argument("--cifar", default=str(data / "cifar10.npz"), help="a .npz file")
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, help="experiments (default: all)")
    parser.add_argument("--seeds", type=int, help="0 only chooses (default: the experiment's)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--rows", type=int, help="of the training images (default: all)")
    parser.add_argument("--quick", action="store_true", help="a reduced table, in minutes")
    parser.add_argument("--results", type=Path, default=None, help="folder of the JSON files")
    given = parser.parse_args(argv)
    if given.quick:
        given.rows = given.rows or 10_000
    given.results = given.results or (
        FOLDER.with_name("reproduction-quick") if given.quick else FOLDER
    )
    return given


def main(argv=None):
    """Do what is not yet done."""
    given = options(argv)
    chosen = {"quick": QUICK} if given.quick else EXPERIMENTS
    tables = [
        Table(name, experiment, given.results, given.seeds)
        for name, experiment in chosen.items()
        if given.quick or not given.only or name in given.only
    ]
    paths = (("data", given.data), ("cifar", given.cifar))

    def unfinished(tasks):
        return [task for task in tasks if not task.path.is_file()]

    def work(function, tasks):
        parallel = Parallel(n_jobs=given.jobs, batch_size=1)
        parallel(delayed(function)(task, paths, given.rows) for task in tasks)

    for table in tables:
        while tasks := unfinished(table.choices()):
            work(do, tasks)
    for table in tables:
        work(do, unfinished(table.finals()))
        work(do_transfer, unfinished(table.transfers()))


if __name__ == "__main__":
    main()
