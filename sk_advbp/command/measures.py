"""What the command line measures of a net, and the table that it prints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from sk_advbp._types import Floats
    from sk_advbp.command.datasets import TrainTest
    from sk_advbp.core.attacks import Attack
    from sk_advbp.estimators import AdvBPClassifier

__all__ = ["ATTACKS", "PGD_STEPS", "Row", "measure", "table"]

ATTACKS: tuple[Attack, ...] = ("fgsm", "pgd")
PGD_STEPS = 20


class Row(NamedTuple):
    """What is measured of one net; accuracies as shares of the test part."""

    clean: float
    fgsm: float
    pgd: float
    seconds: float


def attacked(net: AdvBPClassifier, data: TrainTest, epsilon: ArrayLike, attack: Attack) -> Floats:
    """Return the test part, moved against `net`."""
    return net.adversarial_examples(
        data.X_test,
        data.y_test,
        epsilon=epsilon,
        attack=attack,
        n_steps=PGD_STEPS,
        random_state=0,
    )


def measure(net: AdvBPClassifier, data: TrainTest, epsilon: ArrayLike) -> Row:
    """Fit `net` and return its `Row`."""
    start = time.perf_counter()
    net.fit(data.X_train, data.y_train)
    seconds = time.perf_counter() - start
    clean = net.score(data.X_test, data.y_test)
    fgsm, pgd = (net.score(attacked(net, data, epsilon, attack), data.y_test) for attack in ATTACKS)
    return Row(clean, fgsm, pgd, seconds)


def table(rows: dict[str, list[Row]]) -> str:
    """Return the table of means and, for several seeds, standard deviations, as text."""
    titles = ("", "clean accuracy", "under FGSM", f"under PGD-{PGD_STEPS}", "seconds of fit")
    lines: list[tuple[str, ...]] = [titles]
    for method, of_seeds in rows.items():
        *accuracies, seconds = zip(*of_seeds, strict=True)
        cells = [mean_and_sd(100 * np.array(a), 1, " %") for a in accuracies]
        lines.append((method, *cells, mean_and_sd(np.array(seconds), 2, "")))
    width = max(len(cell) for line in lines for cell in line)
    return "\n".join(
        line[0].ljust(12) + "".join(cell.rjust(width + 2) for cell in line[1:]) for line in lines
    )


def mean_and_sd(values: Floats, digits: int, unit: str) -> str:
    """Return mean ± standard deviation as text; of one value no deviation is known."""
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}{unit}"
