"""Fitted attributes in docstrings: ``n_features_in_`` is a name, not a link as in reStructuredText.

A word that ends with an underscore gets a backslash before it, outside of code.
"""

import re

# What is left alone: code and names in backticks, and words in bold.
QUOTED = re.compile(r"(``.*?``|`.*?`|\*\*.*?\*\*)")
WORD = re.compile(r"(?<=[A-Za-z0-9])_(?!\w)")


def escape(app, what, name, obj, options, lines):
    """Escape such words in all lines of running text, in place."""
    code_indent = None
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if code_indent is not None and line.strip() and indent <= code_indent:
            code_indent = None
        if code_indent is None and not line.lstrip().startswith((">>>", "..")):
            parts = QUOTED.split(line)
            parts[::2] = [WORD.sub(r"\\_", part) for part in parts[::2]]
            lines[i] = "".join(parts)
            if line.rstrip().endswith("::"):
                code_indent = indent


def setup(app):
    """Connect to autodoc, after numpydoc."""
    app.connect("autodoc-process-docstring", escape, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
