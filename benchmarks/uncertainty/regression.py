"""Nine regression tables with published divisions: error and likelihood, beside published ones.

    python -m benchmarks.uncertainty.regression --choose   # a rate, on a tenth of training rows
    python -m benchmarks.uncertainty.regression --choose-steps  # and mini-batches, the rate falling
    python -m benchmarks.uncertainty.regression --settings # defaults of the search, on the same
    python -m benchmarks.uncertainty.regression            # goes on where it stopped
    python -m benchmarks.uncertainty.regression --table    # what has been found so far

The benchmark of Hernández-Lobato and Adams (2015), as the file that ``--data`` names has it. The
settings are chosen without a test row, on a tenth of the training rows of the first division:
``--choose`` takes one rate for *Deep Ensembles' net* on all tables, and ``--choose-steps``, which
was added when that net had turned out to be behind its published figures, looks for better steps;
``--settings`` tries on the five small tables what `AdvBPRegressorCV` could have as its defaults. A
method on a table writes one JSON file, division by division, under
``benchmarks/results/uncertainty/regression/``.
"""

import argparse
import json
import time
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import root_mean_squared_error
from sklearn.preprocessing import StandardScaler

from benchmarks.harness import markdown, say
from benchmarks.passport import RESULTS, ROOT, write_json
from sk_advbp import AdvBPRegressor, AdvBPRegressorCV, log_likelihood_score

FOLDER = RESULTS / "uncertainty/regression"
CHOICE = RESULTS / "regression_choice.json"
STEPS_CHOICE = RESULTS / "regression_steps.json"

# Table 1 of arXiv:1612.01474 and the readme of the rerun of Monte Carlo dropout of 2018
# (github.com/yaringal/DropoutUncertaintyExps): RMSE, its ±, negative log likelihood, its ±.
PUBLISHED = {
    "Deep Ensembles": {
        "yacht": (1.58, 0.48, 1.18, 0.21),
        "bostonHousing": (3.28, 1.00, 2.41, 0.25),
        "energy": (2.09, 0.29, 1.38, 0.22),
        "concrete": (6.03, 0.58, 3.06, 0.18),
        "wine_quality_red": (0.64, 0.04, 0.94, 0.12),
        "kin8nm": (0.09, 0.00, -1.20, 0.02),
        "power_plant": (4.11, 0.17, 2.79, 0.04),
        "naval_propulsion_plant": (0.00, 0.00, -5.63, 0.05),
        "protein_tertiary_structure": (4.71, 0.06, 2.83, 0.02),
    },
    "MC dropout": {
        "yacht": (0.67, 0.05, 1.25, 0.01),
        "bostonHousing": (2.90, 0.18, 2.40, 0.04),
        "energy": (0.54, 0.06, 1.21, 0.01),
        "concrete": (4.82, 0.16, 2.93, 0.02),
        "wine_quality_red": (0.62, 0.01, 0.93, 0.01),
        "kin8nm": (0.08, 0.00, -1.14, 0.01),
        "power_plant": (4.01, 0.04, 2.80, 0.01),
        "naval_propulsion_plant": (0.00, 0.00, -4.45, 0.00),
        "protein_tertiary_structure": (4.27, 0.02, 2.87, 0.00),
    },
}
# The smallest first.
TABLES = tuple(PUBLISHED["Deep Ensembles"])

# What the benchmark fixes, and what Deep Ensembles says of its net.
FIXED = {"max_epochs": 40, "batch_size": 100, "n_nets": 5, "lr_schedule": "constant"}
FIXED |= {"output": "gaussian", "epsilon": 0.01, "clean_weight": 0.5}
STATED_RATE = 0.1
RATES = {str(rate): {"lr": rate} for rate in (0.001, 0.003, 0.01, 0.03, STATED_RATE)}
STEPS = {
    f"{rate}, batches of {size}": {"lr": rate, "batch_size": size, "lr_schedule": "linear"}
    for rate in (0.003, 0.01, 0.03)
    for size in (16, 32, 100)
}


# What the search could have as its defaults: units of one layer, epochs, rate.
SETTINGS = ((256, 100, 0.005), (50, 100, 0.01), (50, 200, 0.01), (50, 100, 0.02))
SETTINGS += ((100, 100, 0.01), (100, 200, 0.01), (100, 100, 0.02))
SMALL = TABLES[:5]


class Division:
    """One division of a table: standardised training rows and test rows."""

    def __init__(self, data, table, number):
        X, y = data[f"{table}_X"], data[f"{table}_y"]
        is_test = np.zeros(len(y), bool)
        is_test[data[f"{table}_test"][number]] = True
        scaler = StandardScaler().fit(X[~is_test])
        self.train = scaler.transform(X[~is_test]), y[~is_test]
        self.test = scaler.transform(X[is_test]), y[is_test]

    def without_test(self):
        """Give up the test rows; test on a tenth of the training rows in their place."""
        X, y = self.train
        order = np.random.default_rng(0).permutation(len(y))
        held_out, rest = np.split(order, [len(y) // 10])
        self.train, self.test = (X[rest], y[rest]), (X[held_out], y[held_out])
        return self


# ---- the methods -----------------------------------------------------------------------


def ensemble(steps, table, division, seed):
    """Return Deep Ensembles' net, with what is said of its steps."""
    sizes = (100,) if table == "protein_tertiary_structure" else (50,)
    spread = np.ptp(division.train[0], axis=0)
    return AdvBPRegressor(sizes, epsilon_unit=spread, random_state=seed, **FIXED | steps)


def chosen(path):
    """Return what was chosen for all tables."""
    return json.loads(path.read_text("utf-8"))["chosen"]


def search(table, division, seed, **options):
    """Return the search in its defaults."""
    return AdvBPRegressorCV(output="gaussian", random_state=seed, **options)


def random_signs(table, division, seed):
    """Return the nets of the search with the same ε and epochs, moved by random signs."""
    found = search(table, division, seed).fit(*division.train)
    return AdvBPRegressor(
        found.hidden_layer_sizes,
        output="gaussian",
        n_nets=5,
        epsilon=found.epsilon_,
        max_epochs=found.max_epochs_,
        perturbation="random",
        random_state=seed,
    )


OURS, PLAIN, RANDOM = "AdvBPRegressorCV", "the same, ε = 0", "its ε, random signs"
CHOSEN, STATED = "Deep Ensembles' net", "the same, rate 0.1"
STEPPING = "the same, steps chosen"
METHODS = {
    CHOSEN: lambda *given: ensemble(chosen(CHOICE), *given),
    STATED: partial(ensemble, {"lr": STATED_RATE}),
    OURS: search,
    PLAIN: partial(search, epsilons=[0]),
    RANDOM: random_signs,
    STEPPING: lambda *given: ensemble(chosen(STEPS_CHOICE), *given),
}


# In the tables: ours first, and each beside what it is "the same" as.
SHOWN = (OURS, PLAIN, RANDOM, CHOSEN, STATED, STEPPING)


def measured(method, table, division, seed):
    """Return error and negative log likelihood on the test rows, and what was chosen."""
    start = time.perf_counter()
    net = METHODS[method](table, division, seed).fit(*division.train)
    seconds = time.perf_counter() - start
    X, y = division.test
    found = {
        "rmse": float(root_mean_squared_error(y, net.predict(X))),
        "nll": -log_likelihood_score(net, X, y),
        "seconds": round(seconds, 1),
    }
    if method in (OURS, PLAIN):
        found |= {"epsilon": net.epsilon_, "max_epochs": net.max_epochs_}
    return found


def choose(candidates, tables, data, path):
    """Try each on a tenth of the training rows of the first division, and write the best."""
    tried = {}
    for table in tables:
        division = Division(data, table, 0).without_test()
        nets = {name: ensemble(steps, table, division, 0) for name, steps in candidates.items()}
        tried[table] = {
            name: -log_likelihood_score(net.fit(*division.train), *division.test)
            for name, net in nets.items()
        }
        say(f"{table}: {tried[table]}")
    # Likelihoods of different tables do not compare: each as its distance from the best.
    losses = np.array([list(of_table.values()) for of_table in tried.values()])
    behind = (losses - losses.min(axis=1, keepdims=True)).mean(axis=0)
    best = list(candidates.values())[int(behind.argmin())]
    distances = dict(zip(candidates, behind.tolist(), strict=True))
    write_json(path, {"chosen": best, "behind the best": distances, "tried": tried})
    say(f"{best}, of {distances}")


def try_settings(data, path):
    """Try each of the settings, at two ε and with both outputs, and write the errors."""
    tried = []
    for units, epochs, rate in SETTINGS:
        for table in SMALL:
            division = Division(data, table, 0).without_test()
            for output, epsilon in product(("identity", "gaussian"), (0.02, 0.08)):
                given = {"output": output, "epsilon": epsilon, "n_nets": 5, "random_state": 0}
                net = AdvBPRegressor((units,), lr=rate, max_epochs=epochs, **given)
                X, y = division.test
                net.fit(*division.train)
                found = {"rmse": float(root_mean_squared_error(y, net.predict(X)))}
                if output == "gaussian":
                    found["nll"] = -log_likelihood_score(net, X, y)
                setting = {"units": units, "max_epochs": epochs, "lr": rate}
                tried.append(setting | {"table": table, "epsilon": epsilon} | found)
    write_json(path, {"tried settings": tried})
    print(markdown(rows_of_settings(tried)))


def rows_of_settings(tried):
    """Return a row for each setting: on each table the better of two ε, by RMSE and likelihood."""
    rows = [["units, epochs, rate", *(f"{table}: RMSE, NLL" for table in SMALL)]]
    for setting in SETTINGS:
        cells = []
        for table in SMALL:
            of = [t for t in tried if t["table"] == table]
            of = [t for t in of if (t["units"], t["max_epochs"], t["lr"]) == setting]
            rmse = min(t["rmse"] for t in of if "nll" not in t)
            cells.append(f"{rmse:.2f}, {min(t['nll'] for t in of if 'nll' in t):.2f}")
        rows.append([", ".join(map(str, setting)), *cells])
    return rows


# ---- runs and tables -------------------------------------------------------------------


def do(data, folder, method, table, most):
    """Measure the divisions that are not yet measured, writing the file after each."""
    path = folder / f"{list(METHODS).index(method)}.{table}.json"
    found = json.loads(path.read_text("utf-8"))["divisions"] if path.is_file() else []
    for number in range(len(found), min(most, len(data[f"{table}_test"]))):
        found.append(measured(method, table, Division(data, table, number), number))
        write_json(path, {"method": method, "table": table, "divisions": found})
        say(f"{table}, {method}, {number}: {found[-1]}")


def runs_of(folder=FOLDER):
    """Return {table: {method: the divisions' figures}} of what is finished."""
    files = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return {
        table: {f["method"]: f["divisions"] for f in files if f["table"] == table}
        for table in TABLES
    }


def mean_and_error(divisions, kind):
    """Return the mean over divisions and its standard error."""
    values = np.array([d[kind] for d in divisions])
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return values.mean(), error


def rows_of(runs, kind):
    """Return the table of the `runs` for ``"nll"`` or ``"rmse"``, its first row the titles.

    In brackets the number of divisions, the first ones.
    """
    place = {"rmse": 0, "nll": 2}[kind]
    digits = {"rmse": 3, "nll": 2}[kind]
    rows = [["table", *PUBLISHED, *SHOWN]]
    for table, of_methods in runs.items():
        published = [PUBLISHED[source][table][place : place + 2] for source in PUBLISHED]
        cells = [f"{mean:.2f} ± {error:.2f}" for mean, error in published]
        for method in SHOWN:
            divisions = of_methods.get(method)
            mean, error = mean_and_error(divisions, kind) if divisions else (np.nan, np.nan)
            uncertain = "" if np.isnan(error) else f" ± {error:.{digits}f}"
            cells.append(f"{mean:.{digits}f}{uncertain} ({len(divisions)})" if divisions else "–")
        rows.append([table, *cells])
    return rows


def sentences(runs):
    """Return how many of the measured tables are at the published likelihoods, in words."""
    said = []
    for method in (CHOSEN, STEPPING, OURS):
        found = {t: mean_and_error(m[method], "nll") for t, m in runs.items() if method in m}
        for source, published in PUBLISHED.items():
            below = [t for t, (mean, _) in found.items() if mean < published[t][2]]
            near = [
                t
                for t, (mean, error) in found.items()
                if mean <= published[t][2] + 2 * np.hypot(error, published[t][3])
            ]
            said.append(
                f"{method}: negative log likelihood below that of {source} on {len(below)} of "
                f"{len(found)} tables, below or within two standard errors on {len(near)}."
            )
    return said


def main(argv=None):
    """Do what is not yet done, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/uci_regression.npz"))
    parser.add_argument("--choose", action="store_true", help="only choose the rate")
    parser.add_argument("--choose-steps", action="store_true", help="only choose those")
    parser.add_argument("--settings", action="store_true", help="only try defaults of the search")
    parser.add_argument("--table", action="store_true", help="only print what was found")
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES, metavar="TABLE")
    parser.add_argument("--methods", nargs="+", type=int, default=range(len(METHODS)))
    parser.add_argument("--divisions", type=int, default=20, help="at most, the first ones")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the JSON files")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    with np.load(given.data) as file:
        data = dict(file) if not given.table else {}
    if given.choose:
        choose(RATES, TABLES, data, CHOICE)
        return
    if given.choose_steps:
        choose(STEPS, TABLES[:6], data, STEPS_CHOICE)
        return
    if given.settings:
        try_settings(data, CHOICE.with_name("regression_settings.json"))
        return
    if not given.table:
        for method in [list(METHODS)[i] for i in given.methods]:
            for table in given.tables:
                do(data, given.results, method, table, given.divisions)
    runs = runs_of(given.results)
    # Together in one file, for the pages.
    write_json(given.results.parent.with_name("regression.json"), {"likelihoods": runs})
    for kind in ("nll", "rmse"):
        print(markdown(rows_of(runs, kind)), end="\n\n")
    print("\n".join(sentences(runs)))


if __name__ == "__main__":
    main()
