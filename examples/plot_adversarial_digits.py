"""
What an adversarial digit looks like
====================================

The same perturbation, as large for one net as for the other, made against each net itself.
"""

# %%
# Both nets learn from the same digits, one by plain and one by adversarial back-propagation.

import matplotlib.pyplot as plt
import numpy as np

from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data

EPSILON = 0.15
data = load_data("digits")
nets = {
    "plain": AdvBPClassifier(epsilon=0.0, random_state=0),
    "adversarial": AdvBPClassifier(epsilon=EPSILON, random_state=0),
}
for net in nets.values():
    net.fit(data.X_train, data.y_train)

# %%
# ``adversarial_examples`` moves the pixels of a digit to where the fitted net errs. With
# ``clip=(0, 1)`` no pixel leaves the range of the images. Above each digit stands what the net
# takes it for, red where it is wrong. To the eye little has changed.

_, rows = np.unique(data.y_test, return_index=True)
X, y = data.X_test[rows[:8]], data.y_test[rows[:8]]

figure, grid = plt.subplots(4, 8, figsize=(9, 5.6), layout="constrained")
for (name, net), (clean, attacked) in zip(nets.items(), grid.reshape(2, 2, 8), strict=True):
    moved = net.adversarial_examples(
        X, y, epsilon=EPSILON, attack="pgd", clip=(0, 1), random_state=0
    )
    for axes, kind, images in ((clean, "clean", X), (attacked, "attacked", moved)):
        axes[0].set_ylabel(f"{name} net\n{kind}")
        for ax, image, taken_for, true in zip(axes, images, net.predict(images), y, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set_title(taken_for, color="black" if taken_for == true else "red")
            ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Eight digits are an illustration. On the whole test part, for this one seed:

for name, net in nets.items():
    moved = net.adversarial_examples(
        data.X_test, data.y_test, epsilon=EPSILON, attack="pgd", clip=(0, 1), random_state=0
    )
    clean, attacked = (100 * net.score(images, data.y_test) for images in (data.X_test, moved))
    print(f"{name:>11} net: accuracy {clean:.1f} % clean, {attacked:.1f} % attacked")
