"""What the searches on MNIST share: cells, each a candidate with a seed and a JSON file of its own.

A candidate is (units, changes, number of seeds): what it changes of where its search starts.
"""

import json
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmarks.passport import ROOT
from benchmarks.reproduction.callbacks import net_of_cell
from benchmarks.reproduction.reproduce import slug
from benchmarks.reproduction.trials import Run, do
from sk_advbp.core.precision import has_bfloat16_products


def in_words(changes):
    """Return each setting that differs and its value, without what only says of which kind."""
    words = []
    for name, value in changes.items():
        if value is not True:
            joint = "x" if name == "hidden_layer_sizes" else " to "
            short = joint.join(map(str, value)) if isinstance(value, (tuple, list)) else value
            words.append(f"{name.removeprefix('optimizer__')} {short}")
    return words


def on_this_machine(settings):
    """Return `settings` in bfloat16 where this machine has products in it: elsewhere it is slow."""
    return settings | {"amp": has_bfloat16_products("cpu")}


class Tried(NamedTuple):
    """A candidate of which a cell is finished, and the figures of each seed.

    Attributes
    ----------
    units : str
    error : float
        The mean over seeds, in percent.
    changes : str
        What differs from where its search starts, in words.
    figures : list of dict
    """

    units: str
    error: float
    changes: str
    figures: list

    def of(self, name):
        """Return one of the figures, seed by seed."""
        return [figures[name] for figures in self.figures]


class Search(NamedTuple):
    """Candidates, and the folder of what is known of them.

    Attributes
    ----------
    folder : Path
    candidates : list of (str, dict, int)
    start : dict of str to dict
        The settings of the units that no candidate changes.
    n_parts : int or None
        Of so many parts of the training images the seeds hold out one in turn; None: the last
        10,000.
    """

    folder: Path
    candidates: list
    start: dict
    n_parts: int | None = None

    def cells(self):
        """Return the runs of all candidates, in their order."""
        return [run for candidate in self.candidates for run in self._cells_of(*candidate)]

    def _cells_of(self, units, changes, n_seeds):
        settings = on_this_machine(self.start[units] | changes)
        return [
            Run(
                self.folder / f"{slug(units, *in_words(changes))}.s{seed}.json",
                "mnist",
                settings,
                seed,
                validate=True,
                attacked=False,
                fold=self.n_parts and (seed % self.n_parts, self.n_parts),
            )
            for seed in range(n_seeds)
        ]

    def tried(self):
        """Return the candidates of which a cell is finished, the lowest error first."""
        found = []
        for units, changes, n_seeds in self.candidates:
            paths = [run.path for run in self._cells_of(units, changes, n_seeds)]
            figures = [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]
            if figures:
                error = mean(of_seed["error"] for of_seed in figures)
                found.append(Tried(units, error, ", ".join(in_words(changes)), figures))
        return sorted(found, key=lambda one: one[:3])


# ---- command line --------------------------------------------------------------------


def add_options(parser, folder):
    """Return `parser` with the options of what goes on where it stopped."""
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/mnist.npz"))
    parser.add_argument("--at-most", type=int, help="nets to train now (default: all)")
    parser.add_argument("--rows", type=int, help="of the training images (default: all)")
    parser.add_argument("--results", type=Path, default=folder, help="folder of the JSON files")
    return parser


def do_unfinished(runs, given):
    """Do the runs that have no file, as the options `given` say."""
    unfinished = [run for run in runs if not run.path.is_file()]
    for run in unfinished[: given.at_most]:
        do(run, (("data", given.data),), given.rows, build=net_of_cell)
