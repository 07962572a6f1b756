"""The finished runs of `reproduce.py` and `final.py`, read from their files.

Nothing here is typed by hand but the figures of others, each with its source. `tables.py`,
`sentences.py` and `pictures.py` show them.
"""

import json
from pathlib import Path

from benchmarks.harness import mean_in_words
from benchmarks.reproduction import final, search_mnist
from benchmarks.reproduction.experiments import (
    ADVERSARIAL,
    BOTH,
    DROPOUT,
    EXPERIMENTS,
    PLAIN,
    SIGNS,
)
from benchmarks.reproduction.reproduce import FOLDER, Table, error_of, slug

PAPER = "abstract of arXiv:1510.04189"
# Test errors in percent on permutation-invariant MNIST: (units, method) to figure.
OF_THE_PAPER = {
    ("logistic", PLAIN): 1.60,
    ("logistic", ADVERSARIAL): 0.95,
    ("relu", PLAIN): 1.40,
    ("relu", ADVERSARIAL): 0.78,
}
NEIGHBOURS = {
    "the paper": (0.78, PAPER),
    "maxout with adversarial training": (0.782, "arXiv:1412.6572"),
    "virtual adversarial training": (0.64, "arXiv:1507.00677"),
    "the ladder network": (0.57, "arXiv:1507.02672"),
}
# Errors in percent on examples made by FGSM, ε = 0.25, against the other one of two maxout nets.
OF_MAXOUT = {"to the adversarial net": 19.6, "to the plain net": 40.9, "source": "arXiv:1412.6572"}
UNITS = {"logistic": "logistic", "tanh": "hyperbolic tangent", "relu": "rectified linear"}
# What the choice is reported by; the rest of the settings is the same for all.
REPORTED = (
    "output",
    "epsilon",
    "norm",
    "clean_weight",
    "dropout",
    "input_dropout",
    "hidden_layer_sizes",
    "optimizer__weight_decay",
    "lr",
    "max_epochs",
)
FOOLED_BY = ("FGSM 0.1", "PGD 0.1")
COLOURS = {PLAIN: "C7", DROPOUT: "C0", SIGNS: "C2", ADVERSARIAL: "C3", BOTH: "C1"}


class Findings:
    """The finished runs under one folder.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder=FOLDER):
        self.folder = Path(folder)
        self.tables = {name: Table(name, e, self.folder) for name, e in EXPERIMENTS.items()}

    def _by_seed(self, experiment, net, method):
        paths = {
            seed: self.folder / f"{slug(experiment, net, method)}.s{seed}.json"
            for seed in range(self.tables[experiment].seeds)
        }
        return {s: json.loads(p.read_text("utf-8")) for s, p in paths.items() if p.is_file()}

    def runs(self, experiment, net, method):
        """Return the figures of each finished seed."""
        return list(self._by_seed(experiment, net, method).values())

    def pairs(self, experiment, net, methods):
        """Return {method: figures of each seed} of the seeds that all `methods` have finished."""
        found = {method: self._by_seed(experiment, net, method) for method in methods}
        seeds = sorted(set.intersection(*(set(of) for of in found.values())))
        return {method: [of[seed] for seed in seeds] for method, of in found.items()}

    def lowest_of_choice(self, experiment, net):
        """Return {method: lowest validation error} of the candidates of the first epochs."""
        table, found = self.tables[experiment], {}
        for method in table.experiment.methods:
            epochs = table.experiment.nets[net].epochs[0]
            runs = [r for r in table.candidates(net, method) if r.settings["max_epochs"] == epochs]
            if runs and all(run.path.is_file() for run in runs):
                found[method] = min(map(error_of, runs))
        return found

    def finals(self, of_round, units, method=ADVERSARIAL):
        """Return the figures of each finished seed of the setting that a round chose."""
        runs = final.nets_of(of_round, units, method, self.folder / "final")
        paths = [run.path for run in runs]
        return [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]

    def together(self, of_round, units):
        """Return the error of these nets' mean probabilities, None before all are trained."""
        path = final.together_of(of_round, units, self.folder / "final").path
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def searched(self, units):
        """Return what the search tried for the `units`, the lowest error first."""
        found = search_mnist.search(self.folder / "search").tried()
        return [one for one in found if one.units == units]

    def passports(self):
        """Return where all figures come from: (commits, processors, dates, versions)."""
        found = [json.loads(p.read_text("utf-8"))["passport"] for p in self.folder.rglob("*.json")]
        return [
            sorted({part(of) for of in found})
            for part in (
                lambda of: of["commit"][:10] + ("+" if of["uncommitted"] else ""),
                lambda of: f"{of['processor']}, {of['cores']} cores",
                lambda of: of["date"][:10],
                lambda of: ", ".join(f"{k} {v}" for k, v in of["versions"].items()),
            )
        ]


def methods_of(experiment):
    """Return (experiment, method) of all rows; dropout with ε stands apart in its table."""
    more = ["mnist-dropout"] if experiment == "mnist" else []
    return [(name, m) for name in [experiment, *more] for m in EXPERIMENTS[name].methods]


def clean(run):
    """Return the test error of `run` in percent."""
    return run["error"]


def gap(run):
    """Return by how many points the test error of `run` is above its training error."""
    return run["error"] - run["training_error"]


def under(attack, bounds="clipped"):
    """Return the function that reads from a run the error under `attack` in percent."""
    return lambda run: run["attacks"][attack][bounds]


def over_seeds(runs, figure=clean):
    """Return mean and standard deviation of a figure over seeds, in words."""
    return mean_in_words([figure(run) for run in runs])


def carried(source, target, attack):
    """Return the function that reads how often examples against `source` fool `target`."""
    return lambda run: run["errors"][f"{source} to {target}"][attack]


def settings_in_words(settings, net):
    """Return what was chosen, in words; the size of the layers where it is not the net's."""
    given = {k: settings[k] for k in REPORTED if settings.get(k) not in (None, 0.0)}
    if list(given["hidden_layer_sizes"]) == list(net.settings["hidden_layer_sizes"]):
        del given["hidden_layer_sizes"]
    return ", ".join(f"{k}={v}" for k, v in given.items())
