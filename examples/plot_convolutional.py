"""
A convolutional module of your own
==================================

``module=`` takes any torch module that returns logits; the adversarial step is the same.
"""

# %%
# Parameters of the module are given as ``module__…``, as in skorch, and can be searched over.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sk_advbp import AdvBPClassifier


class SmallConvNet(nn.Module):
    """Two convolutions, a pooling, a linear layer."""

    def __init__(self, channels=16):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * 16, 10),
        )

    def forward(self, x):
        """Return the logits."""
        return self.net(x)


# %%
# With a module of its own the classifier takes images as they are: (n, channels, height, width).

images, y = load_digits(return_X_y=True)
images = images.reshape(-1, 1, 8, 8).astype("float32") / 16
X_train, X_test, y_train, y_test = train_test_split(images, y, stratify=y, random_state=0)

net = AdvBPClassifier(
    module=SmallConvNet,
    module__channels=8,
    epsilon=0.1,
    clip=(0, 1),
    max_epochs=15,
    optimizer__weight_decay=1e-4,
    random_state=0,
).fit(X_train, y_train)
print(f"accuracy on the test part: {100 * net.score(X_test, y_test):.1f} %")

# %%
# The fitted module is `module_`, an ordinary torch module. Its first layer's filters, and what an
# attack changes in a digit, in red where it is darkened and in blue where it is lightened:

moved = net.adversarial_examples(X_test[:6], y_test[:6], attack="pgd", random_state=0)

figure, grid = plt.subplots(3, 6, figsize=(8, 4.2), layout="constrained")
for ax, filter_ in zip(grid[0], net.module_.net[0].weight.detach().cpu().numpy(), strict=False):
    ax.imshow(filter_[0], cmap="gray")
for ax, image in zip(grid[1], X_test[:6, 0], strict=True):
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
for ax, change in zip(grid[2], (moved - X_test[:6])[:, 0], strict=True):
    ax.imshow(change, cmap="bwr", vmin=-0.1, vmax=0.1)
for axes, label in zip(grid, ["filters", "digits", "changes"], strict=True):
    axes[0].set_ylabel(label)
for ax in grid.flat:
    ax.set(xticks=[], yticks=[])
plt.show()
