"""Two revisions are timed by turns, and their worktrees do not stay."""

import re
import tempfile

import pytest

from benchmarks import compare
from benchmarks.passport import ROOT, git

needs_git = pytest.mark.skipif(
    git("rev-parse", "--show-toplevel") != str(ROOT), reason="no git, or no repository here"
)


@needs_git
def test_a_revision_against_itself(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compare.main(["HEAD", "--head", "HEAD", "--quick", "--repeats", "1"])
    printed = capsys.readouterr().out
    assert printed.count(git("rev-parse", "HEAD")) == 2 and "threads: 1, rounds: 1" in printed
    measured = re.findall(r"^\| (\w+).* ms +\| \S+ \(\S+ – \S+\) +\|$", printed, re.M)
    fits, predictions = ["plain", "adversarial"] * 2, ["predict_proba"] * 2
    assert measured == ["import", *fits, "AdvBPClassifierCV", *predictions]
    assert not list(tmp_path.iterdir()) and str(tmp_path) not in git("worktree", "list")


@needs_git
def test_a_revision_that_is_none(capsys):
    with pytest.raises(SystemExit):
        compare.main(["no-such-revision"])
    assert "no-such-revision names no commit" in capsys.readouterr().err


def test_ratios_are_those_within_the_rounds():
    table = compare.table({"fit": {"base": [1.0, 10.0, 4.0], "head": [2.0, 5.0, 4.0]}})
    assert "4 (1 – 10) ms" in table and "1 (0.5 – 2) |" in table
