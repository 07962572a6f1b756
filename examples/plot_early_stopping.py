"""
Early stopping and callbacks
============================

``early_stopping=True`` is scikit-learn's way to stop in time; skorch's callbacks see every epoch.
"""

# %%
# ``early_stopping`` holds out a part of the training data, stops when its accuracy does not
# improve any more, and keeps the best weights. A callback measures the accuracy under attack on
# the same held-out part after each epoch: a scorer of this package, in skorch's `EpochScoring`.

import matplotlib.pyplot as plt
import numpy as np
from skorch.callbacks import EpochScoring

from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data
from sk_advbp.robustness import make_adversarial_scorer

data = load_data("digits")
under_attack = EpochScoring(
    make_adversarial_scorer(0.1, n_steps=5), lower_is_better=False, use_caching=False
)
net = AdvBPClassifier(
    epsilon=0.1,
    early_stopping=True,
    n_iter_no_change=10,
    max_epochs=200,
    callbacks=[under_attack],
    random_state=0,
).fit(data.X_train, data.y_train)
print(f"stopped after {net.n_iter_} of {net.max_epochs} epochs")
print(f"accuracy on the test part: {100 * net.score(data.X_test, data.y_test):.1f} %")

# %%
# Whatever a callback records is in `history`, by the name of its column.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
clean = 100 * np.array(net.validation_scores_)
attacked = 100 * np.array(net.history[:, "pgd_accuracy"])
ax.plot(np.arange(1, len(clean) + 1), clean, label="clean")
ax.plot(np.arange(1, len(attacked) + 1), attacked, label="under PGD, ε = 0.1")
ax.set(xlabel="epoch", ylabel="accuracy on the held-out part (%)")
ax.legend()
plt.show()
