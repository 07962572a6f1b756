"""What the runs of `reproduce.py` found: tables, sentences and pictures, read from their files.

    python benchmarks/findings.py

prints all tables and sentences. Nothing here is typed by hand but the figures of others, each
with its source.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from experiments import ADVERSARIAL, BOTH, DROPOUT, EPSILONS, EXPERIMENTS, PLAIN, SIGNS
from harness import markdown
from reproduce import FOLDER, Table, error_of, slug
from trials import FGSM_EPSILONS, TRANSFER_EPSILONS

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
}
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

    def runs(self, experiment, net, method):
        """Return the figures of each finished seed."""
        table = self.tables[experiment]
        paths = [
            self.folder / f"{slug(experiment, net, method)}.s{seed}.json"
            for seed in range(table.seeds)
        ]
        return [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]

    def errors(self, experiment, net, method, figure=lambda run: run["error"]):
        """Return the errors in percent, one a finished seed."""
        return [figure(run) for run in self.runs(experiment, net, method)]

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


def in_words(errors):
    """Return "mean ± standard deviation" of the errors of several seeds."""
    if not errors:
        return "–"
    return f"{mean(errors):.2f}" + (f" ± {stdev(errors):.2f}" if len(errors) > 1 else "")


def settings_in_words(settings, net):
    """Return what was chosen, in words; the size of the layers where it is not the net's."""
    given = {k: settings[k] for k in REPORTED if settings.get(k) not in (None, 0.0)}
    if list(given["hidden_layer_sizes"]) == list(net.settings["hidden_layer_sizes"]):
        del given["hidden_layer_sizes"]
    return ", ".join(f"{k}={v}" for k, v in given.items())


# ---- tables --------------------------------------------------------------------------


def error_rows(findings, experiment):
    """Return test and training errors of all nets and methods."""
    rows = [["units", "method", "test error (%)", "training error (%)", "n", "paper", "chosen"]]
    for net in EXPERIMENTS[experiment].nets:
        for name, method in methods_of(experiment):
            runs = findings.runs(name, net, method)
            if not runs:
                continue
            paper = OF_THE_PAPER.get((net, method)) if experiment == "mnist" else None
            rows.append(
                [
                    UNITS[net],
                    method,
                    in_words([run["error"] for run in runs]),
                    in_words([run["training_error"] for run in runs]),
                    str(len(runs)),
                    f"{paper:.2f}" if paper else "–",
                    settings_in_words(runs[0]["settings"], EXPERIMENTS[name].nets[net]),
                ]
            )
    return rows


def resistance_rows(findings, bounds):
    """Return the errors under attack of the nets for MNIST, bounded to [0, 1] or not."""
    attacks = [f"FGSM {epsilon:g}" for epsilon in FGSM_EPSILONS] + ["PGD 0.1"]
    rows = [["units", "method", *attacks]]
    for net in EXPERIMENTS["mnist"].nets:
        for name, method in methods_of("mnist"):
            runs = findings.runs(name, net, method)
            if runs:
                cells = [in_words([r["attacks"][a][bounds] for r in runs]) for a in attacks]
                rows.append([UNITS[net], method, *cells])
    return rows


def transfer_rows(findings):
    """Return the errors on examples made against another net."""
    attacks = [f"FGSM {epsilon:g}" for epsilon in TRANSFER_EPSILONS]
    rows = [["units", "made against", "shown to", *attacks]]
    for net in EXPERIMENTS["mnist"].nets:
        runs = findings.runs("mnist", net, "transfer")
        for source, target in ((PLAIN, ADVERSARIAL), (ADVERSARIAL, PLAIN)) if runs else ():
            of_seeds = [run["errors"][f"{source} to {target}"] for run in runs]
            cells = [in_words([errors[attack] for errors in of_seeds]) for attack in attacks]
            rows.append([UNITS[net], source, target, *cells])
    return rows


def beyond_rows(findings):
    """Return the errors of all candidates, and the test error of the best."""
    rows = [["candidate", "validation error (%)", "test error (%)", "n"]]
    table = findings.tables["beyond"]
    for method in table.experiment.methods:
        for run in table.candidates("relu", method):
            if run.path.is_file():
                errors = findings.errors("beyond", "relu", method)
                rows.append([method, f"{error_of(run):.2f}", in_words(errors), str(len(errors))])
    others = [[name, "–", f"{e:g} ({where})", "–"] for name, (e, where) in NEIGHBOURS.items()]
    return rows + others if len(rows) > 1 else rows


def epsilon_rows(findings):
    """Return test error and resistance along ε."""
    rows = [["units", "ε", "test error (%)", "FGSM 0.1", "PGD 0.1", "n"]]
    for net in EXPERIMENTS["epsilon"].nets:
        for epsilon in EPSILONS:
            runs = findings.runs("epsilon", net, f"{epsilon:g}")
            if runs:
                errors = [[r["error"] for r in runs]]
                errors += [
                    [r["attacks"][a]["clipped"] for r in runs] for a in ("FGSM 0.1", "PGD 0.1")
                ]
                cells = [in_words(of) for of in errors]
                rows.append([UNITS[net], f"{epsilon:g}", *cells, str(len(runs))])
    return rows


def choice_rows(findings, experiment):
    """Return the validation errors of all candidates, from which the settings were chosen."""
    rows = [["units", "method", "candidate", "validation error (%)", "chosen"]]
    names = [experiment, "mnist-dropout"] if experiment == "mnist" else [experiment]
    for name in names:
        table = findings.tables[name]
        for net, method in product(table.experiment.nets, table.experiment.methods):
            chosen = table.chosen(net, method)
            for run in table.candidates(net, method):
                if run.path.is_file():
                    mark = "yes" if run.settings == chosen else ""
                    words = settings_in_words(run.settings, table.experiment.nets[net])
                    rows.append([UNITS[net], method, words, f"{error_of(run):.2f}", mark])
    return rows


TABLES = {
    "mnist": lambda f: error_rows(f, "mnist"),
    "resistance clipped": lambda f: resistance_rows(f, "clipped"),
    "resistance not clipped": lambda f: resistance_rows(f, "not clipped"),
    "transfer": transfer_rows,
    "cifar": lambda f: error_rows(f, "cifar"),
    "beyond": beyond_rows,
    "epsilon": epsilon_rows,
    "mnist choice": lambda f: choice_rows(f, "mnist"),
    "cifar choice": lambda f: choice_rows(f, "cifar"),
}


# ---- sentences -----------------------------------------------------------------------


def compared(errors, figure, whose):
    """Return in words how the mean of `errors` stands to a `figure` of others."""
    distance = mean(errors) - figure
    if abs(distance) < 0.005:
        return f"the same as {whose} {figure:.2f} %"
    side = "above" if distance > 0 else "below"
    return f"{abs(distance):.2f} points {side} {whose} {figure:.2f} %"


def difference(better, worse):
    """Return in words how far two sets of errors, seed by seed, lie apart."""
    pairs = [a - b for a, b in zip(worse, better, strict=False)]
    spread = f" ± {stdev(pairs):.2f}" if len(pairs) > 1 else ""
    return f"{mean(pairs):.2f}{spread} points"


def seeds_in_words(n):
    """Return the number of seeds, and what a single one is worth."""
    return f"{n} seeds" if n > 1 else "a single seed so far, no claim"


def mnist_sentences(findings):
    """Return what the runs say of the paper's claims on MNIST."""
    sentences = []
    for net, units in UNITS.items():
        plain, adversarial = (findings.errors("mnist", net, m) for m in (PLAIN, ADVERSARIAL))
        if not (plain and adversarial):
            continue
        lowered = all(a < p for a, p in zip(adversarial, plain, strict=False))
        verb = "lowers" if lowered else "does not always lower"
        text = (
            f"With {units} units adversarial back-propagation {verb} the test error: "
            f"{in_words(plain)} % without, {in_words(adversarial)} % with it "
            f"({seeds_in_words(len(adversarial))})"
        )
        if (net, ADVERSARIAL) in OF_THE_PAPER:
            figures = [OF_THE_PAPER[net, method] for method in (PLAIN, ADVERSARIAL)]
            text += (
                f". That is {compared(plain, figures[0], 'the paper’s')} without, and "
                f"{compared(adversarial, figures[1], 'the paper’s')} with it"
            )
        signs = findings.errors("mnist", net, SIGNS)
        if signs:
            text += f". Random signs of the same ε leave {in_words(signs)} %"
        sentences.append(text + ".")
    return sentences


def resistance_sentences(findings):
    """Return what the runs say of the resistance to adversarial examples."""
    sentences = []
    for net, units in UNITS.items():
        words = [
            [
                in_words([run["attacks"][attack]["clipped"] for run in runs])
                for attack in ("FGSM 0.1", "PGD 0.1")
            ]
            for runs in (findings.runs("mnist", net, method) for method in (PLAIN, ADVERSARIAL))
            if runs
        ]
        if len(words) == 2:
            sentences.append(
                f"With {units} units the error under FGSM of ε = 0.1, within [0, 1], is "
                f"{words[0][0]} % after plain and {words[1][0]} % after adversarial "
                f"back-propagation, under PGD {words[0][1]} and {words[1][1]} %."
            )
    return sentences


def cifar_sentences(findings):
    """Return what the runs say of the likeness to dropout on CIFAR-10."""
    errors = {m: findings.errors("cifar", "relu", m) for m in EXPERIMENTS["cifar"].methods}
    if not all(errors.values()):
        return []
    gains = {m: difference(errors[m], errors[PLAIN]) for m in (ADVERSARIAL, DROPOUT, SIGNS, BOTH)}
    n = len(errors[PLAIN])
    return [
        f"Against {in_words(errors[PLAIN])} % of plain back-propagation ({seeds_in_words(n)}) "
        "the test error falls by "
        + ", ".join(f"{gain} with {method}" for method, gain in gains.items())
        + "."
    ]


SENTENCES = {
    "mnist": mnist_sentences,
    "resistance": resistance_sentences,
    "cifar": cifar_sentences,
}


# ---- pictures ------------------------------------------------------------------------


def draw_resistance(findings, axes):
    """Draw the error under FGSM along ε, one of the `axes` for each kind of units."""
    for axis, (net, units) in zip(axes, UNITS.items(), strict=True):
        for name, method in methods_of("mnist"):
            runs = findings.runs(name, net, method)
            if not runs:
                continue
            along = [[run["error"] for run in runs]]
            along += [
                [run["attacks"][f"FGSM {epsilon:g}"]["clipped"] for run in runs]
                for epsilon in FGSM_EPSILONS
            ]
            middle = [mean(errors) for errors in along]
            axis.plot((0, *FGSM_EPSILONS), middle, "o-", color=COLOURS[method], label=method)
        axis.set(title=f"{units} units", xlabel="ε of FGSM", ylim=(0, 100))
    axes[0].set_ylabel("test error (%)")
    axes[-1].legend(*axes[-1].get_legend_handles_labels())


def draw_epsilon(findings, axes):
    """Draw the test error, and the error under attack, along the ε of the training."""
    figures = {
        "test error (%)": lambda run: run["error"],
        "error under PGD, ε = 0.1 (%)": lambda run: run["attacks"]["PGD 0.1"]["clipped"],
    }
    for axis, (title, figure) in zip(axes, figures.items(), strict=True):
        for net in EXPERIMENTS["epsilon"].nets:
            found = {
                epsilon: findings.errors("epsilon", net, f"{epsilon:g}", figure)
                for epsilon in EPSILONS
            }
            found = {epsilon: errors for epsilon, errors in found.items() if errors}
            spread = [stdev(e) if len(e) > 1 else 0.0 for e in found.values()]
            middle = [mean(e) for e in found.values()]
            axis.errorbar(list(found), middle, spread, marker="o", label=f"{UNITS[net]} units")
        axis.set(xlabel="ε of the training", ylabel=title)
    axes[0].legend(*axes[0].get_legend_handles_labels())


def main(argv=None):
    """Print all that is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=FOLDER)
    findings = Findings(parser.parse_args(argv).results)
    for name, rows_of in TABLES.items():
        rows = rows_of(findings)
        if len(rows) > 1:
            print(f"## {name}\n\n{markdown(rows)}\n")
    for sentences_of in SENTENCES.values():
        print(*sentences_of(findings), sep="\n")


if __name__ == "__main__":
    main()
