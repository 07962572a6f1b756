"""Frames of any kind: one in, the same kind out; what is yet to be computed is refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.robustness import adversarial_accuracy_score, adversarial_examples

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
NAMES = ["age", "height", "mass"]
COLUMNS = dict(zip(NAMES, X.T, strict=True))


def frame_of(library, dtype="f8"):
    module = pytest.importorskip(library)
    columns = {name: values.astype(dtype) for name, values in COLUMNS.items()}
    if library == "pandas":
        return pd.DataFrame(columns, index=np.arange(60) + 5)
    return module.DataFrame(columns) if library == "polars" else module.table(columns)


def labels_of(library):
    module = pytest.importorskip(library)
    if library == "pyarrow":
        return module.chunked_array([module.array(Y)])
    return module.Series(Y)


ESTIMATORS = {
    "classifier": AdvBPClassifier((5,), max_epochs=3, random_state=0),
    "search": AdvBPClassifierCV((5,), max_epochs=2, epsilons=2, cv=2, random_state=0),
    "regressor": AdvBPRegressor((5,), max_epochs=3, random_state=0),
    "pipeline": make_pipeline(
        StandardScaler(), AdvBPClassifier((5,), max_epochs=3, random_state=0)
    ),
}


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("net", ESTIMATORS.values(), ids=ESTIMATORS)
def test_a_frame_in_the_same_kind_out(net, library, dtype):
    frame = frame_of(library, dtype)
    net.fit(frame, labels_of(library))
    assert net.feature_names_in_.tolist() == NAMES
    predicted = net.predict(frame)
    moved = adversarial_examples(net, frame, Y, epsilon=0.1, attack="pgd", random_state=0)
    assert type(moved) is type(frame)
    names = moved.column_names if library == "pyarrow" else list(moved.columns)
    assert names == NAMES
    net.predict(moved)  # without a warning of names
    if library == "pandas":
        assert moved.index.equals(frame.index)
    if "Regressor" not in str(net):
        adversarial_accuracy_score(net, frame, labels_of(library), 0.1)
    net.fit(X.astype(dtype), Y)
    if net is not ESTIMATORS["pipeline"]:  # scikit-learn's scaler makes float64 of some frames
        np.testing.assert_allclose(predicted, net.predict(X.astype(dtype)), rtol=1e-6)
        expected = net.adversarial_examples(
            X.astype(dtype), Y, epsilon=0.1, attack="pgd", random_state=0
        )
        np.testing.assert_allclose(np.asarray(moved), expected, rtol=1e-6)


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_frames_of_other_columns(library):
    net = ESTIMATORS["classifier"].fit(frame_of("pandas"), Y)
    frame = frame_of(library)
    other = frame.select(NAMES[::-1])
    with pytest.raises(ValueError, match="feature names should match"):
        net.predict(other)
    with pytest.raises(ValueError, match=r"3 features|feature names should match"):
        net.predict(frame.select(NAMES[:2]))


def test_dask_is_to_be_computed():
    dask = pytest.importorskip("dask.dataframe")
    frame = dask.from_pandas(frame_of("pandas"), npartitions=2)
    net = AdvBPClassifier((5,), max_epochs=1)
    for X_given, y_given in ((frame, Y), (X, frame["age"]), (frame, frame["age"] > 0)):
        with pytest.raises(ValueError, match=r"dask .* yet to be computed: give X.compute\(\)"):
            net.fit(X_given, y_given)
    assert not hasattr(net, "classes_")
    net.fit(frame.compute(), Y)
    with pytest.raises(ValueError, match="compute"):
        net.predict(frame)


def test_polars_lazy_frames_are_to_be_collected():
    net = AdvBPClassifier((5,), max_epochs=1)
    with pytest.raises(ValueError, match=r"polars LazyFrame.* give X.collect\(\)"):
        net.fit(frame_of("polars").lazy(), Y)
