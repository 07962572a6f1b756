"""The layout of the package, its documentation, and what only a machine with CUDA shows."""

import ast
import importlib
import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sk_advbp
from sk_advbp import AdvBPClassifier

PACKAGE = Path(sk_advbp.__file__).parent


def name_of(path):
    """Name of the module in a file; of a folder, that of its __init__.py."""
    parts = ("sk_advbp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in PACKAGE.rglob("*.py")}

# From the bottom up: a room imports from those below it. The files beside the folders are rooms
# of their own.
ROOMS = [
    "_version",
    "core",
    "_types",
    "parameters",
    "keeping",
    "training",
    "estimators",
    "export",
    "robustness",
    "command",
]
ROOMS_OF_USERS = ["tables", "callbacks"]  # which no room needs
TOP = ["sk_advbp", "sk_advbp.__main__"]


def room_of(module):
    return module.split(".")[1]


def imported_by(path):
    """Names of the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else node.module


def own_imports(module):
    return {name for name in imported_by(FILES[module]) if name.split(".")[0] == "sk_advbp"}


def test_every_file_is_in_a_room():
    assert {room_of(name) for name in FILES.keys() - set(TOP)} == {*ROOMS, *ROOMS_OF_USERS}


@pytest.mark.parametrize("module", sorted(FILES.keys() - set(TOP)))
def test_imports_run_downwards(module):
    room = room_of(module)
    below = ROOMS if room in ROOMS_OF_USERS else ROOMS[: ROOMS.index(room) + 1]
    outside = {name for name in own_imports(module) if name in TOP or room_of(name) not in below}
    assert not outside, f"{module} imports {sorted(outside)}"


def test_one_version():
    """Of the package, the citation and the changes, which may have a newer, unreleased part."""
    root = PACKAGE.parent
    (cited,) = re.findall(r"^version: (\S+)$", (root / "CITATION.cff").read_text("utf-8"), re.M)
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert cited == sk_advbp.__version__
    assert headings[:2] in (["Unreleased"], ["Unreleased", cited])


def test_no_circle():
    remaining = {name: own_imports(name) - {name} for name in FILES}
    while free := [name for name, needs in remaining.items() if not needs & remaining.keys()]:
        for name in free:
            del remaining[name]
    assert not remaining, f"imports in a circle among {sorted(remaining)}"


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("sk_advbp.core")])
def test_core_imports_torch_alone(module):
    others = {name.split(".")[0] for name in imported_by(FILES[module])}
    assert others - set(sys.stdlib_module_names) <= {"torch", "sk_advbp"}


MODULES = [importlib.import_module(name) for name in sorted(FILES) if name != "sk_advbp.__main__"]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_every_public_name_is_documented(module):
    assert module.__doc__ or module.__name__.endswith("_version")
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        assert inspect.getdoc(value), f"{module.__name__}.{name}"
        own = vars(value).items() if inspect.isclass(value) else []
        for attribute, member in own:
            if not attribute.startswith("_") and (
                inspect.isroutine(member) or type(member) is property
            ):
                assert inspect.getdoc(getattr(value, attribute)), f"{name}.{attribute}"


def functions_of(value):
    """Return the function, or those in a class, but for private ones."""
    own = vars(value) if inspect.isclass(value) else {value.__name__: value}
    members = {n: getattr(f, "__func__", getattr(f, "fget", f)) for n, f in own.items()}
    members = {n: f for n, f in members.items() if inspect.isfunction(f)}
    return [f for n, f in members.items() if n in ("__init__", "__call__") or n[0] != "_"]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_any_stands_in_no_public_signature(module):
    values = [getattr(module, name) for name in getattr(module, "__all__", [])]
    for value in values:
        if inspect.isroutine(value) or inspect.isclass(value):
            for function in functions_of(value):
                other = inspect.getfullargspec(function).varkw
                words = {n: str(a) for n, a in function.__annotations__.items() if n != other}
                assert not re.search(r"\bAny\b", " ".join(words.values())), function.__qualname__


@pytest.mark.parametrize("name", [n for n in sk_advbp.__all__ if n.startswith("Adv")])
def test_every_parameter_is_documented_with_its_default(name):
    estimator = getattr(sk_advbp, name)
    documented = inspect.getdoc(estimator)
    parameters = documented[documented.index("Parameters\n") : documented.index("Attributes\n")]
    entries = dict(re.findall(r"^([*\w, ]+) : (.*)$", parameters, re.M))
    entries = {n.strip(): text for names, text in entries.items() for n in names.split(",")}
    signature = inspect.signature(estimator).parameters
    assert {n.lstrip("*") for n in entries} == set(signature)
    for n, parameter in signature.items():
        if isinstance(parameter.default, (int, float, str, tuple)) and "default=" in entries[n]:
            value = entries[n].split("default=")[1]
            assert ast.literal_eval(value) == parameter.default, n


# ---- CUDA ------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
Y = np.array(["minus", "plus"])[(X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
OPTIONS = [
    {},
    {"dropout": 0.2, "random_start": 0.5, "norm": "l2"},
    {"early_stopping": True, "clean_weight": 0.5},
    {"compile": True, "dropout": 0.2},
    {
        "module": torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.Dropout(), torch.nn.Linear(8, 2)
        )
    },
]


def on_cuda(**options):
    return AdvBPClassifier((16,), max_epochs=10, lr=0.01, random_state=0, device="cuda", **options)


@needs_cuda
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o))
def test_cuda_fits_predicts_and_repeats(options):
    torch.manual_seed(0)
    before = torch.cuda.get_rng_state()
    net, again = (on_cuda(**options).fit(X, Y) for _ in range(2))
    assert net.device_.startswith("cuda") and next(net.module_.parameters()).is_cuda
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert net.score(X, Y) > 0.6
    np.testing.assert_array_equal(net.predict_proba(X), again.predict_proba(X))
    assert type(net.predict_proba(X)) is np.ndarray
    moved = net.adversarial_examples(X, Y, epsilon=0.2, attack="pgd", n_steps=3)
    assert np.abs(moved - X).max() <= 0.2 + 1e-5 or options.get("norm") == "l2"


@needs_cuda
@pytest.mark.parametrize("n_nets", [1, 2])
@pytest.mark.parametrize("y", [Y, X[:, :3] > X[:, 3:]], ids=["one label", "several labels"])
def test_cuda_trains_as_the_cpu_does(y, n_nets):
    """To the precision of float32, without signs that rounding could flip."""
    options = {"epsilon": 0, "max_epochs": 3, "random_state": 0, "dtype": "float64"}
    gpu, cpu = (
        AdvBPClassifier((16,), n_nets=n_nets, device=device, **options).fit(X, y)
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), rtol=1e-8)
    moved = [net.adversarial_examples(X, norm="l2", epsilon=0.1) for net in (gpu, cpu)]
    np.testing.assert_allclose(*moved, atol=1e-5)


LOAD = """
import pickle, sys
import numpy as np, torch
assert not torch.cuda.is_available()
net, X, Y, expected = pickle.load(sys.stdin.buffer)
assert net.device_ == "cpu" and net.device == "cuda"
np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-4, atol=1e-6)
net.set_params(device="auto").partial_fit(X, Y).predict(X)
"""


@needs_cuda
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o))
def test_a_net_from_cuda_loads_without_it(options):
    net = on_cuda(**options).fit(X, Y)
    subprocess.run(
        [sys.executable, "-c", LOAD],
        input=pickle.dumps((net, X, Y, net.predict_proba(X))),
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=True,
    )
    twin = pickle.loads(pickle.dumps(net))
    assert next(twin.module_.parameters()).is_cuda
    np.testing.assert_array_equal(
        net.partial_fit(X, Y).predict_proba(X), twin.partial_fit(X, Y).predict_proba(X)
    )
