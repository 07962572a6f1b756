"""
A first fit
===========

Plain and adversarial back-propagation on the same digits, with the same net and seeds: the only
difference is ``epsilon``, by which each pixel is moved before the net learns from it.
"""

# %%
# The pixels are scaled to [0, 1] first: ``epsilon`` is in the units of the features as the
# classifier gets them, so 0.08 moves each pixel by 8 % of its range.

import matplotlib.pyplot as plt
import numpy as np

from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data

data = load_data("digits")
methods = {"plain (ε = 0)": 0.0, "adversarial (ε = 0.08)": 0.08}
seeds = range(5)


def accuracies(net):
    """Return the accuracy on the test part in percent, clean and under attack."""
    moved = net.adversarial_examples(
        data.X_test, data.y_test, epsilon=0.08, attack="pgd", random_state=0
    )
    return [100 * net.score(X, data.y_test) for X in (data.X_test, moved)]


nets, measured = {}, {}
for name, epsilon in methods.items():
    nets[name] = [
        AdvBPClassifier(epsilon=epsilon, random_state=seed).fit(data.X_train, data.y_train)
        for seed in seeds
    ]
    measured[name] = np.array([accuracies(net) for net in nets[name]])
    mean, deviation = measured[name].mean(axis=0), measured[name].std(axis=0, ddof=1)
    for what, m, d in zip(["clean", "under PGD"], mean, deviation, strict=True):
        print(f"{name:>22}, {what:>9}: {m:.1f} ± {d:.1f} % ({len(seeds)} seeds)")

# %%
# The loss that is minimised is that on the *moved* digits. It stays larger than that of plain
# back-propagation, which has soon nothing left to learn from: this is how it regularises. On these
# small digits clean accuracy has little to gain from that, but the net is much harder to fool.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for (name, of_seeds), color in zip(nets.items(), ["C0", "C1"], strict=True):
    left.semilogy(of_seeds[0].loss_curve_, color=color, label=name)
    for position, values in enumerate(measured[name].T):
        right.plot(np.full(len(seeds), position), values, "o", color=color, alpha=0.6)
left.set(xlabel="epoch", ylabel="loss that is minimised")
left.legend()
right.set(xticks=[0, 1], xticklabels=["clean", "under PGD, ε = 0.08"])
right.set(ylabel="accuracy on the test part (%)", title="one point a seed", ylim=(0, 103))
right.margins(x=0.4)
plt.show()

# %%
# In a notebook the estimators show themselves as scikit-learn's do: the question mark leads to the
# page of the class, the name of a parameter to its description there.

AdvBPClassifier(epsilon=0.08, random_state=0)
