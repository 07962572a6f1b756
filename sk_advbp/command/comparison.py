"""Plain and adversarial back-propagation side by side: ``python -m sk_advbp``.

Both nets learn from the same rows with the same seeds and are then asked for the clean test
part and for adversarial examples of it, made against each net itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from skorch.callbacks import Callback

from sk_advbp.command.datasets import load_data
from sk_advbp.command.measures import ATTACKS, PGD_STEPS, measure, table
from sk_advbp.command.options import command_line, refuse_mixture
from sk_advbp.command.tables import compared_on_table, is_table
from sk_advbp.estimators import AdvBPClassifier
from sk_advbp.robustness import AdversarialExamplesDisplay, RobustnessCurveDisplay
from sk_advbp.robustness.images import drawable_shape

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from skorch import NeuralNet

    from sk_advbp.command.datasets import TrainTest
    from sk_advbp.command.measures import Row

DEFAULT_EPSILON = 0.08
CURVE_ROWS = 1000


class EpochTick(Callback):
    """Call a function at the end of each epoch."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Count one epoch."""
        self.tick()


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """Show how many of `total` epochs are done; yields the function that counts one."""
    if find_spec("rich") is None:
        with _plain_counter(total) as tick:
            yield tick
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = "epochs", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=total)
        yield lambda: progress.advance(task)


@contextmanager
def _plain_counter(total: int) -> Iterator[Callable[[], None]]:
    """Count on one line of stderr, where rich is not installed."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        print(f"\repochs {done}/{total}", end="", file=sys.stderr, flush=True)

    try:
        yield tick
    finally:
        print(file=sys.stderr)


def compare(
    options: Namespace, data: TrainTest
) -> tuple[dict[str, list[Row]], dict[str, AdvBPClassifier]]:
    """Fit both methods with every seed.

    Returns
    -------
    rows : dict
        For each method the `Row` of each seed.
    nets : dict
        For each method the net of the first seed.
    """
    methods = {"plain": 0.0, "adversarial": options.epsilon}
    given = {"hidden_layer_sizes": options.hidden, "max_epochs": options.epochs}
    given = {name: value for name, value in given.items() if value is not None}

    def net(epsilon: float, seed: int, callbacks: list[Callback] | None = None) -> AdvBPClassifier:
        return AdvBPClassifier(
            activation=options.activation,
            epsilon=epsilon,
            device=options.device,
            random_state=seed,
            callbacks=callbacks,
            **given,
        )

    epochs = len(methods) * options.seeds * net(0.0, 0).max_epochs
    # torch loads parts of itself at the first step, which no method's seconds should show.
    net(0.0, 0).set_params(max_epochs=1).fit(data.X_train[:100], data.y_train[:100])
    rows: dict[str, list[Row]] = {method: [] for method in methods}
    nets: dict[str, AdvBPClassifier] = {}
    with progress_bar(epochs) as tick:
        for seed in range(options.seeds):
            for method, epsilon in methods.items():
                fitted = net(epsilon, seed, [EpochTick(tick)])
                rows[method].append(measure(fitted, data, options.epsilon))
                nets.setdefault(method, fitted)
    return rows, nets


def settings(options: Namespace, data: TrainTest, net: AdvBPClassifier) -> str:
    """Return in one line what was trained on what."""
    sizes = ", ".join(map(str, net.hidden_layer_sizes))
    seeds = "seed" if options.seeds == 1 else "seeds"
    return (
        f"{options.data}: {len(data.X_train)} training and {len(data.X_test)} test rows, "
        f"{data.X_train.shape[1]} features\n"
        f"hidden layers {sizes} ({options.activation}), epsilon {options.epsilon:g}, "
        f"{net.max_epochs} epochs, {options.seeds} {seeds}, {net.device_}"
    )


def save_picture(
    path: Path, nets: dict[str, AdvBPClassifier], data: TrainTest, epsilon: float
) -> None:
    """Draw the first test image of up to eight classes."""
    from matplotlib.figure import Figure

    _, first = np.unique(data.y_test, return_index=True)
    X, y = data.X_test[first[:8]], data.y_test[first[:8]]
    figure = Figure(figsize=(1.4 + 1.1 * len(X), 1 + 4.2 * len(nets)), layout="constrained")
    figure.suptitle(f"FGSM, epsilon = {epsilon:g}; above each image the prediction, red when wrong")
    AdversarialExamplesDisplay.from_estimators(
        {f"{method} net": net for method, net in nets.items()},
        X,
        y,
        epsilon=epsilon,
        image_shape=data.image_shape,
        ax=figure.subplots(),
    )
    figure.savefig(path, dpi=150)


def save_curve(
    path: Path, nets: dict[str, AdvBPClassifier], data: TrainTest, epsilon: float
) -> None:
    """Draw the accuracy of both nets under both attacks, up to twice the `epsilon`."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    ax = figure.subplots()
    X, y = data.X_test[:CURVE_ROWS], data.y_test[:CURVE_ROWS]
    for attack, title, line in zip(ATTACKS, ("FGSM", f"PGD-{PGD_STEPS}"), ("--", "-"), strict=True):
        ax.set_prop_cycle(None)  # a net has one colour
        RobustnessCurveDisplay.from_estimators(
            {f"{method}, {title}": net for method, net in nets.items()},
            X,
            y,
            epsilons=np.linspace(0, 2 * epsilon, 9),
            attack=attack,
            attack_options={"n_steps": PGD_STEPS},
            ax=ax,
            linestyle=line,
        )
    ax.axvline(epsilon, color="grey", linewidth=0.8)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison that the options ask for.

    Parameters
    ----------
    argv : list of str or None, default=None
        The options; None takes those of the command line.

    Raises
    ------
    SystemExit
        With status 2, after one line on stderr, where an option or the data are unusable.
    """
    parser = command_line()
    options = parser.parse_args(argv)
    refuse_mixture(parser, options, of_table=is_table(options.data))
    if is_table(options.data):
        try:
            print(compared_on_table(options))
        except (OSError, ValueError) as error:
            parser.error(str(error))
        return
    options.epsilon = options.epsilon or DEFAULT_EPSILON
    try:
        data = load_data(options.data)
    except (OSError, ValueError) as error:
        parser.error(f"argument --data: {error}")
    try:
        if options.picture:
            drawable_shape(data.X_train.shape[1], data.image_shape)
    except ValueError as error:
        parser.error(f"argument --picture: {error}")
    try:
        rows, nets = compare(options, data)
    except ValueError as error:  # what the estimator refuses, or training that diverged
        parser.error(str(error))
    print(settings(options, data, nets["plain"]), table(rows), sep="\n\n")
    if options.picture:
        save_picture(options.picture, nets, data, options.epsilon)
        print(f"\n{options.picture} shows clean and adversarial images")
    if options.curve:
        save_curve(options.curve, nets, data, options.epsilon)
        n_rows = min(CURVE_ROWS, len(data.X_test))
        print(f"\n{options.curve} shows accuracy over epsilon, on {n_rows} test rows")
