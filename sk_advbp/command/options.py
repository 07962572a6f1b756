"""The options of ``python -m sk_advbp``, checked before anything is trained."""

from __future__ import annotations

import argparse
import math
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn

import torch

from sk_advbp.core.mlp import ACTIVATIONS


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line; ``--help`` has the usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong on stderr and exit with status 2."""
        message = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {message} (--help explains the options)\n")


def _radius(text: str) -> float:
    """Read an epsilon at which adversarial examples can be made."""
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = math.nan
    if epsilon == 0:
        raise argparse.ArgumentTypeError(
            "must be > 0; epsilon 0 is plain back-propagation, which is always in the table"
        )
    if not 0 < epsilon < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number > 0, got {text!r}")
    return epsilon


def _count(text: str) -> int:
    """Read a whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return number


def _layer_sizes(text: str) -> tuple[int, ...]:
    """Read the sizes of the hidden layers, divided by commas."""
    return tuple(_count(size) for size in text.split(","))


def _device(text: str) -> str:
    """Read the name of a device on which torch can make a tensor."""
    if text != "auto":
        try:
            torch.empty(0, device=text)
        except (AssertionError, RuntimeError) as error:  # the former where torch lacks CUDA
            reason = shorten(str(error), 80)
            raise argparse.ArgumentTypeError(
                f"{text!r} cannot be used ({reason}); accepted are auto, cpu, cuda, cuda:1, ..."
            ) from None
    return text


def _picture_file(text: str) -> Path:
    """Read the path of a picture that can be written."""
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(
            "needs matplotlib, which comes with the extra 'plot': "
            'python -m pip install -c constraints.txt -e ".[plot]"'
        )
    from matplotlib.backend_bases import FigureCanvasBase  # slow to import

    path = Path(text)
    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in formats:
        raise argparse.ArgumentTypeError(f"{text!r} must end with one of: {', '.join(formats)}")
    return _file_to_write(text)


def _file_to_write(text: str) -> Path:
    """Read the path of a file that can be written."""
    path = Path(text)
    existed = path.exists()
    try:
        # Only opening tells: permission bits say nothing about a read-only disk.
        path.open("ab").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written ({error.strerror})") from None
    if not existed:
        path.unlink()
    return path


OPTIONS: dict[str, dict[str, Any]] = {
    "--data": {
        "metavar": "NAME|FILE",
        "default": "digits",
        "help": "digits (default; comes with scikit-learn), mnist (downloaded from OpenML), or a "
        "NumPy file with the arrays X_train, y_train, X_test and y_test, or X and y, or named "
        "as Keras or MedMNIST name them; uint8 images are flattened and scaled to [0, 1]. Or a "
        "table, FILE.csv or FILE.parquet, of numbers and categories, with gaps or without; needs "
        "pandas, and --target",
    },
    "--target": {
        "metavar": "COLUMN",
        "help": "of a table the column with the labels; epsilon then is chosen by cross-validation",
    },
    "--keep": {
        "type": _file_to_write,
        "metavar": "FILE.joblib",
        "help": "of a table: keep the pipeline with the adversarial net of the first seed",
    },
    "--epsilon": {
        "type": _radius,
        "metavar": "EPS",
        "help": "size of the perturbation, in training and in both attacks, in the units of the "
        "data (default: 0.08); of a table, in both attacks alone, in standard deviations of the "
        "numbers (default: the largest that was chosen, or 0.1)",
    },
    "--activation": {
        "choices": list(ACTIVATIONS),
        "default": "relu",
        "help": "activation of the hidden layers (default: %(default)s)",
    },
    "--hidden": {
        "type": _layer_sizes,
        "metavar": "N[,N...]",
        "help": "sizes of the hidden layers, as 100 or 400,400 (default: AdvBPClassifier's)",
    },
    "--epochs": {
        "type": _count,
        "metavar": "N",
        "help": "passes over the training data (default: AdvBPClassifier's)",
    },
    "--seeds": {
        "type": _count,
        "metavar": "N",
        "default": 3,
        "help": "train with the random states 0 to N-1 (default: %(default)s)",
    },
    "--device": {
        "type": _device,
        "default": "auto",
        "help": "auto (CUDA when available, else the processor), cpu, cuda, cuda:1, ... "
        "(default: %(default)s)",
    },
    "--picture": {
        "type": _picture_file,
        "metavar": "FILE.png",
        "help": "also draw test images, clean and adversarial, with what the nets of the first "
        "seed take them for; needs the extra 'plot'",
    },
    "--curve": {
        "type": _picture_file,
        "metavar": "FILE.png",
        "help": "also draw the accuracy of the nets of the first seed under FGSM and PGD over "
        "epsilon; needs the extra 'plot'",
    },
}


def command_line() -> Parser:
    """Return the parser of the options."""
    parser = Parser(
        prog="python -m sk_advbp",
        description="Train plain and adversarial back-propagation on the same data and seeds, "
        "and compare their accuracy on clean and on adversarial test data.",
        allow_abbrev=False,
    )
    for name, option in OPTIONS.items():
        parser.add_argument(name, **option)
    return parser


def refuse_mixture(parser: Parser, options: argparse.Namespace, of_table: bool) -> None:
    """Exit where options of tables and of other data are mixed."""
    if of_table and options.target is None:
        parser.error("argument --data: a table needs --target COLUMN, the column with the labels")
    others = ("picture", "curve") if of_table else ("target", "keep")
    kind = "other data than a table" if of_table else "a table, FILE.csv or FILE.parquet"
    for name in others:
        if getattr(options, name) is not None:
            parser.error(f"argument --{name}: is for {kind}")
