"""
Regression
==========

The same step for numbers: a net that learns from moved inputs cannot follow noise as closely.
"""

# %%
# Few and noisy points of a curve, and a net that is much too large for them. The regressor centres
# and scales y itself; ``epsilon`` is in the units of x. The error is that against the curve without
# noise, for three draws of the points.

import matplotlib.pyplot as plt
import numpy as np

from sk_advbp import AdvBPRegressor


def curve(x):
    """Return what the points scatter about."""
    return 100 + 20 * np.sin(4 * x)


grid = np.linspace(-1, 1, 300)
epsilons = [0.0, 0.02, 0.2]
errors = np.empty((3, len(epsilons)))
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), sharey=True, layout="constrained")
for draw in range(3):
    rng = np.random.default_rng(draw)
    x = np.sort(rng.uniform(-1, 1, 40))
    y = curve(x) + rng.normal(0, 8, 40)
    for i, epsilon in enumerate(epsilons):
        net = AdvBPRegressor(
            (100, 100), epsilon=epsilon, lr=0.01, max_epochs=600, random_state=0
        ).fit(x[:, None], y)
        fitted = net.predict(grid[:, None])
        errors[draw, i] = np.sqrt(np.mean((fitted - curve(grid)) ** 2))
        if draw == 0:
            axes[i].plot(x, y, ".", color="gray")
            axes[i].plot(grid, curve(grid), ":", color="black", label="without noise")
            axes[i].plot(grid, fitted, label="net")
            axes[i].set(title=f"ε = {epsilon:g}", xlabel="x")
axes[0].set_ylabel("y")
axes[0].legend()
plt.show()

for epsilon, of_draws in zip(epsilons, errors.T, strict=True):
    print(f"ε = {epsilon:4g}: root mean squared errors", np.round(of_draws, 1))

# %%
# A small ε smooths what plain back-propagation learns of the noise. One that is large beside the
# width of the curve's features distorts the curve itself: moved so far, a point has another y.
