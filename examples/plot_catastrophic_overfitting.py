"""
Catastrophic overfitting, and a watch for it
============================================

Training by one-step examples has a failure of its own. With a large ε the net may learn to look
right at the FGSM points alone: accuracy under FGSM goes up and up, while under an iterated attack
it collapses. Neither the training loss nor accuracy on clean data tells.
`sk_advbp.callbacks.OverfittingWatch` does.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sk_advbp import AdvBPClassifier
from sk_advbp.callbacks import OverfittingWatch
from sk_advbp.robustness import adversarial_accuracy_score

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
X_train, X_rest, y_train, y_rest = train_test_split(X, y, test_size=500, random_state=0, stratify=y)
X_watch, X_test, y_watch, y_test = X_rest[:250], X_rest[250:], y_rest[:250], y_rest[250:]


class SmallConvNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )


# %%
# Eight epochs with ε = 0.2 make a net that resists attacks of that size. Then the ambition grows:
# twenty epochs with ε = 0.4, far too much for one linear step through a convolutional net. The
# watch goes on asking for ε = 0.2, on rows of its own.


def trained(**of_watch):
    watch = OverfittingWatch((X_watch, y_watch), epsilon=0.2, **of_watch)
    net = AdvBPClassifier(
        module=SmallConvNet,
        epsilon=0.2,
        lr=0.003,
        lr_schedule="constant",
        max_epochs=8,
        callbacks=[watch],
        warm_start=True,
        device="cpu",
        random_state=0,
    )
    net.fit(X_train, y_train)
    return net.set_params(epsilon=0.4, lr=0.007, max_epochs=20).fit(X_train, y_train)


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    collapsed = trained()
print(*(warning.message for warning in told), sep="\n")

# %%
# Accuracy on clean data falls when ε grows, and comes back. Under FGSM it ends higher than it was
# before. Under PGD nearly nothing is left.

figure, ax = plt.subplots(layout="constrained")
for attack, label in {"clean": "clean", "fgsm": "FGSM", "pgd": "PGD"}.items():
    accuracies = collapsed.history[:, f"watch_{attack}"]
    ax.plot(range(1, len(accuracies) + 1), accuracies, marker=".", label=label)
ax.axvline(8.5, color="grey", linewidth=0.8)
ax.text(8.7, 1.02, "from here on trained with ε = 0.4")
ax.set(xlabel="epoch", ylabel="accuracy on held-out data, ε = 0.2", ylim=(0, 1.08))
ax.legend()

# %%
# ``stop=True`` ends such a training, ``restore=True`` gives back the weights of its best epoch.
# On data that the watch has not seen:

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    saved = trained(stop=True, restore=True)
for name, net in {"collapsed": collapsed, "stopped and restored": saved}.items():
    fgsm, pgd = (
        adversarial_accuracy_score(net, X_test, y_test, 0.2, attack=attack)
        for attack in ("fgsm", "pgd")
    )
    clean = net.score(X_test, y_test)
    print(f"{name}: clean {clean:.0%}, FGSM {fgsm:.0%}, PGD {pgd:.0%}")
