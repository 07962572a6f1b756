"""What the command line measures of a net, and the table that it prints."""

import time
from typing import NamedTuple

import numpy as np

__all__ = ["PGD_STEPS", "Row", "measure", "table"]

PGD_STEPS = 20


class Row(NamedTuple):
    """What is measured of one net; accuracies as shares of the test part."""

    clean: float
    fgsm: float
    pgd: float
    seconds: float


def attacked(net, data, epsilon, attack):
    """Return the test part, moved against `net`."""
    return net.adversarial_examples(
        data.X_test,
        data.y_test,
        epsilon=epsilon,
        attack=attack,
        n_steps=PGD_STEPS,
        random_state=0,
    )


def measure(net, data, epsilon):
    """Fit `net` and return its `Row`."""
    start = time.perf_counter()
    net.fit(data.X_train, data.y_train)
    seconds = time.perf_counter() - start
    under_attack = (
        net.score(attacked(net, data, epsilon, attack), data.y_test) for attack in ("fgsm", "pgd")
    )
    return Row(net.score(data.X_test, data.y_test), *under_attack, seconds)


def table(rows):
    """Return the table of means and, for several seeds, standard deviations, as text."""
    titles = ("", "clean accuracy", "under FGSM", f"under PGD-{PGD_STEPS}", "seconds of fit")
    lines = [titles]
    for method, of_seeds in rows.items():
        *accuracies, seconds = zip(*of_seeds, strict=True)
        cells = [mean_and_sd(100 * np.array(a), 1, " %") for a in accuracies]
        lines.append((method, *cells, mean_and_sd(np.array(seconds), 2, "")))
    width = max(len(cell) for line in lines for cell in line)
    return "\n".join(
        line[0].ljust(12) + "".join(cell.rjust(width + 2) for cell in line[1:]) for line in lines
    )


def mean_and_sd(values, digits, unit):
    """Return mean ± standard deviation as text; of one value no deviation is known."""
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}{unit}"
