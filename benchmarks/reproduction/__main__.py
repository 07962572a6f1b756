"""Print all tables and sentences of what was found.

python -m benchmarks.reproduction
"""

import argparse
from pathlib import Path

from benchmarks.harness import markdown
from benchmarks.reproduction.findings import Findings
from benchmarks.reproduction.reproduce import FOLDER
from benchmarks.reproduction.sentences import SENTENCES
from benchmarks.reproduction.tables import TABLES


def main(argv=None):
    """Print all that is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=FOLDER)
    findings = Findings(parser.parse_args(argv).results)
    for name, rows_of in TABLES.items():
        rows = rows_of(findings)
        if len(rows) > 1:
            print(f"## {name}\n\n{markdown(rows)}\n")
    for name, sentences_of in SENTENCES.items():
        if sentences := sentences_of(findings):
            print(f"## {name} sentences\n", *sentences, "", sep="\n")


if __name__ == "__main__":
    main()
