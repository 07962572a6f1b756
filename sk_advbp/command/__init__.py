"""The command line ``python -m sk_advbp``: plain and adversarial back-propagation side by side.

What lives here: its options (`options`), data as training and test part (`datasets`), the
comparison (`comparison`). What may not: anything that an estimator needs.
"""

from sk_advbp.command.datasets import TrainTest, load_data

__all__ = ["TrainTest", "load_data"]
