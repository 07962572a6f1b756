"""Tables of what was found."""

from itertools import product
from statistics import mean

from benchmarks.reproduction import final, search_halves, search_mnist
from benchmarks.reproduction.experiments import (
    ADVERSARIAL,
    EPSILONS,
    EXPERIMENTS,
    MNIST_METHODS,
    PLAIN,
)
from benchmarks.reproduction.findings import (
    FOOLED_BY,
    NEIGHBOURS,
    OF_THE_PAPER,
    UNITS,
    carried,
    clean,
    gap,
    methods_of,
    over_seeds,
    settings_in_words,
    under,
)
from benchmarks.reproduction.reproduce import error_of
from benchmarks.reproduction.trials import FGSM_EPSILONS, TRANSFER_EPSILONS


def error_rows(findings, experiment):
    """Return test and training errors of all nets and methods."""
    of_paper = ["paper"] if experiment == "mnist" else []
    titles = ("test error (%)", "training error (%)", "test - training", "seeds", *of_paper)
    rows = [["units", "method", *titles, "chosen"]]
    for net in EXPERIMENTS[experiment].nets:
        for name, method in methods_of(experiment):
            runs = findings.runs(name, net, method)
            if not runs:
                continue
            row = [UNITS[net], method, over_seeds(runs)]
            row += [over_seeds(runs, lambda run: run["training_error"]), over_seeds(runs, gap)]
            row.append(str(len(runs)))
            if of_paper:
                paper = OF_THE_PAPER.get((net, method))
                row.append(f"{paper:.2f}" if paper else "–")
            settings = settings_in_words(runs[0]["settings"], EXPERIMENTS[name].nets[net])
            rows.append([*row, settings])
    return rows


def headline_rows(findings):
    """Return what the first page shows of the nets for MNIST."""
    under_attack = [f"under {attack}" for attack in FOOLED_BY]
    rows = [["units", "method", "test error (%)", "paper", *under_attack, "seeds"]]
    for net in ("relu", "logistic"):
        for method in MNIST_METHODS:
            runs = findings.runs("mnist", net, method)
            if runs:
                paper = OF_THE_PAPER.get((net, method))
                cells = [over_seeds(runs, under(attack)) for attack in FOOLED_BY]
                paper = f"{paper:.2f}" if paper else ""
                rows.append([UNITS[net], method, over_seeds(runs), paper, *cells, str(len(runs))])
    return rows


def final_rows(findings):
    """Return the test errors of the nets with the settings that each round of searching chose."""
    titles = ("test error (%)", "of each seed", "paper", "training error (%)", "s a net")
    rows = [["search", "units", "method", *titles]]
    for of_round, units, method in product(final.ROUNDS, UNITS, final.METHODS):
        runs = findings.finals(of_round, units, method) if units in final.CHOSEN[of_round] else []
        if runs:
            row = [of_round, UNITS[units], method, over_seeds(runs)]
            row += [", ".join(f"{clean(run):.2f}" for run in runs)]
            paper = OF_THE_PAPER.get((units, method))
            row += [f"{paper:.2f}" if paper else "–"]
            row += [over_seeds(runs, lambda run: run["training_error"])]
            rows.append([*row, f"{mean(run['seconds'] for run in runs):.0f}"])
    return rows


def searched_rows(findings, search):
    """Return the errors on held-out training images of all that a `search` tried."""
    rows = search.rows_of(findings.folder / search.FOLDER.name)
    return [rows[0], *([UNITS[units], *row] for units, *row in rows[1:])]


def resistance_rows(findings, bounds):
    """Return the errors under attack of the nets for MNIST, bounded to [0, 1] or not."""
    attacks = [f"FGSM {epsilon:g}" for epsilon in FGSM_EPSILONS] + ["PGD 0.1"]
    rows = [["units", "method", *attacks]]
    for net in EXPERIMENTS["mnist"].nets:
        for name, method in methods_of("mnist"):
            runs = findings.runs(name, net, method)
            if runs:
                cells = [over_seeds(runs, under(attack, bounds)) for attack in attacks]
                rows.append([UNITS[net], method, *cells])
    return rows


def transfer_rows(findings):
    """Return the errors on examples made against another net."""
    attacks = [f"FGSM {epsilon:g}" for epsilon in TRANSFER_EPSILONS]
    rows = [["units", "made against", "shown to", *attacks]]
    for net in EXPERIMENTS["mnist"].nets:
        runs = findings.runs("mnist", net, "transfer")
        for source, target in ((PLAIN, ADVERSARIAL), (ADVERSARIAL, PLAIN)) if runs else ():
            cells = [over_seeds(runs, carried(source, target, attack)) for attack in attacks]
            rows.append([UNITS[net], source, target, *cells])
    return rows


def beyond_rows(findings):
    """Return the errors of all candidates, and the test error of the best."""
    rows = [["candidate", "settings", "validation error (%)", "test error (%)", "seeds"]]
    table = findings.tables["beyond"]
    net = table.experiment.nets["relu"]
    for method in table.experiment.methods:
        for run in table.candidates("relu", method):
            if run.path.is_file():
                runs = findings.runs("beyond", "relu", method)
                settings = settings_in_words(run.settings, net)
                cells = [f"{error_of(run):.2f}", over_seeds(runs), str(len(runs))]
                rows.append([method, settings, *cells])
    others = [[name, "", "", f"{e:g} ({where})", ""] for name, (e, where) in NEIGHBOURS.items()]
    return rows + others if len(rows) > 1 else rows


def epsilon_rows(findings):
    """Return test error and resistance along ε."""
    rows = [["units", "ε", "test error (%)", *FOOLED_BY, "seeds"]]
    for net in EXPERIMENTS["epsilon"].nets:
        for epsilon in EPSILONS:
            runs = findings.runs("epsilon", net, f"{epsilon:g}")
            if runs:
                cells = [over_seeds(runs, figure) for figure in (clean, *map(under, FOOLED_BY))]
                rows.append([UNITS[net], f"{epsilon:g}", *cells, str(len(runs))])
    return rows


def choice_rows(findings, experiment):
    """Return the validation errors of all candidates, from which the settings were chosen."""
    rows = [["units", "method", "candidate", "validation error (%)", "chosen"]]
    for net in EXPERIMENTS[experiment].nets:
        for name, method in methods_of(experiment):
            table = findings.tables[name]
            if net not in table.experiment.nets:
                continue
            chosen = table.chosen(net, method)
            for run in table.candidates(net, method):
                if run.path.is_file():
                    mark = "yes" if run.settings == chosen else ""
                    words = settings_in_words(run.settings, table.experiment.nets[net])
                    rows.append([UNITS[net], method, words, f"{error_of(run):.2f}", mark])
    return rows


TABLES = {
    "headline": headline_rows,
    "mnist": lambda f: error_rows(f, "mnist"),
    "final": final_rows,
    "search": lambda f: searched_rows(f, search_mnist),
    "halves": lambda f: searched_rows(f, search_halves),
    "resistance clipped": lambda f: resistance_rows(f, "clipped"),
    "resistance not clipped": lambda f: resistance_rows(f, "not clipped"),
    "transfer": transfer_rows,
    "cifar": lambda f: error_rows(f, "cifar"),
    "cifar zca": lambda f: error_rows(f, "cifar zca"),
    "beyond": beyond_rows,
    "epsilon": epsilon_rows,
    "mnist choice": lambda f: choice_rows(f, "mnist"),
    "cifar choice": lambda f: choice_rows(f, "cifar"),
    "cifar zca choice": lambda f: choice_rows(f, "cifar zca"),
}
