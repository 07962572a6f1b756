"""The API pages, made from the ``__all__`` of the package's public modules.

A module is public unless `INTERNAL` has it, so that a new one is on the page from its first day.
"""

import importlib
import inspect
import pkgutil
import textwrap

import skorch
import skorch.callbacks

import sk_advbp

# What serves the estimators and may change from version to version.
INTERNAL = {
    "adversary",
    "attacks",
    "backprop",
    "classifier",
    "compiled",
    "components",
    "cross_validation",
    "docstrings",
    "estimator",
    "examples_display",
    "images",
    "net",
    "optimizers",
    "parameters",
    "pipelines",
    "precision",
    "regressor",
    "search",
    "stacked",
    "streams",
    "training_data",
}
INTERNAL_PATHS = {f"sk_advbp.{name}" for name in INTERNAL}

# skorch's hooks and scikit-learn's protocol are the same names for us; these a user calls.
CALLED = {
    "fit",
    "partial_fit",
    "predict",
    "predict_proba",
    "score",
    "set_params",
    "load_params",
}

# What the package's own layers call of each other.
OWN_HOOKS = {"batch_score", "check_is_fitted_attribute", "train"}

HEADER = """\
.. Written by docs/extensions/api_pages.py at each build.

.. _api:

===
API
===

Everything public, as the modules' ``__all__`` has it. What is not here serves the estimators and
may change without notice.
"""


def public_modules():
    """Return {name: module} of the public modules, the package itself first."""
    found = {"sk_advbp": sk_advbp}
    for module in pkgutil.iter_modules(sk_advbp.__path__):
        if not module.name.startswith("_") and module.name not in INTERNAL:
            name = f"sk_advbp.{module.name}"
            found[name] = importlib.import_module(name)
    return found


def public_names(module):
    """Return the names of ``__all__`` that have a docstring of their own: not ``__version__``."""
    return [name for name in module.__all__ if is_callable(f"{module.__name__}.{name}")]


def is_callable(path):
    """Return whether the object is a class or a function."""
    module, _, name = path.rpartition(".")
    return callable(getattr(importlib.import_module(module), name))


def public_path(path):
    """Return the path under which a name is documented: ``sk_advbp.classifier.X`` is at the top."""
    return f"sk_advbp.{path.rpartition('.')[2]}"


def methods_of(path):
    """Return the public methods that the package itself defines, of those that a user calls."""
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    hooks = set()
    for base in (skorch.NeuralNet, skorch.callbacks.Callback):
        if issubclass(cls, base):
            hooks |= {n for n in dir(base) if callable(getattr(base, n))} - CALLED
    hooks |= OWN_HOOKS if issubclass(cls, skorch.NeuralNet) else set()
    return [
        name
        for name, member in inspect.getmembers(cls, inspect.isroutine)
        if not name.startswith("_")
        and str(getattr(member, "__module__", "")).startswith("sk_advbp")
        and name not in hooks
    ]


def methods():
    """Return {path: names} of `methods_of` for every public class."""
    paths = [f"{path}.{n}" for path, module in public_modules().items() for n in module.__all__]
    return {path: methods_of(path) for path in paths if _is_class(path)}


def _is_class(path):
    module, _, name = path.rpartition(".")
    return inspect.isclass(getattr(importlib.import_module(module), name))


def api_text():
    """Return the page that lists all public names."""
    parts = [HEADER]
    for path, module in public_modules().items():
        names = public_names(module)
        if not names:
            continue
        title = "Estimators" if path == "sk_advbp" else f"{path}"
        summary = inspect.getdoc(module).split("\n\n")[0]
        listing = "\n".join(f"   {name}" for name in names)
        parts.append(
            f"{title}\n{'-' * len(title)}\n\n.. module:: {path}\n\n{summary}\n\n"
            f".. autosummary::\n   :toctree: names\n   :nosignatures:\n\n{listing}\n"
        )
    return "\n".join(parts)


def write(folder):
    """Write ``api.rst`` into `folder`, where it is not there as it should be."""
    folder.mkdir(parents=True, exist_ok=True)
    page, text = folder / "api.rst", textwrap.dedent(api_text())
    if not page.is_file() or page.read_text("utf-8") != text:
        page.write_text(text, encoding="utf-8")
