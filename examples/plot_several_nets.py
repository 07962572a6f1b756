"""
Several nets, one answer
========================

What averaging does to the probabilities, and where the nets disagree.
"""

# %%
# Two classes that overlap, and few rows to learn from. A net of many units learns them by heart,
# and is sure of itself where it should not be. Ten nets from other initial weights have learnt
# the same rows: they cost little more than one, since they are trained together.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import make_moons
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_advbp import AdvBPClassifier

X, y = make_moons(5000, noise=0.4, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=200, random_state=0)


def fitted(n_nets, epsilon):
    net = AdvBPClassifier((256, 256), n_nets=n_nets, epsilon=epsilon, random_state=0)
    return make_pipeline(StandardScaler(), net).fit(X_train, y_train)


nets = {
    f"{kind}, {n_nets} net{'s' if n_nets > 1 else ''}": fitted(n_nets, epsilon)
    for kind, epsilon in {"plain": 0.0, "adversarial": 0.1}.items()
    for n_nets in (1, 10)
}
for name, net in nets.items():
    loss = log_loss(y_test, net.predict_proba(X_test))
    print(f"{name:22} accuracy {net.score(X_test, y_test):.3f}, log loss {loss:.3f}")

# %%
# A reliability diagram: of the samples to which a net gives a probability of 0.9, nine in ten
# should be of that class. A curve flatter than the diagonal is that of a net which is too sure.
# On few rows like these the perturbation mends more of it than averaging does, and each a part of
# what the other leaves.

figure, ax = plt.subplots(figsize=(6, 5), layout="constrained")
for name, net in nets.items():
    style = "--" if name.startswith("plain") else "-"
    color = "C0" if name.endswith("10 nets") else "C1"
    CalibrationDisplay.from_estimator(
        net, X_test, y_test, n_bins=10, ax=ax, name=name, linestyle=style, color=color, marker="."
    )
ax.set(xlabel="predicted probability of class 1", ylabel="share of class 1 among these")
plt.show()

# %%
# ``estimators_`` has the nets by themselves. Where there are rows to learn from they agree, also on
# what cannot be told apart; along the boundary beyond the rows each goes its own way.

model = nets["adversarial, 10 nets"]
grid = np.stack(np.meshgrid(np.linspace(-4, 5, 150), np.linspace(-4, 4, 150)), axis=-1)
points = model[:-1].transform(grid.reshape(-1, 2))
members = [member.predict_proba(points)[:, 1] for member in model[-1].estimators_]

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
pictures = {
    "mean of the nets": np.mean(members, axis=0),
    "their deviation": np.std(members, axis=0),
}
for ax, (title, values) in zip(axes, pictures.items(), strict=True):
    shown = ax.contourf(*np.moveaxis(grid, -1, 0), values.reshape(150, 150), levels=11)
    ax.scatter(*X_train.T, c=y_train, cmap="gray", edgecolor="white", s=14)
    ax.set_title(title)
    figure.colorbar(shown, ax=ax)
plt.show()
