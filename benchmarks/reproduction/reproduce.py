"""The claims of the paper, tried: train, choose on validation images, test, attack.

    python -m benchmarks.reproduction.reproduce --data MNIST.npz --cifar CIFAR10.npz --jobs 2
    python -m benchmarks.reproduction.reproduce --quick          # a reduced table, in minutes

`experiments.py` declares what is done. Every finished run writes one JSON file under
``benchmarks/results/reproduction/``, and a run whose file is there is left out: an interrupted
table goes on where it stopped. First every method chooses its settings on the last 10,000
training images, all with as many candidates; then a net for each seed is trained on all
training images and tested once. `findings.py` reads the files; `tables.py`, `sentences.py` and
`pictures.py` show them.
"""

import argparse
import json
from pathlib import Path

from joblib import Parallel, delayed

from benchmarks.passport import RESULTS, ROOT
from benchmarks.reproduction.experiments import ADVERSARIAL, EXPERIMENTS, PLAIN, QUICK, candidates
from benchmarks.reproduction.trials import Pair, Run, do, do_transfer

FOLDER = RESULTS / "reproduction"


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
    methods : list of str or None
        That are trained on all training images, instead of all.
    """

    def __init__(self, name, experiment, folder=FOLDER, seeds=None, methods=None):
        self.name, self.experiment, self.folder = name, experiment, folder
        self.methods = methods or list(experiment.methods)
        self.seeds = experiment.seeds if seeds is None else seeds

    def _candidate(self, net_name, method_name, number, settings):
        path = self.folder / "choice" / f"{slug(self.name, net_name, method_name)}.{number}.json"
        net = self.experiment.nets[net_name]
        return Run(path, net.data, settings, 0, validate=True, attacked=False)

    def candidates(self, net_name, method_name):
        """Return the runs among which the method chooses, those known so far.

        Of the first number of epochs all; of each other one, once these are done, the best
        under each setting of the net's own grid, the best of all first.
        """
        net, method = self.experiment.nets[net_name], self.experiment.methods[method_name]
        if method.control_of:
            return []
        first = candidates(net, method)
        if len(first) * len(net.epochs) == 1 and not self.experiment.best_only:
            return []
        runs = [self._candidate(net_name, method_name, i, s) for i, s in enumerate(first)]
        if all(run.path.is_file() for run in runs):
            best = {}
            for run in sorted(runs, key=error_of):
                best.setdefault(tuple(run.settings[k] for k in net.grid), run.settings)
            longer = [s | {"max_epochs": n} for n in net.epochs[1:] for s in best.values()]
            runs += [
                self._candidate(net_name, method_name, number, settings)
                for number, settings in enumerate(longer, len(runs))
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
            return [method for method in methods if method in self.methods]
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
        attacked = self.experiment.attacked
        kept = self._has_pairs() and method_name in (PLAIN, ADVERSARIAL)
        return settings and Run(path, net.data, settings, seed, False, attacked, kept)

    def _has_pairs(self):
        return self.experiment.attacked and {PLAIN, ADVERSARIAL} <= set(self.experiment.methods)

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
        if not self._has_pairs():
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
    methods = dict.fromkeys(name for of in EXPERIMENTS.values() for name in of.methods)
    parser.add_argument("--methods", nargs="*", choices=methods, metavar="METHOD", help="to test")
    parser.add_argument("--seeds", type=int, help="0 only chooses (default: the experiment's)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--rows", type=int, help="of the training images (default: all)")
    parser.add_argument("--quick", action="store_true", help="a reduced table, in minutes")
    parser.add_argument("--results", type=Path, default=None, help="folder of the JSON files")
    given = parser.parse_args(argv)
    given.results = given.results or (
        FOLDER.with_name("reproduction-quick") if given.quick else FOLDER
    )
    return given


def main(argv=None):
    """Do what is not yet done."""
    given = options(argv)
    chosen = {"mnist": QUICK} if given.quick else EXPERIMENTS
    tables = [
        Table(name, experiment, given.results, given.seeds, given.methods)
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
