"""Fill the tables of benchmarks/README.md from the JSON files of the benchmarks.

    python benchmarks/report.py

Between ``<!-- NAME -->`` and ``<!-- /NAME -->`` comes what results/NAME.json holds; ``targets``
is the table of all figures that have a target. Nothing else of the file changes.
"""

import argparse
import json
import re
from pathlib import Path

from harness import table, targets_table
from passport import RESULTS

README = Path(__file__).with_name("README.md")
SCRIPTS = ("step_cost", "fit_time", "search_time", "memory")
MISSING = "*Not measured yet.*"


def provenance(figures):
    """Return where the figures come from, in a few lines."""
    of = figures["passport"]
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
    commit = (of["commit"] or "unknown")[:12] + (" with changes" if of["uncommitted"] else "")
    environment = " ".join(f"{k}={v}" for k, v in figures["environment"].items())
    lines = [
        f"`{of['command']}`, {of['date']}, commit {commit}, {figures['repeats']} rounds, "
        f"{figures['seconds']:.0f} s.",
        f"{of['processor']}, {of['cores']} cores; Python {of['python']}, {versions}"
        + (f"; {environment}." if environment else "."),
    ]
    if figures["quick"]:
        lines.insert(0, "**A trial with tiny settings: no figures to believe.**")
    return "\n".join(lines)


def section(figures):
    """Return the section of one script."""
    return f"{provenance(figures)}\n\n{table(figures['comparisons'])}"


def filled(text, sections):
    """Return `text` with each of the `sections` between its two marks."""
    for name, content in sections.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not marks.search(text):
            raise ValueError(f"no <!-- {name} --> … <!-- /{name} --> in the text")
        text = marks.sub(lambda match, c=content: f"{match[1]}{c}\n{match[2]}", text)
    return text


def main(argv=None):
    """Fill the tables; `argv` takes the place of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--readme", type=Path, default=README)
    given = parser.parse_args(argv)
    paths = {name: given.results / f"{name}.json" for name in SCRIPTS}
    found = {n: json.loads(p.read_text("utf-8")) for n, p in paths.items() if p.is_file()}
    sections = {name: section(found[name]) if name in found else MISSING for name in SCRIPTS}
    comparisons = [c for figures in found.values() for c in figures["comparisons"]]
    sections["targets"] = (targets_table(comparisons) if comparisons else "") or MISSING
    text = given.readme.read_text("utf-8")
    given.readme.write_text(filled(text, sections), encoding="utf-8")


if __name__ == "__main__":
    main()
