"""What a name in single backticks stands for, in docstrings and pages.

A public name of the package links to its page, under whatever path the docstring has it. A
parameter, or anything else without a dot, is shown as code. What is left is a warning of the
build: a dotted name that has no page.
"""

import api_pages
from docutils import nodes
from sphinx.util.nodes import make_refnode


def resolve(app, env, node, contnode):
    """Return a link to the page of the name, or the name as code; None leaves a warning."""
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    name = node["reftarget"]
    objects = env.get_domain("py").objects
    for candidate in api_pages.public_paths(name):
        if candidate in objects:
            found = objects[candidate]
            return make_refnode(
                app.builder, node["refdoc"], found.docname, found.node_id, contnode, candidate
            )
    if not name.startswith("sk_advbp") or api_pages.is_internal(name):
        is_foreign = name.partition(".")[0] in ("sklearn", "skorch", "torch", "numpy")
        return None if is_foreign else nodes.literal("", node.astext())
    return None


def setup(app):
    """Connect to Sphinx, before intersphinx looks."""
    app.connect("missing-reference", resolve, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
