"""
Several labels a row
====================

Plain and adversarial nets on rows that have no label, one, or several at once.
"""

# %%
# A row of Y says which labels its sample has: an indicator matrix, as ``MLPClassifier`` takes it.
# Here the features count twenty words in a text, and the labels are its topics, two of six on
# average. Each label has a probability of its own.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import f1_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_advbp import AdvBPClassifier
from sk_advbp.robustness import RobustnessCurveDisplay, adversarial_examples

X, Y = make_multilabel_classification(2000, n_features=20, n_classes=6, n_labels=2, random_state=0)
X_train, X_test, Y_train, Y_test = train_test_split(X, Y, train_size=500, random_state=0)


def fitted(epsilon):
    net = AdvBPClassifier((64,), epsilon=epsilon, random_state=0)
    return make_pipeline(StandardScaler(), net).fit(X_train, Y_train)


nets = {"plain": fitted(0.0), "adversarial": fitted(0.15)}

# %%
# ``score`` counts the rows of which all labels are right. Measures of scikit-learn that go label
# by label take the same predictions. The plain net is too sure of itself, as its log loss says.

for name, net in nets.items():
    f1 = f1_score(Y_test, net.predict(X_test), average="micro")
    loss = log_loss(Y_test.ravel(), net.predict_proba(X_test).ravel())
    accuracy = net.score(X_test, Y_test)
    print(f"{name:12} all labels right {accuracy:.3f}, F1 {f1:.3f}, log loss {loss:.3f}")

# %%
# The first fifteen rows of the test part, with a square for each label, before and after an attack,
# which goes along the gradient of all labels' losses together. The plain net then is sure of many
# wrong labels, the adversarial one of fewer.

rows = slice(0, 15)
figure, axes = plt.subplots(1, 5, figsize=(10, 5), sharey=True, layout="constrained")
pictures = {"true labels": Y_test[rows]}
for name, net in nets.items():
    moved = adversarial_examples(net, X_test[rows], Y_test[rows], epsilon=0.2)
    pictures[f"{name}, clean"] = net.predict_proba(X_test[rows])
    pictures[f"{name}, moved"] = net.predict_proba(moved)
for ax, (title, probabilities) in zip(axes, pictures.items(), strict=True):
    shown = ax.imshow(probabilities, vmin=0, vmax=1, cmap="viridis")
    ax.set(title=title, xlabel="label", xticks=range(6), yticks=[])
axes[0].set_ylabel("row of the test part")
figure.colorbar(shown, ax=axes, label="probability")
plt.show()

# %%
# The share of rows of which all labels are right, as the perturbation grows: a net is fooled when
# any label of the row is wrong.

RobustnessCurveDisplay.from_estimators(nets, X_test, Y_test, epsilons=np.linspace(0, 0.3, 7))
plt.show()
