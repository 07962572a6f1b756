"""
How far off may it be?
======================

Numbers with a standard deviation of their own, and whether it is to be trusted.
"""

# %%
# Twenty points of a cubic with noise, the toy data of Deep Ensembles (arXiv:1612.01474). With
# ``output="gaussian"`` the net predicts mean and variance, and ``predict(X, return_std=True)``
# returns both. The band of one net is the noise that it has seen, also where it has seen nothing;
# an adversarial step smooths the band; five nets part where there are no points, and their band is
# the wider the farther they are from what they know.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_diabetes
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_advbp import AdvBPRegressor, AdvBPRegressorCV, log_likelihood_score

rng = np.random.default_rng(0)
x = rng.uniform(-4, 4, size=(20, 1))
y = x[:, 0] ** 3 + 3 * rng.normal(size=20)
grid = np.linspace(-6, 6, 200)[:, None]

shared = {"output": "gaussian", "max_epochs": 200, "batch_size": 20, "lr": 0.02, "random_state": 0}
nets = {
    "one net": AdvBPRegressor(epsilon=0, **shared),
    "one net, adversarial": AdvBPRegressor(epsilon=0.05, **shared),
    "five nets, adversarial": AdvBPRegressor(epsilon=0.05, n_nets=5, **shared),
}

figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
for ax, (name, net) in zip(axes, nets.items(), strict=True):
    model = make_pipeline(StandardScaler(), net).fit(x, y)
    mean, std = model.predict(grid, return_std=True)
    ax.fill_between(grid[:, 0], mean - 3 * std, mean + 3 * std, alpha=0.3, label="± 3 std")
    ax.plot(grid, mean, label="mean")
    ax.plot(grid, grid**3, "k--", linewidth=1, label="x³")
    ax.plot(x, y, "k.", label="training points")
    ax.set(title=name, xlabel="x", ylim=(-200, 200))
axes[0].legend(loc="upper left")
plt.show()

# %%
# On a table with more to learn from, `AdvBPRegressorCV` chooses ε and the number of epochs by the
# likelihood that single nets give to held-out rows, and answers by five nets. A linear model with
# error bars of scikit-learn's stands beside it. The log likelihood of new rows judges mean and
# deviation together.

X, y = load_diabetes(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
search = AdvBPRegressorCV((50,), output="gaussian", random_state=0)
models = {
    "AdvBPRegressorCV": make_pipeline(StandardScaler(), search),
    "BayesianRidge": make_pipeline(StandardScaler(), BayesianRidge()),
}
for name, model in models.items():
    model.fit(X_train, y_train)
    score = log_likelihood_score(model, X_test, y_test)
    print(f"{name:17} R² {model.score(X_test, y_test):.3f}, log likelihood {score:.3f}")

# %%
# A calibration plot: of the bands that should cover a share of the values, how many do? Below the
# diagonal a model is too sure of itself; above it its bands are wider than they need be, as those
# of a net are that was trained with a perturbation. A hundred test rows leave some room: the grey
# area is where 95 of 100 models with the right noise would lie.

nominal = np.linspace(0.02, 0.98, 40)
figure, ax = plt.subplots(figsize=(5, 5), layout="constrained")
room = 1.96 * np.sqrt(nominal * (1 - nominal) / len(y_test))
ax.fill_between(nominal, nominal - room, nominal + room, color="0.9")
ax.plot([0, 1], [0, 1], "k--", linewidth=1)
for name, model in models.items():
    mean, std = model.predict(X_test, return_std=True)
    distance = np.abs(y_test - mean) / std
    covered = [np.mean(distance <= norm.ppf(0.5 + share / 2)) for share in nominal]
    ax.plot(nominal, covered, label=name)
ax.set(xlabel="nominal coverage", ylabel="coverage on test rows", xlim=(0, 1), ylim=(0, 1))
ax.legend()
plt.show()
