"""
Robustness of plain, regularised and adversarial nets
=====================================================

Accuracy under attack for a growing perturbation, by one step (FGSM) and by twenty (PGD).
"""

# %%
# Weight decay and dropout regularise too, but they do not look for the direction that hurts most.
# Random signs of the same ε are the control: what they lack, the *adversarial* direction gives.

import matplotlib.pyplot as plt
import numpy as np

from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data
from sk_advbp.robustness import robustness_curve

data = load_data("digits")
methods = {
    "plain": {"epsilon": 0.0},
    "weight decay": {"epsilon": 0.0, "optimizer__weight_decay": 0.001},
    "dropout": {"epsilon": 0.0, "dropout": 0.5, "input_dropout": 0.1},
    "random signs": {"epsilon": 0.1, "perturbation": "random"},
    "adversarial": {"epsilon": 0.1},
    "adversarial and dropout": {"epsilon": 0.1, "dropout": 0.2, "input_dropout": 0.1},
}
nets = {
    name: AdvBPClassifier(random_state=0, **parameters).fit(data.X_train, data.y_train)
    for name, parameters in methods.items()
}

# %%
# Each curve begins at the clean accuracy and has to come down in the end: a curve that stays high
# for any ε would tell of a weak attack, not of a strong net.

epsilons = np.linspace(0, 0.4, 9)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
for ax, attack in zip(axes, ["fgsm", "pgd"], strict=True):
    for name, net in nets.items():
        accuracies = robustness_curve(net, data.X_test, data.y_test, epsilons, attack=attack)
        ax.plot(epsilons, 100 * accuracies, marker=".", label=name)
    ax.set(xlabel="ε of the attack, in units of [0, 1] pixels", title=attack.upper())
    ax.axvline(0.1, color="gray", linestyle=":", linewidth=1)
axes[0].set_ylabel("accuracy on the test part (%)")
axes[1].legend()
plt.show()

# %%
# The dotted line is the ε of the training. PGD is never above FGSM; what matters is the right
# panel, and even that is an upper bound of the accuracy under the strongest attack. The curves are
# those of one seed.
