"""
Choosing ε by what counts
=========================

`AdvBPClassifierCV` chooses the ε of adversarial back-propagation by any score. What it finds best
depends on the question: for accuracy on clean data a small ε is enough, against an attacker it
takes a larger one. `make_adversarial_scorer` asks the second question.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sk_advbp import AdvBPClassifierCV
from sk_advbp.robustness import RobustnessCurveDisplay, make_adversarial_scorer

X_train, X_test, y_train, y_test = train_test_split(
    *load_digits(return_X_y=True), test_size=400, random_state=0
)

# %%
# The same candidates, two scores. The attack of the second is PGD with ε = 0.1, whatever ε a
# candidate was trained with: a tenth of the range of each pixel, since that is what the last step
# of the pipeline sees.

epsilons = [0, 0.04, 0.08, 0.12, 0.16, 0.2]
scorings = {"accuracy": "accuracy", "accuracy under attack": make_adversarial_scorer(0.1)}
models = {}
for name, scoring in scorings.items():
    search = AdvBPClassifierCV(
        epsilons=epsilons, scoring=scoring, cv=3, max_epochs=20, random_state=0
    )
    models[f"chosen by {name}"] = make_pipeline(MinMaxScaler(), search).fit(X_train, y_train)
    print(f"{name}: ε = {search.epsilon_:g}")
    print("  ", search.cv_results_["mean_test_score"].round(3))

# %%
# Both winners under attacks of growing size, on data that no search has seen.

RobustnessCurveDisplay.from_estimators(models, X_test, y_test, epsilons=np.linspace(0, 0.3, 9))
