"""What several test files share."""

import os
from pathlib import Path

# Read once, when SciPy is imported: scikit-learn's array API checks are skipped without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Read once, when torch is imported: beside other processes (n_jobs=2, a busy machine) threads
# that spin while they wait make training small nets many times as slow.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

from sk_advbp.command import load_data


def data_file(name):
    """Path of a file in the data folder, or skip the test that asks for it."""
    folder = os.environ.get("SK_ADVBP_DATA")
    folder = Path(folder) if folder else Path(__file__).parents[1] / ".." / "shared" / "data"
    path = folder.resolve() / name
    if not path.is_file():
        pytest.skip(f"no {path}; SK_ADVBP_DATA names the folder with {name}")
    return path


@pytest.fixture(scope="session")
def mnist_path():
    """File of all of MNIST, for tests marked ``data``."""
    return data_file("mnist.npz")


@pytest.fixture(scope="session")
def mnist(mnist_path):
    """All of MNIST as `sk_advbp.command.datasets.TrainTest`, for tests marked ``data``."""
    return load_data(mnist_path)
