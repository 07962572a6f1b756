"""
ε and the activation, chosen by cross-validation
================================================

In a pipeline, as any classifier of scikit-learn: the scaler learns from the training folds
alone, and ε = 0, plain back-propagation, is among the candidates.
"""

# %%
# ``epsilon`` acts on the *scaled* features. After a ``StandardScaler`` its unit is the standard
# deviation of each feature.

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_advbp import AdvBPClassifier

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

pipeline = make_pipeline(StandardScaler(), AdvBPClassifier((50,), max_epochs=40, random_state=0))
candidates = {
    "advbpclassifier__epsilon": [0, 0.03, 0.1, 0.3, 1.0],
    "advbpclassifier__activation": ["logistic", "tanh", "relu"],
}
search = GridSearchCV(pipeline, candidates, cv=5).fit(X_train, y_train)
print("best:", search.best_params_)
print(f"accuracy on the test part: {100 * search.score(X_test, y_test):.1f} %")

# %%
# One curve an activation. The bars are one standard error of the mean over the folds. Differences
# well within them are no reason to prefer one candidate for its accuracy; of such the largest ε is
# the hardest to fool.

results = search.cv_results_
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
epsilons = candidates["advbpclassifier__epsilon"]
for shift, activation in enumerate(candidates["advbpclassifier__activation"]):
    rows = results["param_advbpclassifier__activation"] == activation
    ax.errorbar(
        [i + 0.08 * (shift - 1) for i in range(len(epsilons))],
        100 * results["mean_test_score"][rows],
        100 * results["std_test_score"][rows] / (search.n_splits_ - 1) ** 0.5,
        marker="o",
        capsize=3,
        label=activation,
    )
ax.set_xticks(range(len(epsilons)), [f"{epsilon:g}" for epsilon in epsilons])
ax.set(xlabel="ε, in standard deviations", ylabel="accuracy in cross-validation (%)")
ax.legend()
plt.show()
