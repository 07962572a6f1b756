"""What the runs of `reproduce.py` found: tables, sentences and pictures, read from their files.

    python -m benchmarks.reproduction.findings

prints all tables and sentences. Nothing here is typed by hand but the figures of others, each
with its source.
"""

import argparse
import json
from itertools import product
from math import sqrt
from pathlib import Path
from statistics import mean, stdev

from benchmarks.harness import markdown, mean_in_words
from benchmarks.reproduction import final, search_mnist
from benchmarks.reproduction.experiments import (
    ADVERSARIAL,
    BOTH,
    DROPOUT,
    EPSILONS,
    EXPERIMENTS,
    MNIST_METHODS,
    PLAIN,
    SIGNS,
)
from benchmarks.reproduction.reproduce import FOLDER, Table, error_of, slug
from benchmarks.reproduction.trials import FGSM_EPSILONS, TRANSFER_EPSILONS

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

    def finals(self, units, method=ADVERSARIAL):
        """Return the figures of each finished seed of the setting that the search chose."""
        paths = [run.path for run in final.nets_of(units, method, self.folder / "final")]
        return [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]

    def together(self, units):
        """Return the error of these nets' mean probabilities, None before all are trained."""
        path = self.folder / "final" / f"{units}.together.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def searched(self, units):
        """Return what the search tried for the `units`, the lowest error first."""
        return [one for one in search_mnist.tried(self.folder / "search") if one.units == units]

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


def settings_in_words(settings, net):
    """Return what was chosen, in words; the size of the layers where it is not the net's."""
    given = {k: settings[k] for k in REPORTED if settings.get(k) not in (None, 0.0)}
    if list(given["hidden_layer_sizes"]) == list(net.settings["hidden_layer_sizes"]):
        del given["hidden_layer_sizes"]
    return ", ".join(f"{k}={v}" for k, v in given.items())


# ---- tables --------------------------------------------------------------------------


def error_rows(findings, experiment):
    """Return test and training errors of all nets and methods."""
    titles = ("test error (%)", "training error (%)", "test - training", "n", "paper", "chosen")
    rows = [["units", "method", *titles]]
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
                    over_seeds(runs),
                    over_seeds(runs, lambda run: run["training_error"]),
                    over_seeds(runs, gap),
                    str(len(runs)),
                    f"{paper:.2f}" if paper else "–",
                    settings_in_words(runs[0]["settings"], EXPERIMENTS[name].nets[net]),
                ]
            )
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
    """Return the test errors of the nets with the settings that the search chose."""
    titles = ("test error (%)", "of each seed", "paper", "training error (%)", "s a net")
    rows = [["units", "method", *titles]]
    for units, method in product(final.CHOSEN["units"], final.METHODS):
        runs = findings.finals(units, method)
        if runs:
            row = [UNITS[units], method, over_seeds(runs)]
            row += [", ".join(f"{clean(run):.2f}" for run in runs)]
            row += [f"{OF_THE_PAPER[units, method]:.2f}"]
            row += [over_seeds(runs, lambda run: run["training_error"])]
            rows.append([*row, f"{mean(run['seconds'] for run in runs):.0f}"])
    return rows


def search_rows(findings):
    """Return the validation errors of all that the search tried."""
    rows = search_mnist.rows_of(findings.folder / "search")
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


def carried(source, target, attack):
    """Return the function that reads how often examples against `source` fool `target`."""
    return lambda run: run["errors"][f"{source} to {target}"][attack]


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
    rows = [["candidate", "settings", "validation error (%)", "test error (%)", "n"]]
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
    rows = [["units", "ε", "test error (%)", *FOOLED_BY, "n"]]
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
    "headline": headline_rows,
    "mnist": lambda f: error_rows(f, "mnist"),
    "final": final_rows,
    "search": search_rows,
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


def compared(runs, figure, whose):
    """Return in words how the mean test error of `runs` stands to a `figure` of others."""
    distance = mean(map(clean, runs)) - figure
    if abs(distance) < 0.005:
        return f"{whose} {figure:.2f} %"
    side = "above" if distance > 0 else "below"
    return f"{abs(distance):.2f} points {side} {whose} {figure:.2f} %"


def seeds_in_words(runs):
    """Return the number of seeds, and what a single one is worth."""
    return f"{len(runs)} seeds" if len(runs) > 1 else "a single seed so far, no claim"


def gains(runs, over):
    """Return by how many points of test error, seed by seed, `runs` are better than `over`."""
    return [clean(b) - clean(a) for a, b in zip(runs, over, strict=True)]


def lower(runs, than, figure=clean):
    """Return whether a figure of `runs` is below that of the others in every seed."""
    return all(figure(a) < figure(b) for a, b in zip(runs, than, strict=True))


def verdict(truth, runs):
    """Return what becomes of a claim, of which nothing is said by a single seed."""
    if len(runs) < 2:
        return "is not judged yet"
    return "holds" if truth else "does not hold"


def mnist_sentences(findings):
    """Return what the runs say of the paper's claims on MNIST."""
    sentences = []
    for net, units in UNITS.items():
        runs = findings.pairs("mnist", net, (PLAIN, SIGNS, ADVERSARIAL))
        plain, signs, adversarial = runs.values()
        if not plain:
            continue
        text = (
            f"With {units} units the claim {verdict(lower(adversarial, plain), plain)}: "
            f"adversarial back-propagation takes the test error from {over_seeds(plain)} to "
            f"{over_seeds(adversarial)} % ({seeds_in_words(plain)}). Random signs of the same ε "
            f"take it to {over_seeds(signs)} %."
        )
        if (net, ADVERSARIAL) in OF_THE_PAPER:
            without, with_it = (
                compared(runs[method], OF_THE_PAPER[net, method], "the paper’s")
                for method in (PLAIN, ADVERSARIAL)
            )
            text += f" Without it the error is {without}, with it {with_it}."
        sentences.append(text)
    return sentences


def standard_error_in_words(figure, n_images=10_000):
    """Return what so many test images leave open of an error of `figure` percent."""
    error = sqrt(figure * (100 - figure) / n_images)
    return f"{n_images:,} images leave an error of {figure:.2f} % a standard error of {error:.2f}."


def reached(runs, figure):
    """Return whether the mean test error of `runs` is down to the `figure`, in words."""
    if len(runs) < 2:
        return "not judged yet"
    return "reached" if round(mean(map(clean, runs)), 2) <= figure else "missed"


def on_validation(searched, changes):
    """Return the error that was found for the `changes`, and how far the next candidate is."""
    errors = {one.changes: one for one in searched}
    if changes not in errors:
        return ""
    found = errors.pop(changes).of("error")
    nearest = min((one.error for one in errors.values()), default=None)
    others = f", the others {nearest:.2f} % and more" if nearest is not None else ""
    return f", which has {mean_in_words(found)} % on the validation images{others}"


def final_sentences(findings):
    """Return whether the paper's figures were reached with the settings that the search chose."""
    sentences = []
    for units, of in final.CHOSEN["units"].items():
        runs, searched = findings.finals(units), findings.searched(units)
        if not runs:
            continue
        figure = OF_THE_PAPER[units, ADVERSARIAL]
        changes = ", ".join(search_mnist.in_words(of["changes"]))
        text = (
            f"With {UNITS[units]} units the search tried {len(searched)} settings and chose "
            f"{changes}{on_validation(searched, changes)}. Trained on all images, the nets with it "
            f"have a test error of {over_seeds(runs)} % ({seeds_in_words(runs)}), "
            f"{compared(runs, figure, 'the paper’s')}"
        )
        text += f": the mark is {reached(runs, figure)}."
        sentences += [text, standard_error_in_words(figure)]
        if before := findings.runs("mnist", units, ADVERSARIAL):
            sentences.append(
                f"The nets of the comparison above have {over_seeds(before)} % "
                f"({seeds_in_words(before)})."
            )
        if control := findings.finals(units, PLAIN):
            sentences.append(
                f"Plain back-propagation, all else the same, has {over_seeds(control)} % "
                f"({seeds_in_words(control)})."
            )
        if together := findings.together(units):
            sentences.append(
                f"All {together['n_nets']} adversarial nets together, by the mean of their "
                f"probabilities, have {together['error']:.2f} %."
            )
    return sentences


def final_in_short(findings):
    """Return the same in one sentence; empty before."""
    parts = []
    for units in final.CHOSEN["units"]:
        if runs := findings.finals(units):
            figure = OF_THE_PAPER[units, ADVERSARIAL]
            parts.append(
                f"{over_seeds(runs)} % with {UNITS[units]} units ({seeds_in_words(runs)}; the "
                f"paper’s {figure:.2f} % is {reached(runs, figure)})"
            )
    if not parts:
        return ""
    return (
        "After a longer search on these images for how low a single net without dropout comes, "
        f"nets with what was chosen have a test error of {' and '.join(parts)}."
    )


def resistance_sentences(findings):
    """Return what the runs say of the resistance to adversarial examples."""
    sentences = []
    for net, units in UNITS.items():
        plain, adversarial = findings.pairs("mnist", net, (PLAIN, ADVERSARIAL)).values()
        if not plain:
            continue
        figures = [under(attack) for attack in FOOLED_BY]
        fgsm, pgd = (
            f"from {over_seeds(plain, figure)} to {over_seeds(adversarial, figure)} %"
            for figure in figures
        )
        truth = all(lower(adversarial, plain, figure) for figure in figures)
        sentences.append(
            f"With {units} units the claim {verdict(truth, plain)}: the error under FGSM of "
            f"ε = 0.1, within [0, 1], goes {fgsm}, under PGD {pgd} ({seeds_in_words(plain)})."
        )
    return sentences


def transfer_sentences(findings):
    """Return what the runs say of examples that are carried from net to net."""
    sentences = []
    for net, units in UNITS.items():
        runs = findings.runs("mnist", net, "transfer")
        if runs:
            there = over_seeds(runs, carried(PLAIN, ADVERSARIAL, "FGSM 0.25"))
            back = over_seeds(runs, carried(ADVERSARIAL, PLAIN, "FGSM 0.25"))
            sentences.append(
                f"With {units} units the examples of ε = 0.25 against the plain net give the "
                f"adversarial one an error of {there} %, those against the adversarial net give "
                f"the plain one {back} % ({seeds_in_words(runs)})."
            )
    if sentences:
        there, back, source = OF_MAXOUT.values()
        sentences.append(f"For maxout nets {there} and {back} % are reported ({source}).")
    return sentences


def cifar_sentences(findings):
    """Return what the runs say of the likeness to dropout on CIFAR-10."""
    runs = findings.pairs("cifar", "relu", EXPERIMENTS["cifar"].methods)
    plain = runs[PLAIN]
    if not plain:
        return []
    gained = {method: gains(of, plain) for method, of in runs.items() if method != PLAIN}
    ours, theirs = mean(gained[ADVERSARIAL]), mean(gained[DROPOUT])
    similar = theirs > 0 and 0.5 <= ours / theirs <= 2
    return [
        f"Against {over_seeds(plain)} % of plain back-propagation ({seeds_in_words(plain)}) the "
        "test error falls by "
        + ", ".join(f"{mean_in_words(gain)} points with {m}" for m, gain in gained.items())
        + ".",
        f"The claim {verdict(similar, plain)}, if similar means a gain in test error from half to "
        "twice that of dropout.",
        "The test error is above the training error by "
        + ", ".join(f"{over_seeds(of, gap)} points with {method}" for method, of in runs.items())
        + ".",
    ]


def beyond_sentences(findings):
    """Return how the net that was best on the validation images does on the test images."""
    table = findings.tables["beyond"]
    sentences = []
    for method in table.final_methods("relu"):
        runs = findings.runs("beyond", "relu", method)
        if runs:
            marks = [
                compared(runs, error, f"that of {name},") + f" ({where})"
                for name, (error, where) in NEIGHBOURS.items()
            ]
            sentences.append(
                f"Of {len(table.experiment.methods)} candidates “{method}” did best on the "
                f"validation images. Its test error, {over_seeds(runs)} % "
                f"({seeds_in_words(runs)}), is {'; '.join(marks)}."
            )
    return sentences


def epsilon_sentences(findings):
    """Return what to expect along ε."""
    sentences = []
    for net, units in UNITS.items():
        if net not in EXPERIMENTS["epsilon"].nets:
            continue
        along = findings.pairs("epsilon", net, [f"{epsilon:g}" for epsilon in EPSILONS])
        if not all(along.values()):
            continue
        errors = {epsilon: mean(map(clean, runs)) for epsilon, runs in along.items()}
        fooled = {e: mean(map(under("PGD 0.1"), runs)) for e, runs in along.items()}
        best, hardest = min(errors, key=errors.get), min(fooled, key=fooled.get)
        helps = [epsilon for epsilon, error in errors.items() if error < errors["0"]]
        by_one_step = {e: mean(map(under("FGSM 0.1"), runs)) for e, runs in along.items()}
        collapsed = [e for e, error in by_one_step.items() if error < errors[e] / 2 < fooled[e] / 2]
        sentences.append(
            f"With {units} units the test error is least at ε = {best}, {errors[best]:.2f} % "
            f"against {errors['0']:.2f} % without ({seeds_in_words(along['0'])}); it is below that "
            f"at ε = {', '.join(helps)}. The error under PGD of ε = 0.1 is least at ε = {hardest}: "
            f"{fooled[hardest]:.2f} % against {fooled['0']:.2f} %."
        )
        if collapsed:
            sentences[-1] += (
                f" At ε = {', '.join(collapsed)} the nets err less under FGSM than on clean "
                "images, and PGD fools them: catastrophic overfitting."
            )
    return sentences


SENTENCES = {
    "mnist": mnist_sentences,
    "final": final_sentences,
    "resistance": resistance_sentences,
    "transfer": transfer_sentences,
    "cifar": cifar_sentences,
    "beyond": beyond_sentences,
    "epsilon": epsilon_sentences,
}


# ---- pictures ------------------------------------------------------------------------


def draw_resistance(findings, axes):
    """Draw the error under FGSM along ε, one of the `axes` for each kind of units."""
    for axis, (net, units) in zip(axes, UNITS.items(), strict=True):
        for name, method in methods_of("mnist"):
            runs = findings.runs(name, net, method)
            if not runs:
                continue
            figures = [clean, *(under(f"FGSM {epsilon:g}") for epsilon in FGSM_EPSILONS)]
            middle = [mean(map(figure, runs)) for figure in figures]
            axis.plot((0, *FGSM_EPSILONS), middle, "o-", color=COLOURS[method], label=method)
        axis.set(title=f"{units} units", xlabel="ε of FGSM", ylim=(0, 100))
    axes[0].set_ylabel("test error (%)")
    lines = axes[-1].get_legend_handles_labels()
    axes[-1].figure.legend(*lines, loc="outside lower center", ncols=len(COLOURS))


def draw_epsilon(findings, axes):
    """Draw the test error, and the error under attack, along the ε of the training."""
    figures = {
        "test error (%)": clean,
        "error under PGD, ε = 0.1 (%)": under("PGD 0.1"),
    }
    for axis, (title, figure) in zip(axes, figures.items(), strict=True):
        for net in EXPERIMENTS["epsilon"].nets:
            found = {
                epsilon: list(map(figure, findings.runs("epsilon", net, f"{epsilon:g}")))
                for epsilon in EPSILONS
            }
            found = {epsilon: errors for epsilon, errors in found.items() if errors}
            spread = [stdev(e) if len(e) > 1 else 0.0 for e in found.values()]
            middle = [mean(e) for e in found.values()]
            axis.errorbar(list(found), middle, spread, marker="o", label=f"{UNITS[net]} units")
        axis.set(xlabel="ε of the training", ylabel=title)
    # From below 1 % to where nothing is learnt.
    ticks = (1, 2, 5, 10, 20, 50, 100)
    axes[0].set(yscale="log", yticks=ticks, yticklabels=ticks, ylim=(0.7, 100))
    axes[0].minorticks_off()
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
