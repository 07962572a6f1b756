"""
A path of ε, and the choice on it
=================================

`AdvBPClassifierCV` tries a path of ε, 0 among them, in one fit, and trains the net of the chosen
one.
"""

# %%
# Without ``epsilons`` the path follows from the data; ``selection="one_se"`` takes the *largest* ε
# that cross-validation cannot tell from the best: the most robust net that costs nothing
# measurable.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_advbp import AdvBPClassifierCV

X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

search = AdvBPClassifierCV(
    (50,),
    epsilons=[0, 0.03, 0.1, 0.3, 0.6, 1.0],
    selection="one_se",
    max_epochs=40,
    random_state=0,
)
model = make_pipeline(StandardScaler(), search).fit(X_train, y_train)
print(f"chosen: ε = {search.epsilon_:g}, in standard deviations")
print(f"accuracy on the test part: {100 * model.score(X_test, y_test):.1f} %")

# %%
# The table of the folds is in ``cv_results_``, as that of a grid search. The bars are one standard
# error of the mean over the five folds.

results = search.cv_results_
mean = -results["mean_test_score"]
error = results["std_test_score"] / np.sqrt(5 - 1)
steps = np.arange(len(search.epsilons_))
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.errorbar(steps, mean, error, marker="o", capsize=3)
ax.plot(steps[search.best_index_], mean[search.best_index_], "o", markersize=14, mfc="none")
ax.set_xticks(steps, [f"{epsilon:.3g}" for epsilon in search.epsilons_])
ax.set(xlabel="ε, in standard deviations", ylabel="log loss in cross-validation")
ax.set_title("the circle is the chosen ε")
plt.show()
