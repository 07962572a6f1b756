"""`adversarial_examples`, which a fitted estimator makes against itself."""

import numbers

import torch
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from sk_advbp.attacks import ATTACKS
from sk_advbp.batches import ArrayDataset
from sk_advbp.parameters import check_clip, check_epsilon, check_seed

__all__ = ["AdversaryMixin"]

_COUNT = Interval(numbers.Integral, 1, None, closed="left")
_CONSTRAINTS = {
    "attack": [StrOptions(set(ATTACKS))],
    "norm": [StrOptions({"linf", "l2"}), None],
    "n_steps": [_COUNT],
    "step_size": [Interval(numbers.Real, 0, None, closed="neither"), None],
    "n_restarts": [_COUNT],
}


class AdversaryMixin:
    """The attacks of `sk_advbp.attacks` as a method of an estimator, on arrays."""

    def adversarial_examples(
        self,
        X,
        y=None,
        *,
        epsilon=None,
        attack="fgsm",
        norm=None,
        clip="same",
        n_steps=20,
        step_size=None,
        n_restarts=1,
        random_state=None,
    ):
        """Move each sample, within ε, to where the fitted net errs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Clean samples, in the units of ``fit``.
        y : array-like of shape (n_samples,) or None, default=None
            Their labels; None: those that the net predicts.
        epsilon : float, array of the shape of one sample, or None, default=None
            Largest perturbation, in the units of X; None: that of the training.
        attack : {"fgsm", "pgd"}, default="fgsm"
            ``"fgsm"``: one step along the sign of the gradient. ``"pgd"``: `n_steps`
            projected steps from each of `n_restarts` random starts. Of the clean sample,
            the FGSM point and the last point of each restart it keeps one that is
            misclassified, else the one of the largest loss, so it is never weaker than
            FGSM.
        norm : {"linf", "l2"} or None, default=None
            None: that of the training.
        clip : (low, high), None or "same", default="same"
            Bounds as in training; ``"same"``: those of the training.
        n_steps : int, default=20
            Steps of PGD.
        step_size : float or None, default=None
            Length of a step of PGD as a share of ε; None: 2.5 / `n_steps`.
        n_restarts : int, default=1
            Random starts of PGD.
        random_state : int, RandomState instance or None, default=None
            Of the random starts.

        Returns
        -------
        X_adversarial : ndarray of the shape of X, of dtype `dtype_`

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            For an unknown attack, or parameters out of range.
        """
        self.check_is_fitted()
        given = {
            "attack": attack,
            "norm": norm,
            "n_steps": n_steps,
            "step_size": step_size,
            "n_restarts": n_restarts,
        }
        validate_parameter_constraints(_CONSTRAINTS, given, "adversarial_examples")
        X = self._validated(X, reset=False)
        epsilon = check_epsilon(self.epsilon if epsilon is None else epsilon, self.sample_shape_)
        clip = check_clip(self.clip if isinstance(clip, str) else clip, self.sample_shape_)
        move = self._displacement_by(epsilon, norm or self.norm, clip).keywords
        if attack == "pgd":
            move |= {
                "n_steps": n_steps,
                "step_size": step_size or 2.5 / n_steps,
                "n_restarts": n_restarts,
                "generator": torch.Generator(self.device_).manual_seed(check_seed(random_state)),
            }
        dataset = ArrayDataset(X, self._attacked_target(X, y))
        self._set_training(False)
        moved = [
            ATTACKS[attack](self._row_losses(target), self._input(x), **move).cpu()
            for x, target in self.get_iterator(dataset)
        ]
        return torch.cat(moved).numpy()
