"""The paper in torch and nothing else: pure functions of tensors, and one module.

What lives here: the perturbation (`perturbation`), the step of the multilayer perceptron in
closed form (`backprop`, `compiled`), its module (`mlp`), attacks on a fitted net (`attacks`),
the optimizer's bare step and where low precision pays (`optimizers`, `precision`). What may
not: estimators, arrays, skorch, scikit-learn, training loops. The folder can be copied alone.
"""

from sk_advbp.core.backprop import adversarial_gradients
from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.core.perturbation import perturb

__all__ = ["MultilayerPerceptron", "adversarial_gradients", "perturb"]
