"""Where the built documentation is, for the links to it."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

BUILT = Path(__file__).parents[2] / "docs" / "_build" / "html"


def documentation_address() -> str:
    """Return the address of the documentation, which ends in a slash; empty where there is none.

    In this order: the environment's ``SK_ADVBP_DOCS``; the address that pyproject.toml declares
    as ``Documentation`` among the project's; the pages that were built in this checkout.
    """
    if given := os.environ.get("SK_ADVBP_DOCS"):
        return given.rstrip("/") + "/"
    if published := published_address():
        return published.rstrip("/") + "/"
    return BUILT.as_uri() + "/" if (BUILT / "index.html").is_file() else ""


def published_address() -> str:
    """Return the address in the metadata of the installed package; empty where there is none."""
    try:
        declared = metadata("sk_advbp").get_all("Project-URL", [])
    except PackageNotFoundError:
        return ""
    addresses = dict(line.split(", ", 1) for line in declared)
    return addresses.get("Documentation", "")
