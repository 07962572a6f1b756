"""What the figures on many tables say together: ranks, differences, and clear losses."""

import numpy as np
from scipy import stats

MODELS = (
    OURS := "ours, CV",
    PLAIN := "ours, CV, ε = 0",
    ONE_NET := "ours, one net",
    MLP := "MLP",
    TREES := "HistGradientBoosting",
    LINEAR := "linear",
    REALMLP := "RealMLP",
    REALMLP_OF_LOG_LOSS := "RealMLP, for log loss",
)
# The ranks are those of the search and other models; of RealMLP, the one that is set for it.
ABSENT = {"error": REALMLP_OF_LOG_LOSS, "log loss": REALMLP}
# More than this above plain back-propagation, and beyond chance, is a loss.
TOLERATED, CHANCE = 0.1, 0.005


def means(tables, model, measure):
    """Return the mean over the divisions of each table; None where a table lacks the figure."""
    of_tables = [t["models"].get(model, {}).get(measure) for t in tables]
    return None if None in of_tables else np.array([np.mean(of) for of in of_tables])


def mean_ranks(tables, measure):
    """Return {model: mean rank over the tables}; equal figures share a rank."""
    ranked = [m for m in tables[0]["models"] if m not in (ONE_NET, ABSENT.get(measure))]
    of_models = {model: means(tables, model, measure) for model in ranked}
    of_models = {model: of for model, of in of_models.items() if of is not None}
    if not of_models:
        return {}
    ranks = stats.rankdata(list(of_models.values()), axis=0).mean(axis=1)
    return dict(zip(of_models, ranks.tolist(), strict=True))


def difference(of, base):
    """Return how the figures of tables compare to those of another model or setting.

    Parameters
    ----------
    of, base : ndarray of shape (n_tables,)

    Returns
    -------
    comparison : dict
        Mean difference over the tables, its standard error (None of one table), and how many
        tables have a smaller and a larger figure.
    """
    above = np.subtract(of, base)
    n = len(above)
    error = float(above.std(ddof=1) / np.sqrt(n)) if n > 1 else None
    return {
        "mean": float(above.mean()),
        "se": error,
        "below": int((above < 0).sum()),
        "above": int((above > 0).sum()),
    }


def clearly_above(errors, plain):
    """Return whether errors lie clearly above those of ε = 0 on the same divisions.

    By more than 0.1 points, and beyond the one-sided 0.5 % bound of a t test.
    """
    above = np.subtract(errors, plain)
    n = len(above)
    half = stats.t.ppf(1 - CHANCE, n - 1) * above.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    return bool(above.mean() > TOLERATED and above.mean() - half > 0)


def losses(tables):
    """Return the names of the tables on which ours is clearly above its ε = 0."""
    return [
        t["table"]
        for t in tables
        if {OURS, PLAIN} <= t["models"].keys()
        and clearly_above(*(t["models"][model]["error"] for model in (OURS, PLAIN)))
    ]


def in_words(comparison, digits):
    """Return "mean ± standard error"."""
    error = "" if comparison["se"] is None else f" ± {comparison['se']:.{digits}f}"
    return f"{comparison['mean']:+.{digits}f}{error}"


def summary_rows(tables):
    """Return a row for each model: mean ranks, mean differences to ours, seconds in sum.

    Parameters
    ----------
    tables : list of dict
        All of classes or all of numbers.
    """
    models = list(tables[0]["models"])
    digits = {"error": 2, "log loss": 3, "Brier score": 4}
    measures = [m for m in digits if m in tables[0]["models"][models[0]]]
    ranks = {m: mean_ranks(tables, m) for m in measures if m != "Brier score"}
    titles = [f"mean rank, {m}" for m in ranks] + [f"{m} - ours" for m in measures]
    rows = [["model", *titles, "seconds in sum"]]
    for model in models:
        row = [model, *(f"{r[model]:.2f}" if model in r else "" for r in ranks.values())]
        for measure in measures:
            of, base = (means(tables, name, measure) for name in (model, OURS))
            known = of is not None and base is not None and model != OURS
            row.append(in_words(difference(of, base), digits[measure]) if known else "")
        seconds = means(tables, model, "seconds")
        rows.append([*row, "" if seconds is None else f"{seconds.sum():.1f}"])
    return rows


def changes_rows(changes):
    """Return a row for each change, with differences to the defaults."""
    epsilons = list(dict.fromkeys(epsilon for of in changes.values() for epsilon in of))
    measures = {"error": 2, "log loss": 4}
    titles = [f"{measure}, {epsilon}" for epsilon in epsilons for measure in measures]
    rows = [["instead of the default", *titles, "time"]]
    for change, of_epsilon in changes.items():
        row, times = [change], []
        for epsilon in epsilons:
            of = of_epsilon.get(epsilon)
            row += [in_words(of[m], digits) if of else "" for m, digits in measures.items()]
            times += [of["time"]] if of else []
        rows.append([*row, f"× {max(times):.1f}"])
    return rows
