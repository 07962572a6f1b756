"""Fill the tables of README.md and benchmarks/README.md from the JSON files of the benchmarks.

    python -m benchmarks.report

Between ``<!-- NAME -->`` and ``<!-- /NAME -->`` comes what results/NAME.json holds; ``targets``
is the table of all figures that have a target, ``speed`` the short table of the first README.
Nothing else of the files changes.
"""

import argparse
import json
import re
from itertools import pairwise
from pathlib import Path

from benchmarks.harness import markdown, mean_in_words, table, targets_table
from benchmarks.passport import RESULTS, ROOT
from benchmarks.reproduction.experiments import ADVERSARIAL, DECAY, DROPOUT, PLAIN
from benchmarks.reproduction.findings import Findings, over_seeds
from benchmarks.reproduction.sentences import COLUMNS, final_in_short, like_dropout, seeds_in_words
from benchmarks.reproduction.tables import headline_rows
from benchmarks.tables.summary import MODELS, changes_rows, mean_ranks, means, summary_rows
from benchmarks.uncertainty import regression

README = Path(__file__).with_name("README.md")
SCRIPTS = ("step_cost", "fit_time", "search_time", "search_cv", "memory", "serve")
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
    """Return the section of one script that measures times or memory."""
    return f"{provenance(figures)}\n\n{table(figures['comparisons'])}"


def tabular_section(figures):
    """Return ranks and differences over the tables, and what each model has on each of them."""
    of, tables = figures["passport"], figures["tables"]
    sources = dict.fromkeys(t["source"] for t in tables if t["source"])
    named = [
        f"{source}: {', '.join(t['table'] for t in tables if t['source'] == source)}"
        for source in sources
    ]
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
    classes, numbers = ([t for t in tables if t["regression"] is kind] for kind in (False, True))
    paragraphs = [
        f"`{command(figures)}`, {of['date']}, commits {commits_in_words(tables)}. "
        f"{of['processor']}; {versions}.",
        f"Tables: {'; '.join(named)}." if named else "",
        *kind_of_table(classes, {"error": 2, "log loss": 3}),
        f"Clearly above ε = 0: {', '.join(figures['losses']) or 'none'}." if classes else "",
        *kind_of_table(numbers, {"error": 2}),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def commits_in_words(tables):
    """Return the commits at which the models were measured."""
    return ", ".join(dict.fromkeys(c[:12] for t in tables for c in t["commits"].values()))


def kind_of_table(tables, measures):
    """Return the summary of the tables of one kind, and a table of each measure in its digits."""
    if not tables:
        return []
    of_measures = [markdown(measure_rows(tables, m, digits)) for m, digits in measures.items()]
    return [markdown(summary_rows(tables)), *of_measures]


def measure_rows(tables, measure, digits):
    """Return mean and standard deviation over the divisions of each table."""
    models = list(tables[0]["models"])
    rows = [[f"test {measure}" + ", %" * (measure == "error"), "rows", "columns", *models]]
    for t in tables:
        cells = [mean_in_words(t["models"].get(m, {}).get(measure), digits) for m in models]
        rows.append([t["table"], f"{t['rows'][0]:,}", str(t["columns"]), *cells])
    return rows


def command(figures):
    """Return the command of the passport, the paths of many tables in one word."""
    return re.sub(r"\S+\.npz( \S+\.npz)+", "PATH/*.npz", figures["passport"]["command"])


def defaults_section(figures):
    """Return by how much each change of a default raises error and log loss on the tables."""
    of, tables, settings = figures["passport"], figures["tables"], figures["settings"]
    return (
        f"`{command(figures)}`, {of['date']}, commit {of['commit'][:12]}.\n\n"
        f"{markdown(changes_rows(figures['changes']))}\n\n"
        f"Error in points and log loss above those of the defaults: mean over {len(tables)} tables "
        f"and its standard error, and the median ratio of the times. Divisions: "
        f"{settings['splits']}, of at most {settings['rows']:,} training rows. "
        f"Tables: {', '.join(t['table'] for t in tables)}."
    )


def regression_section(figures):
    """Return likelihoods and errors on nine tables, and how they compare to published ones."""
    of, runs = figures["passport"], figures["likelihoods"]
    parts = [
        f"{of['processor']}; sk_advbp {of['versions']['sk_advbp']}. The files have the commits."
    ]
    for kind, title in (("nll", "Negative log likelihood"), ("rmse", "RMSE")):
        parts.append(f"{title}, in brackets the number of divisions:")
        parts.append(markdown(regression.rows_of(runs, kind)))
    return "\n\n".join([*parts, "\n".join(f"- {s}" for s in regression.sentences(runs))])


LARGE = (784, 1200, 1200, 10)


def limits_section(figures):
    """Return what the number and the speed of the matrix products alone allow on large nets.

    With P parameters, P₁ of them in the first layer, and n rows, back-propagation takes
    2n(3P - P₁) multiplications and additions, and a first pass, without gradients of the
    parameters, 4nP.
    """
    sizes = [a * b for a, b in pairwise(LARGE)]
    plain, first = 3 * sum(sizes) - sizes[0], 2 * sum(sizes)
    ratio = next(
        ratio["median"]
        for comparison in figures["comparisons"]
        for ratio in comparison["ratios"]
        if (ratio["ours"], ratio["to"]) == ("bfloat16", "float32")
    )
    allowed = [1 + first / plain, 1 + ratio * first / plain, ratio * (1 + first / plain)]
    adversarial, low_first, amp = (f"{value:.2f}" for value in allowed)
    return (
        f"A product in bfloat16 took {ratio:.2f} of the time of one in float32. With the number "
        f"of products of {'-'.join(map(str, LARGE))} an adversarial step then takes "
        f"{adversarial} of the time of a plain one in float32, {low_first} with the first pass in "
        f"bfloat16 and {amp} with `amp=True`, if nothing but products took time."
    )


def mnist_section(findings):
    """Return the table of test errors, clean and attacked, and how they were found."""
    runs = findings.runs("mnist", "relu", ADVERSARIAL)
    settings, of = runs[0]["settings"], runs[0]["passport"]
    sizes = "-".join(map(str, settings["hidden_layer_sizes"]))
    found = (
        f"MNIST without augmentation, 784-{sizes}-10, "
        f"pixels in [0, 1], {seeds_in_words(runs)}; PGD takes 40 steps from each of 5 random "
        f"starts, on {runs[0]['rows_of_pgd']:,} images. Output, ε, rate and epochs of each method "
        "were chosen on the last 10,000 training images. "
        f"{of['processor']}, torch {of['versions']['torch']}. "
        "`python -m benchmarks.reproduction.reproduce --only mnist --data PATH/mnist.npz` makes "
        "the figures."
    )
    parts = [markdown(headline_rows(findings)), found, final_in_short(findings)]
    return "\n\n".join(part for part in (*parts, cifar_in_short(findings)) if part)


def cifar_in_short(findings):
    """Return the test errors on CIFAR-10, a sentence for each kind of columns; empty before."""
    sentences = []
    for experiment, columns in COLUMNS.items():
        runs = findings.pairs(experiment, "relu", (PLAIN, DECAY, DROPOUT, ADVERSARIAL))
        if runs[PLAIN]:
            plain, decay, dropout, adversarial = map(over_seeds, runs.values())
            sentences.append(
                f"On CIFAR-10, by fully connected nets on {columns}, the test error is {plain} % "
                f"with plain back-propagation, {decay} % with weight decay, {dropout} % with "
                f"dropout and {adversarial} % with adversarial back-propagation "
                f"({seeds_in_words(runs[PLAIN])}): the claim of an effect like dropout’s "
                f"{like_dropout(runs)}."
            )
    return " ".join(sentences)


# The columns of the first README's table of times: a word of the work, and its title.
SPEED_COLUMNS = {
    "synthetic": "20-64-2, batch 128",
    "digits": "64-100-10, batch 64",
    "400-400, batch 128": "784-400-400-10, batch 128",
    "1200-1200, batch 512": "784-1200-1200-10, batch 512",
}


def speed_section(figures):
    """Return the time of an adversarial fit of ours as a ratio to each peer's, by the work.

    On small nets there is nothing to gain in bfloat16, which "auto" leaves alone there.
    """
    fits = [next(c for c in figures["comparisons"] if word in c["on"]) for word in SPEED_COLUMNS]
    peers = list(dict.fromkeys(r["to"] for c in fits for r in c["ratios"]))
    rows = [["time of ours / time of", *SPEED_COLUMNS.values()]]
    for peer in peers:
        cells = []
        for comparison in fits:
            of_peer = [f"{r['median']:.2f}" for r in comparison["ratios"] if r["to"] == peer]
            cells.append(" / ".join(of_peer if "MNIST" in comparison["on"] else of_peer[:1]))
        rows.append([peer, *cells])
    of = figures["passport"]
    return (
        f"{markdown(rows)}\n\nWhole adversarial fits in float32 / with the first pass in "
        f"bfloat16 / with `amp=True`; medians of {figures['repeats']} interleaved rounds on one "
        f"thread, {of['processor']} with AVX512-BF16. "
        "`python -m benchmarks.speed.fit_time --threads 1` makes the figures, "
        "[benchmarks/](benchmarks/README.md) has all of them."
    )


def tables_section(figures):
    """Return how the searches stand beside other models on the tables of the check, in short."""
    tables, settings = figures["tables"], figures["settings"]
    classes, numbers = ([t for t in tables if t["regression"] is kind] for kind in (False, True))
    ranks = {measure: mean_ranks(classes, measure) for measure in ("log loss", "error")}
    of_numbers = mean_ranks(numbers, "error")
    rows = [["mean rank", "log loss, classes", "error, classes", "error, regression", "seconds"]]
    for model in MODELS:
        columns = [ranks["log loss"], ranks["error"], of_numbers]
        if any(model in of for of in columns):
            cells = [f"{of[model]:.2f}" if model in of else "" for of in columns]
            rows.append([model, *cells, f"{means(classes, model, 'seconds').sum():.0f}"])
    return (
        f"{markdown(rows)}\n\n{len(classes)} tables of classes and {len(numbers)} of numbers, none "
        "of which chose a default of the searches; at most "
        f"{settings['rows']:,} rows for training, {settings['splits']} divisions, and the seconds "
        "of one fit to each table of classes, in sum. *ours, CV* is `AdvBPClassifierCV()` or "
        "`AdvBPRegressorCV()`; RealMLP is ranked by error with its defaults, by log loss as its "
        "authors set it for that. "
        "`python -m benchmarks.tables.tabular` makes the figures, "
        "[benchmarks/](benchmarks/README.md#errors-on-tables) has all of them."
    )


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
    of_tables = {
        "tabular": tabular_section,
        "defaults": defaults_section,
        "search_defaults": defaults_section,
        "regression": regression_section,
    }
    for name, section_of in of_tables.items():
        path = given.results / f"{name}.json"
        known = path.is_file()
        sections[name] = section_of(json.loads(path.read_text("utf-8"))) if known else MISSING
    measured = "step_cost" in found
    sections["limits"] = limits_section(found["step_cost"]) if measured else MISSING
    sections["targets"] = (targets_table(comparisons) if comparisons else "") or MISSING
    write_filled(given.readme, sections)
    if given.results == RESULTS:
        write_filled(ROOT / "README.md", first_page())


def first_page():
    """Return the sections of the first README."""
    names = ("fit_time", "tabular")
    fits, tables = (json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in names)
    return {
        "mnist": mnist_section(Findings()),
        "tables": tables_section(tables),
        "speed": speed_section(fits),
    }


def write_filled(path, sections):
    """Write the `sections` between their marks in the file."""
    path.write_text(filled(path.read_text("utf-8"), sections), encoding="utf-8")


if __name__ == "__main__":
    main()
