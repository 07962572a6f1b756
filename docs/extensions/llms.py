"""Write ``llms.txt``, the site's list of pages for assistants (https://llmstxt.org).

Pages come from the tables of contents, each with its title and first sentence, and the names of
the API from the package, so that neither is written twice.
"""

import inspect
import re
from pathlib import Path

import api_pages
from docutils import nodes


def paragraph(doctree):
    """Return the first paragraph of a page that stands in no list, note or table."""
    for node in doctree.findall(nodes.paragraph):
        if isinstance(node.parent, nodes.section):
            return " ".join(node.astext().split())
    return ""


def sentence(text):
    """Return the first sentence of a paragraph, with a full stop where it ends with a colon."""
    return re.sub(r":$", ".", re.split(r"(?<=\.)\s", text)[0])


def summary(thing):
    """Return the first line of a docstring."""
    return inspect.getdoc(thing).split("\n")[0]


def line(title, page, text):
    """Return the line of one page."""
    return f"- [{title}]({page}.html): {text}"


def pages(env, parent):
    """Return the lines of the pages below `parent` that have none below themselves."""
    return [
        line(env.titles[page].astext(), page, sentence(paragraph(env.get_doctree(page))))
        for page in env.toctree_includes[parent]
        if page not in env.toctree_includes
    ]


def names():
    """Return the lines of the API: each public name with the first line of its docstring."""
    return [
        line(f"{path}.{name}", f"generated/names/{path}.{name}", summary(getattr(module, name)))
        for path, module in api_pages.public_modules().items()
        for name in api_pages.public_names(module)
    ]


def text(env):
    """Return the file."""
    root = env.config.root_doc
    sections = {"Pages": pages(env, root)}
    for page in env.toctree_includes[root]:
        if page in env.toctree_includes:
            is_api = page == "generated/api"
            sections[env.titles[page].astext()] = names() if is_api else pages(env, page)
    lines = [f"# {env.config.project}", "", f"> {paragraph(env.get_doctree(root))}"]
    for title, listed in sections.items():
        lines += ["", f"## {title}", "", *listed]
    return "\n".join(lines) + "\n"


def write(app, exception):
    """Write it beside the front page, once all pages are there."""
    if exception is None and app.builder.format == "html":
        Path(app.outdir, "llms.txt").write_text(text(app.env), encoding="utf-8")


def setup(app):
    """Connect to the end of the build."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
