"""How hard a fitted net is to fool: scores, a scorer, curves, pictures.

Every function takes an `AdvBPClassifier`, a pipeline whose last step is one, or a fitted search
over either; ε is in the units that the last step sees.

What lives here: scores under attack (`scores`), the net at the end of a pipeline and the way back
to the user's units (`pipelines`), displays (`curve_display`, `examples_display`, `images`), the
bridge to the Adversarial Robustness Toolbox (`art`). What may not: mathematics of an attack,
which is in `sk_advbp.core.attacks`, or anything that trains.
"""

from sk_advbp.robustness.art import to_art
from sk_advbp.robustness.curve_display import RobustnessCurveDisplay
from sk_advbp.robustness.examples_display import AdversarialExamplesDisplay
from sk_advbp.robustness.scores import (
    AdversarialScorer,
    adversarial_accuracy_score,
    adversarial_examples,
    make_adversarial_scorer,
    robustness_curve,
    transfer_accuracy_score,
)

__all__ = [
    "AdversarialExamplesDisplay",
    "AdversarialScorer",
    "RobustnessCurveDisplay",
    "adversarial_accuracy_score",
    "adversarial_examples",
    "make_adversarial_scorer",
    "robustness_curve",
    "to_art",
    "transfer_accuracy_score",
]
