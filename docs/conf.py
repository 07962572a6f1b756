"""Configuration of the documentation: ``python -m sphinx -W -n docs docs/_build/html``.

The build needs no network, and the built pages ask nothing of other hosts.
"""

import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "extensions"))
# For `benchmarks`, whose findings a page draws.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Read once, when torch is imported: threads that spin while they wait cost most of a small fit.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# To which the estimators' representations in the examples link: these pages, one folder up.
os.environ["SK_ADVBP_DOCS"] = ".."

import api_pages
import inventories

from sk_advbp import __version__

DOCS = Path(__file__).resolve().parent

project = "sk_advbp"
author = "sk_advbp developers"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
    "llms",
    "mathml",
    "measured",
    "names",
    "matplotlib.sphinxext.plot_directive",
    "trailing_underscores",
]
templates_path = ["templates"]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "inventories"]
# Names in single backticks, as in the docstrings: a link where there is a page for them.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    # Of the docstrings that the estimators inherit.
    ("py:.*", r"(MetadataRequest|NotFittedError)"),
]

# ---- API -----------------------------------------------------------------------------

api_pages.write(DOCS / "generated")
autosummary_generate = True
autosummary_imported_members = True
autosummary_context = {"methods_of": api_pages.methods()}
autodoc_default_options = {"inherited-members": None}
autodoc_typehints = "none"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
smartquotes = False  # the values of parameters stand in straight ones
numpydoc_show_class_members = False
numpydoc_validation_checks = {"GL03", "GL06", "GL07", "PR02", "PR10", "SS04"}

# ---- other projects' documentation -----------------------------------------------------

intersphinx_mapping = inventories.mapping(DOCS / "inventories", DOCS / "_build" / "inventories")
intersphinx_disabled_reftypes = ["std:doc"]

# ---- examples --------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": str(DOCS.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"__init__\.py",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sk_advbp",),
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "write_computation_times": False,
    "show_memory": False,
    "min_reported_time": 600,  # the seconds of whatever machine built the pages are no measurement
    "within_subsection_order": "gallery_order.TeachingOrder",
}
# The progress of a plot on a machine without a screen.
warnings.filterwarnings("ignore", message=".*is non-interactive, and thus cannot be shown")

plot_html_show_source_link = plot_html_show_formats = False
plot_formats = ["svg"]

# ---- HTML ------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "sk_advbp"
html_context = {"default_mode": "auto"}
html_static_path = ["static"]
html_css_files = ["sk_advbp.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "sk_advbp"},
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
html_sidebars = {"index": [], "install": [], "results": [], "contributing": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
