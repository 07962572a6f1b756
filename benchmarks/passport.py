"""Where a figure comes from: every benchmark writes it beside its figures."""

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import sklearn
import skorch
import torch

from sk_advbp import __version__

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
# What decides about figures; documentation and other results do not. For git * goes into folders.
CODE = ["sk_advbp", "benchmarks/*.py"]
# What was typed: the first process of a benchmark says it here, and its workers inherit it.
COMMAND = os.environ.setdefault("SK_ADVBP_BENCHMARK", shlex.join(["python", *sys.orig_argv[1:]]))


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def git(*arguments):
    """Return what git says in this checkout; None where it fails."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def passport():
    """Return, as a dictionary that JSON can hold, what a figure needs to be believed."""
    return {
        "command": COMMAND,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted": bool(git("status", "--porcelain", "--", *CODE)),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {
            "sk_advbp": __version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "skorch": skorch.__version__,
            "numpy": np.__version__,
        },
    }


def write_json(path, figures):
    """Write the figures with their passport, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps({"passport": passport(), **figures}, indent=1) + "\n")
    unfinished.replace(path)
