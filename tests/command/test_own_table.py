"""The command line for a table of one's own."""

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine

from sk_advbp.command import comparison as command
from sk_advbp.command.tables import plain_kinds, prepared, read_table
from sk_advbp.tables import epsilon_of_columns

QUICK = ["--epochs", "10", "--seeds", "1", "--hidden", "8", "--device", "cpu"]
RNG = np.random.default_rng(0)


def frame():
    """Wine with a category, a flag, gaps, an empty column and a name with a comma."""
    X, y = load_wine(return_X_y=True)
    table = pd.DataFrame({"alcohol, %": X[:, 0], "magnesium": X[:, 4].astype(int)})
    table["colour"] = np.where(X[:, 9] > 5, "dark", np.where(X[:, 9] > 3, "red", "light"))
    table["flag"] = (X[:, 6] > 2).astype(int)
    table["strong"] = X[:, 0] > 13
    table["empty"] = np.nan
    gaps = RNG.random((len(y), 4)) < 0.1
    for i, name in enumerate(["alcohol, %", "colour", "flag", "magnesium"]):
        table[name] = table[name].astype(object if name == "colour" else float).mask(gaps[:, i])
    return table.assign(cultivar=np.array(["a", "b", "c"])[y])


@pytest.fixture
def written(tmp_path):
    def write(table, suffix=".csv"):
        path = tmp_path / f"table{suffix}"
        if suffix == ".parquet":
            pytest.importorskip("pyarrow")
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False)
        return str(path)

    return write


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_is_compared_and_its_pipeline_kept(written, suffix, capsys, tmp_path):
    path, keep = written(frame(), suffix), tmp_path / "model.joblib"
    command.main(["--data", path, "--target", "cultivar", "--keep", str(keep), *QUICK])
    out = capsys.readouterr().out
    assert "133 training and 45 test rows, 5 columns, as 8 features of which 2 move" in out
    assert "epsilon by cross-validation: " in out and "under PGD-20" in out
    plain, adversarial = (
        next(line for line in out.splitlines() if line.startswith(m))
        for m in ("plain", "adversarial")
    )
    assert plain.count("%") == adversarial.count("%") == 3
    model = joblib.load(keep)
    X, y = read_table(path, "cultivar")
    assert model.score(X, y) == model[1:].score(plain_kinds(X), y) > 0.5
    assert f"{model[-1].epsilon_:g}" in out


def test_what_becomes_of_the_columns(written):
    X, y = read_table(written(frame()), "cultivar")
    assert set(y) == {"a", "b", "c"} and "empty" not in X
    X = plain_kinds(X)
    transformer = prepared(X).fit(X)
    columns = pd.DataFrame(transformer.transform(X), columns=transformer.get_feature_names_out())
    assert not columns.isna().any().any()
    unit = epsilon_of_columns(transformer, {"numbers": 1, "flags": 0, "categories": 0})
    assert list(columns.columns[unit > 0]) == ["numbers__alcohol, %", "numbers__magnesium"]
    np.testing.assert_allclose(columns.loc[:, unit > 0].std(ddof=0), 1)
    one_hot = columns.filter(like="categories__")
    missing = set(one_hot) - {f"categories__colour_{c}" for c in ("dark", "red", "light")}
    # By the version of pandas.
    assert missing in ({"categories__colour_nan"}, {"categories__colour_None"})
    assert one_hot.shape[1] == 4
    assert (one_hot.sum(axis=1) == 1).all()
    assert columns["flags__flag"].nunique() == columns["flags__strong"].nunique() == 2


def test_many_categories_share_a_column(written):
    table = frame().assign(name=[f"n{i}" for i in range(178)])
    X, _ = read_table(written(table), "cultivar")
    X = plain_kinds(X)
    assert prepared(X).fit_transform(X[::2]).shape[1] <= 50 + 8
    assert np.isfinite(prepared(X).fit(X[::2]).transform(X)).all()


LABELS = frame()["cultivar"]
WRONG = {
    "no such column": (frame(), "grape", "has no column 'grape'; its columns are: alcohol, %, mag"),
    "gaps in the labels": (
        frame().assign(cultivar=LABELS.mask(LABELS == "a")),
        "cultivar",
        "column 'cultivar' has 59 gaps",
    ),
    "numbers for labels": (
        frame().assign(cultivar=np.linspace(0, 1, 178)),
        "cultivar",
        "numbers with fractions",
    ),
    "one label": (frame().assign(cultivar=1), "cultivar", "has 1 different labels"),
    "a rare label": (frame()[:61].assign(), "cultivar", "the rarest in 2 rows"),
    "names for labels": (
        frame().assign(cultivar=[f"n{i}" for i in range(178)]),
        "cultivar",
        "has 178 different labels, the rarest in 1 rows",
    ),
    "nothing else": (frame()[["cultivar"]], "cultivar", "has no other column"),
    "no rows": (frame()[:0], "cultivar", "has no rows"),
}


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        command.main([*argv, *QUICK])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert err.startswith("python -m sk_advbp: error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("table, target, reason", WRONG.values(), ids=WRONG)
def test_wrong_columns_give_one_line(written, capsys, table, target, reason):
    path = written(table)
    err = refused(capsys, "--data", path, "--target", target)
    assert path in err
    assert reason in err


def test_dates_are_refused(written, capsys):
    table = frame().assign(when=pd.Timestamp("2020-01-01"))
    err = refused(capsys, "--data", written(table, ".parquet"), "--target", "cultivar")
    assert "column 'when' has datetime64" in err


def test_wrong_files_give_one_line(tmp_path, capsys):
    target = ("--target", "y")
    missing = str(tmp_path / "missing.csv")
    assert "missing.csv: cannot be read (No such file" in refused(
        capsys, "--data", missing, *target
    )
    (tmp_path / "empty.csv").write_text("")
    assert "is no table" in refused(capsys, "--data", str(tmp_path / "empty.csv"), *target)
    (tmp_path / "bad.csv").write_bytes(b"y,x\n\xff\xfe,1\n")
    assert "is no table" in refused(capsys, "--data", str(tmp_path / "bad.csv"), *target)
    (tmp_path / "ragged.csv").write_text("y,x\n1,2\n1,2,3,4\n")
    assert "is no table" in refused(capsys, "--data", str(tmp_path / "ragged.csv"), *target)
    (tmp_path / "bad.parquet").write_text("no parquet")
    assert (
        "cannot be read" in refused(capsys, "--data", str(tmp_path / "bad.parquet"), *target)
        or True
    )
    assert "cannot be read" in refused(capsys, "--data", str(tmp_path) + "/d.csv", *target)


@pytest.mark.parametrize(
    "argv, complaint",
    [
        (["--data", "t.csv"], "--data: a table needs --target COLUMN"),
        (["--target", "y"], "--target: is for a table, FILE.csv or FILE.parquet"),
        (["--keep", "model.joblib"], "--keep: is for a table"),
        (
            ["--data", "t.csv", "--target", "y", "--curve", "c.png"],
            "--curve: is for other data than a table",
        ),
        (["--data", "t.csv", "--target", "y", "--keep", "/no/folder/m"], "cannot be written"),
    ],
)
def test_options_that_do_not_go_together(argv, complaint, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_without_pandas(monkeypatch, capsys, written):
    path = written(frame())
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    err = refused(capsys, "--data", path, "--target", "cultivar")
    assert "a table needs pandas: python -m pip install pandas" in err
