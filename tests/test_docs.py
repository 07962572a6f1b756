"""The pages name everything public, as it is; .ci/run builds them."""

import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest
from sklearn.neural_network import MLPClassifier

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "extensions"))

import api_pages

import sk_advbp
from sk_advbp import AdvBPClassifier
from sk_advbp.estimators import _documentation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

PAGES = sorted(p for p in DOCS.rglob("*.rst") if not {"_build", "generated"} & {*p.parts})
PAGES = [p for p in PAGES if "auto_examples" not in p.parts and "templates" not in p.parts]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
PUBLIC = {
    f"{path}.{name}": getattr(module, name)
    for path, module in api_pages.public_modules().items()
    for name in api_pages.public_names(module)
}
METHODS = {
    f"{path}.{method}": getattr(PUBLIC[path], method)
    for path in PUBLIC
    if inspect.isclass(PUBLIC[path])
    for method in api_pages.methods_of(path)
}


PASSED_ON = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# Built by functions, which describe what they take.
BUILT = {"sk_advbp.robustness.AdversarialScorer"}


def documented(docstring, section="Parameters"):
    """Return the names of a section of a numpydoc docstring, in their order."""
    lines = inspect.cleandoc(docstring).splitlines()
    if section not in lines:
        return []
    start, body = lines.index(section) + 2, []
    for line, following in zip(lines[start:], [*lines[start + 1 :], ""], strict=True):
        if following and set(following) == {"-"}:
            break
        body.append(line)
    entries = [line.split(" : ")[0] for line in body if line[:1].strip()]
    return [name.strip().lstrip("*") for entry in entries for name in entry.split(",")]


def accepted(function):
    """Return the names in the signature, without ``self``; none where it only passes them on."""
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.name != "self"]
    return [p.name for p in named] if any(p.kind not in PASSED_ON for p in named) else []


def test_every_module_is_classified():
    names = {p.stem for p in (ROOT / "sk_advbp").glob("*.py") if not p.stem.startswith("_")}
    public = {path.rpartition(".")[2] for path in api_pages.public_modules()} - {"sk_advbp"}
    assert public | api_pages.INTERNAL >= names
    assert not public & api_pages.INTERNAL


def test_every_public_name_is_on_the_api_page():
    listed = set()
    for path, module in api_pages.public_modules().items():
        text = api_pages.api_text().split(f".. module:: {path}\n")
        if len(text) == 2:
            entries = text[1].split(".. module::")[0]
            listed |= {f"{path}.{n}" for n in re.findall(r"^   (\w+)$", entries, re.M)}
        else:
            assert not api_pages.public_names(module), path
    assert listed == set(PUBLIC)
    assert {"sk_advbp.AdvBPClassifier", "sk_advbp.core.perturb"} <= listed


ESTIMATORS = sorted(path for path in PUBLIC if hasattr(PUBLIC[path], "_repr_html_"))


@pytest.mark.parametrize("path", ESTIMATORS)
def test_html_representations_link_to_the_pages_of_the_api(path, monkeypatch):
    toctree = re.search(r":toctree: (\S+)", api_pages.api_text())[1]  # of generated/api.rst
    page = f"generated/{toctree}/{path}.html"
    monkeypatch.setenv("SK_ADVBP_DOCS", "https://pages.example/stable/")
    assert f'href="https://pages.example/stable/{page}"' in PUBLIC[path]()._repr_html_()
    # Parameters link to their places on the same page.
    assert f"{page}#:~:text=epsilon" in PUBLIC[path]()._repr_html_()
    own = type("Own", (PUBLIC[path],), {"__module__": "elsewhere", "__doc__": ""})
    assert "pages.example" not in own()._repr_html_()


def test_estimators_have_html_representations():
    assert ESTIMATORS == sorted(f"sk_advbp.{n}" for n in sk_advbp.__all__ if n.startswith("Adv"))


def test_address_of_the_documentation(monkeypatch, tmp_path):
    monkeypatch.delenv("SK_ADVBP_DOCS", raising=False)
    monkeypatch.setattr(_documentation, "published_address", lambda: "https://published.example")
    monkeypatch.setattr(_documentation, "BUILT", tmp_path)
    address = _documentation.documentation_address
    assert address() == "https://published.example/"
    monkeypatch.setattr(_documentation, "published_address", lambda: "")
    assert address() == "" and sk_advbp.AdvBPClassifier()._get_doc_link() == ""
    (tmp_path / "index.html").touch()
    assert address() == tmp_path.as_uri() + "/"
    monkeypatch.setenv("SK_ADVBP_DOCS", "http://localhost:8000")
    assert address() == "http://localhost:8000/"


def test_published_address_is_that_of_pyproject():
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["urls"].get("Documentation", "")
    assert _documentation.published_address() == declared


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_public_names_have_docstrings(path):
    first = (inspect.getdoc(PUBLIC[path]) or "").split("\n")[0]
    assert first.endswith("."), f"{path}: {first!r} is no sentence"


@pytest.mark.parametrize("path", sorted(PUBLIC | METHODS))
def test_documented_parameters_are_those_of_the_signature(path):
    thing = (PUBLIC | METHODS)[path]
    if not inspect.isclass(thing):
        # Sorted, since one entry may describe several that do not stand side by side.
        assert sorted(documented(thing.__doc__)) == sorted(accepted(thing))
    elif "__init__" in vars(thing) and path not in BUILT:  # else it takes what its base takes
        assert (documented(thing.__doc__)) == accepted(thing.__init__)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_among_pages(page):
    text = page.read_text("utf-8")
    targets = re.findall(r":doc:`(?:[^`<]*<)?([^`<>]+)>?`", text)
    targets += re.findall(r"^ +:link: (\S+)$", text, re.M)
    for toctree in re.findall(r"\.\. toctree::\n((?:   .*\n|\n)*)", text):
        targets += re.findall(r"^   ([a-z_/]+)$", toctree, re.M)
    for target in targets:
        folder = DOCS if target.startswith("/") else page.parent
        place = (folder / target.lstrip("/")).resolve().relative_to(DOCS)
        if place.parts[0] == "auto_examples":
            found = place.stem == "index" or (ROOT / "examples" / f"{place.name}.py").is_file()
        else:
            found = place.parts[0] == "generated" or (DOCS / f"{place}.rst").is_file()
        assert found, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_code_of_pages_is_python(page):
    for block in re.findall(
        r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", page.read_text("utf-8"), re.M
    ):
        compile(inspect.cleandoc("\n" + block), str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_measured_figures_are_there(page):
    for name in re.findall(r"^\.\. measured:: (\S+)$", page.read_text("utf-8"), re.M):
        assert (ROOT / "benchmarks" / "results" / f"{name}.json").is_file(), name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_examples_can_be_read(example):
    source = example.read_text("utf-8")
    compile(source, str(example), "exec")
    title, rule = source.split('"""')[1].strip().splitlines()[:2]
    assert set(rule) == {"="} and len(rule) >= len(title)
    assert "plt" in source or "Display" in source, "no picture"


def cells_of(page):
    """Return the rows of the first list-table of a page, as lists of cells."""
    text = page.read_text("utf-8").split(".. list-table::")[1]
    rows = re.split(r"^   \* - ", text, flags=re.M)[1:]
    return [
        [" ".join(cell.split()) for cell in re.split(r"^     - ?", r, flags=re.M)] for r in rows
    ]


def test_defaults_beside_those_of_scikit_learn():
    """Where a row of the table names parameters of both sides and their defaults."""
    theirs, ours = MLPClassifier().get_params(), AdvBPClassifier().get_params()
    compared = 0
    for there, here, defaults, _ in cells_of(DOCS / "guide" / "from_mlp.rst")[1:]:
        names = re.findall(r"``(\w+)``", there)
        own = names if here == "the same" else re.findall(r"``(\w+)``", here)
        if all(name in theirs for name in names) and own and all(name in ours for name in own):
            left, right = defaults.split(" / ")
            shown = [
                ", ".join(dict.fromkeys(str(of[name]) for name in of_side))
                for of, of_side in ((theirs, names), (ours, own))
            ]
            quoted = [side.replace('"', "").split(", at most")[0] for side in (left, right)]
            assert quoted == shown, there
            compared += 1
    assert compared >= 10
