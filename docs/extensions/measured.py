"""Figures in the pages, read from the JSON files of the benchmarks: none is typed by hand.

``.. measured:: NAME`` shows ``benchmarks/results/NAME.json`` as a table, with where it comes
from below it; ``.. measured-all::`` all of them, each under the name of its file. A file that is
not there shows nothing, so that a page may be written before its figures.

``.. reproduced:: NAME`` shows a table of ``benchmarks/reproduction/tables.py``, or its sentences
under that name where the name ends in ``sentences``; ``.. reproduced-from::`` what all of these
come from.
"""

import json

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from benchmarks.harness import errors_by_method, in_words
from benchmarks.passport import RESULTS
from benchmarks.report import command
from benchmarks.reproduction.findings import Findings
from benchmarks.reproduction.sentences import SENTENCES
from benchmarks.reproduction.tables import TABLES
from benchmarks.tables.summary import summary_rows
from benchmarks.uncertainty import classification, regression


def rows_of(figures):
    """Return the rows of a table, the first of which has the titles; None for unknown figures."""
    if "runs" in figures:
        return errors_by_method(figures["runs"])
    if "likelihoods" in figures:
        return regression.rows_of(figures["likelihoods"], "nll")
    if "tried settings" in figures:
        return regression.rows_of_settings(figures["tried settings"])
    if "answers" in figures:
        return classification.rows_of(figures["answers"])
    if "comparisons" in figures:
        return _rows_of_comparisons(figures["comparisons"])
    if "losses" in figures:
        return summary_rows([t for t in figures["tables"] if not t["regression"]])
    return None


def _rows_of_comparisons(comparisons):
    """Medians, extremes and ratios of the speed benchmarks."""
    rows = [["work", "contestant", "median (min – max)", "ours / it"]]
    for comparison in comparisons:
        title = f"{comparison['on']} (threads: {comparison['threads']})"
        for name, value in comparison["measured"].items():
            ratios = [
                f"{r['ours']}: {r['median']:.2f}" for r in comparison["ratios"] if r["to"] == name
            ]
            rows.append([title, name, in_words(value), ", ".join(ratios)])
            title = ""
    return rows


def provenance(figures):
    """Return in one sentence each what the figures were measured on and with what."""
    of = figures["passport"]
    commit = (of.get("commit") or "unknown")[:10]
    commit += ", with uncommitted changes" if of.get("uncommitted") else ""
    versions = ", ".join(f"{name} {number}" for name, number in of["versions"].items())
    hardware = of.get("gpu") or f"{of['processor']}, {of['cores']} cores"
    sentences = [f"{command(figures)} ({of['date'][:10]}, commit {commit})"]
    sentences.append(f"{hardware}; {versions}")
    if "likelihoods" in figures:
        return [*regression.sentences(figures["likelihoods"]), hardware]
    if "runs" in figures:
        seeds = len({run["seed"] for run in figures["runs"]})
        spread = "mean ± standard deviation" if seeds > 1 else "a single run, no claim"
        sentences.insert(0, f"Seeds: {seeds} ({spread}), tested on: {figures['tested_on']}")
        settings = ", ".join(f"{name}={value}" for name, value in figures["settings"].items())
        sentences.append(f"Settings: {settings}")
    return sentences


def table(rows):
    """Return `rows` as a docutils table, in a box that scrolls where the screen is narrow."""
    group = nodes.tgroup(cols=len(rows[0]))
    group += [nodes.colspec(colwidth=1) for _ in rows[0]]

    def lines(of):
        return [
            nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in row))
            for row in of
        ]

    group += nodes.thead("", *lines(rows[:1]))
    group += nodes.tbody("", *lines(rows[1:]))
    return nodes.container("", nodes.table("", group), classes=["pst-scrollable-table-container"])


class Measured(SphinxDirective):
    """The figures of one benchmark."""

    required_arguments = 1

    def run(self):
        """Return the table and where it comes from."""
        path = RESULTS / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        if not path.is_file():
            return []
        return self.shown(json.loads(path.read_text("utf-8")))

    def shown(self, figures):
        """Return the nodes for figures that were read."""
        rows = rows_of(figures)
        if not rows or figures.get("quick"):
            return []
        items = [nodes.list_item("", nodes.paragraph("", text)) for text in provenance(figures)]
        return [table(rows), nodes.bullet_list("", *items, classes=["provenance"])]


class Reproduced(SphinxDirective):
    """A table, or the sentences, of the reproduction."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        """Return the table or the paragraphs."""
        self.env.note_reread()
        name, found = self.arguments[0], Findings()
        if name.endswith(" sentences"):
            sentences = SENTENCES[name.removesuffix(" sentences")](found)
            return [nodes.paragraph("", text) for text in sentences]
        rows = TABLES[name](found)
        return [table(rows)] if len(rows) > 1 else [nodes.paragraph("", "Not yet run.")]


class ReproducedFrom(SphinxDirective):
    """Commits, machines, dates and versions of the reproduction."""

    def run(self):
        """Return one list item for each."""
        self.env.note_reread()
        titles = ("commits", "machines", "dates", "versions")
        parts = zip(titles, Findings().passports(), strict=True)
        items = [
            nodes.list_item("", nodes.paragraph("", f"{title}: {'; '.join(values)}"))
            for title, values in parts
        ]
        return [nodes.bullet_list("", *items, classes=["provenance"])]


class AllMeasured(Measured):
    """The figures of all benchmarks."""

    required_arguments = 0

    def run(self):
        """Return one section a file."""
        sections = []
        self.env.note_reread()
        for path in sorted(RESULTS.glob("*.json")):
            shown = self.shown(json.loads(path.read_text("utf-8")))
            if shown:
                title = path.stem.replace("_", " ")
                name = nodes.make_id(f"measured-{path.stem}")
                section = nodes.section("", nodes.title("", title), *shown, ids=[name])
                sections.append(section)
        return sections


def setup(app):
    """Make the directives known."""
    app.add_directive("measured", Measured)
    app.add_directive("measured-all", AllMeasured)
    app.add_directive("reproduced", Reproduced)
    app.add_directive("reproduced-from", ReproducedFrom)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
