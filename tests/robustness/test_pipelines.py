"""The way through a pipeline, step by step: scalers, samplers, imputers, text, frames."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from sk_advbp import AdvBPClassifier
from sk_advbp.robustness import (
    adversarial_accuracy_score,
    adversarial_examples,
    robustness_curve,
    transfer_accuracy_score,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
GAPS = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
NAMES = ["age", "height", "mass"]


def net():
    return AdvBPClassifier((8,), max_epochs=5, random_state=0)


class Sampler:
    """What imbalanced-learn's samplers are to a pipeline that predicts."""

    def fit(self, X, y=None):
        return self

    def fit_resample(self, X, y):
        raise AssertionError("rows are chosen in fit alone")

    transform = property()  # not there


def passing(*steps):
    """A fitted pipeline of the given steps and a net; samplers have had their turn."""
    model = make_pipeline(*steps, net())
    acting = make_pipeline(*(s for s in steps if not isinstance(s, Sampler)), net())
    acting.fit(*passing.data)
    fitted = iter(step for _, step in acting.steps)
    model.steps = [
        (name, step if isinstance(step, Sampler) else next(fitted)) for name, step in model.steps
    ]
    return model, acting


FAR = {
    "float64": X,
    "float32": X.astype("f4"),
    "float16": X.astype("f2"),
    "far from zero": (X * 300 + 101325).astype("f4"),
    "further": (X + 1e4).astype("f4"),
    "whole numbers": np.round(X * 100).astype(int),
    "frame": pd.DataFrame(X * 300 + 101325, columns=NAMES, dtype="f4"),
    "mixed frame": pd.DataFrame(X, columns=NAMES).astype({"age": "f4", "mass": "f2"}),
    "gaps": GAPS,
    "gaps in float32": (GAPS * 300 + 101325).astype("f4"),
    "frame with gaps": pd.DataFrame(GAPS, columns=NAMES),
}
STEPS = {
    "scaler": [StandardScaler()],
    "robust scaler": [RobustScaler()],
    "sampler": [Sampler(), StandardScaler(), Sampler()],
    "passthrough": ["passthrough", StandardScaler(), None],
    "quantiles": [QuantileTransformer(n_quantiles=20), StandardScaler()],
    "components": [StandardScaler(), PCA()],
    "inner pipeline": [make_pipeline(MinMaxScaler(), StandardScaler())],
    "mean": [SimpleImputer(), StandardScaler()],
    "scaler first": [StandardScaler(), SimpleImputer(strategy="median"), RobustScaler()],
    "neighbours": [StandardScaler(), KNNImputer(n_neighbors=3)],
    "iterative": [StandardScaler(), IterativeImputer(max_iter=2, tol=10)],
    "pandas": [
        SimpleImputer().set_output(transform="pandas"),
        StandardScaler().set_output(transform="pandas"),
    ],
    "float32 inside": [
        SimpleImputer(),
        StandardScaler(),
        FunctionTransformer(lambda X: X.astype("f4"), inverse_func=lambda X: X),
    ],
}


def makes_sense(steps, data):
    gaps = pd.isna(np.asarray(FAR[data], dtype=float)).any()
    imputes = any("Imputer" in type(s).__name__ for s in STEPS[steps])
    # A quantile transformer is flat at its ends, and takes no gap; float16 there is too coarse.
    return imputes or not gaps


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("steps, data", [(s, d) for s in STEPS for d in FAR if makes_sense(s, d)])
def test_back_through_a_pipeline(steps, data):
    given = FAR[data]
    passing.data = given, Y
    model, acting = passing(*STEPS[steps])
    epsilon = 0.01
    try:
        moved = adversarial_examples(model, given, Y, epsilon=epsilon)
    except ValueError as error:
        # Some points of some transformers have no way back, which is said of the step.
        assert steps in ("quantiles", "iterative", "neighbours")
        assert "cannot be inverted" in str(error) and "The step '" in str(error)
        return
    assert type(moved) is type(given) and moved.shape == given.shape
    before, after = (acting[:-1].transform(points) for points in (_f8(given), moved))
    seen = np.asarray(before), np.asarray(after)
    np.testing.assert_allclose(np.abs(seen[1] - seen[0]).max(), epsilon, rtol=0.02)
    # What the net does with them is what it does in its own units.
    own = model[-1].adversarial_examples(before, Y, epsilon=epsilon)
    np.testing.assert_allclose(seen[1], own, atol=2e-4)
    untouched = adversarial_examples(model, given, Y, epsilon=0)
    there = ~np.isnan(np.asarray(given, dtype=float))
    np.testing.assert_array_equal(np.asarray(untouched)[there], np.asarray(_f8(given))[there])
    assert not np.isnan(np.asarray(moved, dtype=float)).any()


def _f8(X):
    return X.astype("f8")


def text_of(y):
    return [f"{'good great' if yi else 'bad awful'} word{i % 5}" for i, yi in enumerate(y)]


FRAME = pd.DataFrame({"age": X[:, 0], "colour": np.where(Y, "red", "blue")})
ENDINGS = {
    "text": ([TfidfVectorizer()], text_of(Y), "tfidfvectorizer", "numbers"),
    "columns": (
        [make_column_transformer((StandardScaler(), ["age"]), (OneHotEncoder(), ["colour"]))],
        FRAME,
        "columntransformer",
        "inverse_transform",
    ),
    "norm": ([StandardScaler(), Normalizer()], X, "normalizer", "inverse_transform"),
    "two values": ([Binarizer(), StandardScaler()], X, "binarizer", "inverse_transform"),
    "clipped": ([MaxAbsScaler(), MinMaxScaler(clip=True)], X, "minmaxscaler", "give the attack"),
    "fewer columns": ([StandardScaler(), PCA(1), MaxAbsScaler()], X, None, None),
    "union": ([FeatureUnion([("a", StandardScaler())])], X, "featureunion", "inverse_transform"),
    "indicator": ([SimpleImputer(add_indicator=True)], GAPS, "simpleimputer", "columns of 3"),
    "no way back": ([FunctionTransformer(np.exp)], X, "functiontransformer", "off by"),
    "empty column": (
        [SimpleImputer(keep_empty_features=False)],
        np.column_stack([X, np.full(90, np.nan)]),
        "simpleimputer",
        "columns of 4",
    ),
}


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.parametrize("steps, given, name, reason", ENDINGS.values(), ids=ENDINGS)
def test_a_step_without_a_way_back_is_named(steps, given, name, reason):
    """Scores do not need one, and are as in the net's own units."""
    model = make_pipeline(*steps, net()).fit(given, Y)
    own = model[:-1].transform(given)
    score = adversarial_accuracy_score(model, given, Y, 0.3)
    assert score == adversarial_accuracy_score(model[-1], own, Y, 0.3)
    assert robustness_curve(model, given, Y, [0, 0.3])[1] == score
    if name is None:
        assert adversarial_examples(model, given, Y, epsilon=0.3).shape == np.shape(given)
        return
    with pytest.raises(ValueError, match=rf"The step '{name}' \(.*\) cannot be inverted.*{reason}"):
        adversarial_examples(model, given, Y, epsilon=0.3)


def test_sparse_steps():
    given = sparse.csr_array(np.where(np.abs(X) > 1, X, 0))
    model = make_pipeline(MaxAbsScaler(), net()).fit(given, Y)
    moved = adversarial_examples(model, given, Y, epsilon=0.1)
    reached = model[:-1].transform(moved) - model[:-1].transform(given).toarray()
    np.testing.assert_allclose(np.abs(reached).max(), 0.1, rtol=1e-3)


def test_frozen_nets_and_searches():
    model = make_pipeline(FrozenEstimator(StandardScaler().fit(X)), net()).fit(X, Y)
    frozen = FrozenEstimator(model)
    search = GridSearchCV(model, {"advbpclassifier__epsilon": [0.1]}, cv=2).fit(X, Y)
    for estimator in (frozen, make_pipeline(FrozenEstimator(model[0]), model[-1]), search):
        assert adversarial_accuracy_score(estimator, X, Y, 0) == estimator.score(X, Y)
        assert adversarial_examples(estimator, X, Y, epsilon=0.1).shape == X.shape


def test_imbalanced_learns_own_pipeline():
    imblearn = pytest.importorskip("imblearn")
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline as make
    from imblearn.under_sampling import RandomUnderSampler

    assert imblearn.__version__
    y = (X[:, 0] > 0.8).astype(int)
    for sampler in (SMOTE(random_state=0), RandomUnderSampler(random_state=0)):
        for steps in ([StandardScaler(), sampler], [sampler, StandardScaler()]):
            model = make(*steps, net()).fit(X, y)
            assert adversarial_accuracy_score(model, X, y, 0) == model.score(X, y)
            scaler = next(s for s in model if isinstance(s, StandardScaler))
            moved = adversarial_examples(model, X, y, epsilon=0.1)
            np.testing.assert_allclose(np.abs(moved - X).max(0), 0.1 * scaler.scale_, rtol=1e-6)
            assert 0 <= transfer_accuracy_score(model, model, X, y, 0.1) <= model.score(X, y)
