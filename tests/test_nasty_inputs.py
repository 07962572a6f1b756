"""Some of the inputs of `nasty_inputs`, and sequences of calls that hypothesis makes up."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from nasty_inputs import attack_options, nasty_array, nasty_labels, state_of, tried

from sk_advbp import AdvBPClassifier

PART = 250

# scikit-learn's own, of which the others are about what comes from inside.
pytestmark = [
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:A column-vector y was passed"),
    pytest.mark.filterwarnings("ignore:The number of unique classes is greater than 50%"),
]


@pytest.mark.parametrize("first", range(0, 2000, PART))
def test_nasty_inputs(first):
    """Numbers of their own: the run that is started by hand begins with the same ones."""
    counts, broken = tried(range(first, first + PART))
    assert not broken, "\n".join(f"{number}: {what}" for number, what in broken.items())
    assert counts["inputs"] == PART and counts["passed"] > PART / 3


class Calls(RuleBasedStateMachine):
    """fit, set_params, partial_fit, pickle and predict in any order, on one estimator."""

    def __init__(self):
        super().__init__()
        self.net = AdvBPClassifier((3,), max_epochs=1, random_state=0)
        self.X = None

    def tried(self, call):
        before = state_of(self.net)
        try:
            call()
        except (ValueError, TypeError) as error:
            assert str(error)
            assert state_of(self.net) == before
            return False
        return True

    @rule(seed=st.integers(0, 10**6), incremental=st.booleans(), nasty=st.booleans())
    def train(self, seed, incremental, nasty):
        rng = np.random.default_rng(seed)
        X = nasty_array(rng, (12, 2)) if nasty else rng.normal(size=(12, 2))
        y = nasty_labels(rng, 12, False) if nasty else np.arange(12) % 3
        if incremental:
            passed = self.tried(lambda: self.net.partial_fit(X, y, classes=[0, 1, 2]))
        else:
            passed = self.tried(lambda: self.net.fit(X, y))
        if passed:
            self.X = rng.normal(size=(4, *self.net.sample_shape_))

    @rule(
        params=st.fixed_dictionaries(
            {},
            optional={
                "warm_start": st.booleans(),
                "epsilon": st.sampled_from([0, 0.1, np.nan, "a", np.array([0.1, 0.0])]),
                "hidden_layer_sizes": st.sampled_from([(3,), (2, 2), -1]),
                "lr": st.floats(allow_nan=True),
                "activation": st.sampled_from(["relu", "tanh", "softplus"]),
                "dtype": st.sampled_from(["auto", "float32", "float64"]),
                "early_stopping": st.booleans(),
                "classes": st.sampled_from([None, [0, 1, 2], [0, 1]]),
                "unknown": st.just(1),
            },
        )
    )
    def set_params(self, params):
        self.tried(lambda: self.net.set_params(**params))

    @rule(way=st.sampled_from([copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]))
    def copied(self, way):
        twin = way(self.net)
        assert vars(twin).keys() == vars(self.net).keys()
        self.net = twin

    @precondition(lambda self: self.X is not None)
    @rule(seed=st.integers(0, 10**6))
    def attack(self, seed):
        rng = np.random.default_rng(seed)
        y = nasty_labels(rng, len(self.X), False)
        self.tried(lambda: self.net.adversarial_examples(self.X, y, **attack_options(rng)))

    @rule()
    def predict_nothing(self):
        assert not self.tried(lambda: self.net.predict(np.empty((0, 2))))

    @invariant()
    def a_fitted_net_predicts(self):
        if self.X is not None:
            proba = self.net.predict_proba(self.X)
            np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
            assert set(self.net.predict(self.X)) <= set(self.net.classes_)


TestCalls = Calls.TestCase
TestCalls.settings = settings(
    max_examples=10,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
