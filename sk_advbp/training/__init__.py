"""What differs from skorch's training: the step, the epoch, mini-batches, many nets at once.

What lives here: overrides of skorch's net (`net`, `components`), batches cut from tensors that
lie on the device (`batches`), nets that are trained together (`stacked`, `streams`), the
callbacks that training itself needs (`callbacks`). What may not: the validation of what a user
hands in, labels and units, mathematics of the step.
"""

from sk_advbp.training.batches import ArrayDataset, Batches

__all__ = ["ArrayDataset", "Batches"]
