"""The API pages, made from the ``__all__`` of the package's public modules.

A module beside the package's folders is public, and a folder hands on its public names, unless
`INTERNAL` has it: a new name is on the page from its first day.
"""

import importlib
import inspect
import pkgutil
import textwrap

import skorch
import skorch.callbacks

import sk_advbp

# What serves the estimators and may change from version to version; the estimators' own names
# are the package's.
INTERNAL = {"estimators", "keeping", "parameters"}

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


def public_paths(path):
    """Return the paths under which a name may be documented: in its folder, or at the top."""
    *folders, name = path.removeprefix("sk_advbp.").split(".")
    return [".".join(("sk_advbp", *folders[:depth], name)) for depth in range(len(folders), -1, -1)]


def is_internal(path):
    """Return whether `path` is a module that has no page."""
    modules = {module.name for module in pkgutil.walk_packages(sk_advbp.__path__, "sk_advbp.")}
    return path in modules - public_modules().keys()


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
