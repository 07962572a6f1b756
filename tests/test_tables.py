"""Tables of numbers and categories: ε by columns, DataFrames, sparse columns."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.tables import epsilon_of_columns

N = 60
rng = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "age": rng.normal(50, 10, N),
        "colour": rng.choice(["red", "green", "blue"], N),
        "income": rng.lognormal(10, 1, N),
        "size": rng.choice(["S", "M"], N),
    }
)
Y = np.where((TABLE["age"] > 50) ^ (TABLE["colour"] == "red"), "yes", "no")
NUMBERS, CATEGORIES = ["age", "income"], ["colour", "size"]
QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 5, "random_state": 0}


def columns(sparse_output=False, **options):
    return make_column_transformer(
        (OneHotEncoder(sparse_output=sparse_output), CATEGORIES),
        (StandardScaler(), NUMBERS),
        sparse_threshold=float(sparse_output),
        **options,
    ).set_output(transform="default" if sparse_output else "pandas")


def test_numbers_move_and_categories_stay():
    transformer = columns().fit(TABLE)
    epsilons = epsilon_of_columns(transformer, 0.1)
    np.testing.assert_array_equal(epsilons, [0] * 5 + [0.1] * 2)
    assert list(transformer.get_feature_names_out()[epsilons > 0]) == [
        "standardscaler__age",
        "standardscaler__income",
    ]


@settings(deadline=None, max_examples=25)
@given(
    kinds=st.lists(st.sampled_from(["number", "one-hot", "ordinal", "nested", "drop"]), max_size=5),
    remainder=st.sampled_from(["drop", "passthrough"]),
)
def test_any_transformer_counts_its_own_columns(kinds, remainder):
    """Against what the names of the columns say, one after the other."""
    table = {f"c{i}": rng.permutation(np.arange(N) % 3).astype(float) for i in range(6)}
    of_kind = {
        "number": StandardScaler(),
        "one-hot": OneHotEncoder(sparse_output=False),
        "ordinal": OrdinalEncoder(),
        "nested": make_pipeline(SimpleImputer(), OneHotEncoder(sparse_output=False)),
        "drop": "drop",
    }
    transformers = [(f"{kind} {i}", of_kind[kind], [f"c{i}"]) for i, kind in enumerate(kinds)]
    transformer = ColumnTransformer(transformers, remainder=remainder).fit(pd.DataFrame(table))
    names = transformer.get_feature_names_out()
    expected = [0.3 * name.startswith(("number", "remainder")) for name in names]
    np.testing.assert_array_equal(epsilon_of_columns(transformer, 0.3), expected)
    width = transformer.transform(pd.DataFrame(table)).shape[1]
    assert len(expected) == width


def test_a_dict_has_a_value_for_each_transformer():
    transformer = make_pipeline("passthrough", columns()).fit(TABLE)
    epsilons = epsilon_of_columns(transformer, {"onehotencoder": 0.5, "standardscaler": 0.2})
    np.testing.assert_array_equal(epsilons, [0.5] * 5 + [0.2] * 2)


@pytest.mark.parametrize(
    "epsilon, message",
    [
        ({"standardscaler": 0.1}, r"\['onehotencoder'\] missing, \[\] unknown"),
        (
            {"standardscaler": 0.1, "onehotencoder": 0, "scaler": 1},
            r"\[\] missing, \['scaler'\] unknown",
        ),
        (-0.1, r"finite and >= 0. Got -0\.1"),
        (np.nan, "finite and >= 0. Got nan"),
        ({"standardscaler": np.inf, "onehotencoder": 0}, "finite and >= 0"),
    ],
)
def test_bad_rules(epsilon, message):
    with pytest.raises(ValueError, match=message):
        epsilon_of_columns(columns().fit(TABLE), epsilon)


def test_other_transformers_are_refused():
    with pytest.raises(TypeError, match=r"ColumnTransformer.* Got StandardScaler\(\)"):
        epsilon_of_columns(StandardScaler().fit(TABLE[NUMBERS]))
    with pytest.raises(NotFittedError):
        epsilon_of_columns(columns())


@pytest.mark.parametrize("estimator", [AdvBPClassifier, AdvBPRegressor])
def test_lengths_that_disagree_are_named(estimator):
    X = columns().fit_transform(TABLE)
    net = estimator(**QUICK, epsilon=[0.1] * 6)
    with pytest.raises(ValueError, match=r"epsilon must be .*\(7,\).* Got .*\(6,\)"):
        net.fit(X, np.arange(N) % 2)
    net.set_params(epsilon=0.1, epsilon_unit=[1.0] * 6)
    with pytest.raises(ValueError, match=r"epsilon_unit must be .*\(7,\).* Got .*\(6,\)"):
        net.fit(X, np.arange(N) % 2)


def test_one_hot_columns_are_not_moved():
    transformer = columns()
    X = transformer.fit_transform(TABLE)
    net = AdvBPClassifier(**QUICK, epsilon=epsilon_of_columns(transformer, 0.1)).fit(X, Y)
    assert list(net.feature_names_in_) == list(X.columns)
    moved = net.adversarial_examples(X, Y) - X
    assert (moved.iloc[:, :5] == 0).all(axis=None)
    np.testing.assert_allclose(np.abs(moved.iloc[:, 5:]), 0.1, rtol=1e-6)


def test_sparse_columns_give_the_same_net_as_dense_ones():
    X_sparse, X = columns(sparse_output=True).fit_transform(TABLE), columns().fit_transform(TABLE)
    assert sparse.issparse(X_sparse)
    epsilon = epsilon_of_columns(columns().fit(TABLE), 0.1)
    for net in (
        AdvBPClassifier(**QUICK, epsilon=epsilon),
        AdvBPClassifierCV(**QUICK, epsilons=3, epsilon_unit=epsilon, cv=3),
    ):
        of_sparse = net.fit(X_sparse, Y).predict_proba(X_sparse)
        of_dense = net.fit(X.to_numpy(), Y).predict_proba(X.to_numpy())
        np.testing.assert_allclose(of_sparse, of_dense, rtol=1e-10)


def test_the_whole_table_through_a_pipeline():
    transformer = columns()
    unit = epsilon_of_columns(transformer.fit(TABLE))
    search = AdvBPClassifierCV(**QUICK, epsilons=[0, 0.1], epsilon_unit=unit, cv=3)
    model = make_pipeline(transformer, search).fit(TABLE, Y)
    assert set(model.predict(TABLE)) <= {"yes", "no"}
    assert model[-1].n_features_in_ == 7
    assert list(model[-1].feature_names_in_) == list(transformer.get_feature_names_out())
    np.testing.assert_array_equal(model[-1].epsilon_unit_, [0] * 5 + [1] * 2)


# ---- which columns stand for categories -----------------------------------------------

GAPS = TABLE[NUMBERS].mask(np.random.default_rng(0).random((len(TABLE), len(NUMBERS))) < 0.2)


class Unknown(TransformerMixin, BaseEstimator):
    """Somebody's encoder: numbers or categories, nobody can tell."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.asarray(X)

    def get_feature_names_out(self, names=None):
        return names


# Transformer of the numbers, and which of what it puts out moves.
KNOWN = {
    "passthrough": ("passthrough", [1, 1]),
    "identity": (FunctionTransformer(feature_names_out="one-to-one"), [1, 1]),
    "scaled": (make_pipeline(SimpleImputer(), RobustScaler()), [1, 1]),
    "neighbours": (KNNImputer(), [1, 1]),
    "indicator": (SimpleImputer(add_indicator=True), [1, 1, 0, 0]),
    "scaled indicator": (
        make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), MaxAbsScaler()),
        [1, 1, 0, 0],
    ),
    "gaps alone": (MissingIndicator(), [0, 0]),
    "components": (make_pipeline(SimpleImputer(), PCA(1)), [1]),
    "selected": (make_pipeline(SimpleImputer(), VarianceThreshold()), [1, 1]),
    "two values": (make_pipeline(SimpleImputer(), Binarizer()), [0, 0]),
    "bins, scaled": (
        make_pipeline(
            SimpleImputer(),
            KBinsDiscretizer(2, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
            StandardScaler(),
        ),
        [0, 0, 0, 0],
    ),
    "nothing": ("drop", []),
}


@pytest.mark.parametrize("transformer, expected", KNOWN.values(), ids=KNOWN)
def test_what_is_a_number(transformer, expected):
    columns = ColumnTransformer([("of numbers", transformer, NUMBERS)])
    np.testing.assert_array_equal(epsilon_of_columns(columns.fit(GAPS)), expected)


UNKNOWN = {
    "somebody's": Unknown(),
    "inside": make_pipeline(SimpleImputer(), Unknown(), StandardScaler()),
    "a function": FunctionTransformer(np.log1p, feature_names_out="one-to-one"),
    "a union": make_union(SimpleImputer()),
    "mixed with indicators": make_pipeline(SimpleImputer(add_indicator=True), PCA(2)),
    "columns in columns": make_column_transformer((SimpleImputer(), NUMBERS)),
}


@pytest.mark.parametrize("transformer", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_refused_by_name(transformer):
    columns = ColumnTransformer([("theirs", transformer, NUMBERS)]).fit(GAPS)
    with pytest.raises(ValueError, match=r"transformer 'theirs' may move: its .* a dict"):
        epsilon_of_columns(columns, 0.1)
    found = epsilon_of_columns(columns, {"theirs": 0.1})
    assert (found == 0.1).all() and len(found) == columns.transform(GAPS).shape[1]
