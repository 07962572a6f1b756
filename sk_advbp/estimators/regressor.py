"""`AdvBPRegressor`: numbers as targets, centred and scaled inside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, overload

import torch
from sklearn.utils._param_validation import InvalidParameterError, StrOptions
from skorch import NeuralNetRegressor
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch import nn

from sk_advbp.core import gaussian
from sk_advbp.estimators.base import AdversarialEstimator, with_callbacks
from sk_advbp.estimators.classifier import AdvBPClassifier
from sk_advbp.estimators.docstrings import shares_parameters
from sk_advbp.estimators.likelihood import likelihood_of_outputs, log_likelihood_score
from sk_advbp.estimators.output_scores import ScoreOfOutputs, r_squared
from sk_advbp.estimators.targets import Numbers
from sk_advbp.training.batches import ArrayDataset, Batches, WeightedInput, is_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Literal, Self

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from sklearn.utils import Tags
    from skorch.callbacks import Callback
    from torch import Tensor
    from torch.utils.data import Dataset

    from sk_advbp._types import (
        Clip,
        Floats,
        MatrixLike,
        RandomState,
        Samples,
        TrainSplit,
    )
    from sk_advbp.core.mixture import Output
    from sk_advbp.core.mlp import Activation
    from sk_advbp.core.perturbation import Norm, Perturbation
    from sk_advbp.training.net import Input

__all__ = ["AdvBPRegressor"]


class SquaredError(nn.Module):
    """Squared error, averaged over the outputs."""

    def __init__(self, reduction: str = "none") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row.

        Parameters
        ----------
        prediction, target : torch.Tensor of shape (n, n_outputs)
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"The module must return numbers of shape (n, n_outputs), here "
                f"{tuple(target.shape)}. Got {tuple(prediction.shape)}."
            )
        return (prediction - target).square().mean(1)


class GaussianLoss(nn.Module):
    """Negative log likelihood of a Gaussian, averaged over the outputs."""

    def __init__(self, reduction: str = "none") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row.

        Parameters
        ----------
        prediction : torch.Tensor of shape (n, 2 · n_outputs)
            As `sk_advbp.core.gaussian` has it.
        target : torch.Tensor of shape (n, n_outputs)
        """
        return gaussian.loss(*gaussian.mean_and_variance(prediction), target).mean(1)


CRITERIA = {"identity": SquaredError, "gaussian": GaussianLoss}


@shares_parameters(AdvBPClassifier)
class AdvBPRegressor(AdversarialEstimator, NeuralNetRegressor):
    """Multilayer perceptron for regression, trained by adversarial back-propagation.

    At every step the mini-batch x is first moved to x' = x + ε · sign(∇ₓJ), where the loss J is
    larger, and ordinary back-propagation then learns from x' alone. It regularises.

    Parameters
    ----------
    {hidden_layer_sizes, activation}
    n_nets : int, default=1
        So many nets, each with its own initial weights and its own adversarial examples, learn
        from the same mini-batches and answer by their mean: as of `AdvBPClassifier`.
    {epsilon, epsilon_unit, norm, clip, clean_weight}
    {random_start, perturbation, dropout, input_dropout}
    output : {"identity", "gaussian"}, default="identity"
        What is predicted of each number: ``"identity"`` the number, by the squared error;
        ``"gaussian"`` mean and variance, by the negative log likelihood, so that
        ``predict(X, return_std=True)`` says how far off it may be.
    module : torch.nn.Module class or instance, or None, default=None
        None is `sk_advbp.core.MultilayerPerceptron`. A module of yours takes X alone and
        returns numbers (n, n_outputs), in the units of the scaled y, or with
        ``output="gaussian"`` (n, 2 · n_outputs), all means and then for each the s of which the
        variance is softplus(s) + 1e-6; X may then have more than two axes. Its parameters are
        given as ``module__…``.
    criterion : torch loss class or None, default=None
        None follows from `output`, averaged over the columns of y. Yours takes what the module
        returns and scaled y (n, n_outputs), is built with ``reduction="none"``, and what it
        returns is summed over the outputs.
    {optimizer, lr, lr_schedule, max_epochs, batch_size}
    early_stopping : bool, default=False
        Hold out a part of the data, stop when its R² does not improve, and keep the best
        weights. Where fewer than 10 rows would be held out none is, and the training loss is
        watched.
    {validation_fraction, n_iter_no_change, tol, train_split, callbacks, warm_start, verbose}
    {device, dtype, perturbation_dtype, amp, compile, use_caching, torch_load_kwargs}
    {iterator_train, iterator_valid, dataset, random_state, **kwargs}

    Attributes
    ----------
    y_mean_, y_scale_ : ndarray of shape (n_outputs,)
        Weighted mean and standard deviation of each output in the training data, found at
        ``fit`` or the first ``partial_fit``. The net learns (y - y_mean_) / y_scale_; the scale
        of a constant output is 1.
    n_outputs_ : int
        Number of columns of y.
    {n_features_in_, feature_names_in_, epsilon_unit_, sample_shape_, module_}
    {optimizer_, history, n_iter_, t_, loss_curve_, loss_, best_loss_}
    validation_scores_ : list of float or None
        After each epoch, 1 minus the mean squared error on the held-out data, in units of
        `y_scale_` and weighted as the loss is: R² with the variance of the training data.
    {best_validation_score_, validation_loss_curve_, n_layers_, coefs_, out_activation_}
    estimators_ : list of `n_nets` fitted AdvBPRegressor
        The nets by themselves, to look at their disagreement. Made anew at each access.
    {device_, dtype_}

    See Also
    --------
    AdvBPClassifier : The same for labels; its notes hold here too.
    sklearn.neural_network.MLPRegressor : Plain back-propagation.
    skorch.NeuralNetRegressor : The base class.

    Notes
    -----
    With parameters θ and a mini-batch (x, y) of n rows, y standardised and of m outputs::

        J(θ, x, y) = Σ w ‖f(x) - y‖² / (m Σ w)
        g  = ∇ₓ J(θ, x, y)          first pass, no gradient of θ
        x' = x + ε · sign(g)        g is held constant
        θ  ← step along ∇_θ J(θ, x', y)

    With ``output="gaussian"`` the net has two outputs for each number, μ and s, and σ² =
    softplus(s) + 10⁻⁶::

        J(θ, x, y) = Σ w Σⱼ (log 2π + log σⱼ² + (yⱼ - μⱼ)² / σⱼ²) / (2 m Σ w)

    Several nets are trained each by its own J, and answer as the one Gaussian that has the mean
    and the variance of their mixture (Deep Ensembles).

    Differs from the paper, whose abstract speaks of classification: regression is ours.

    References
    ----------
    Arild Nøkland, "Improving Back-Propagation by Adding an Adversarial Gradient",
    arXiv:1510.04189.

    Balaji Lakshminarayanan, Alexander Pritzel and Charles Blundell, "Simple and Scalable
    Predictive Uncertainty Estimation using Deep Ensembles", NIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_advbp import AdvBPRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> net = AdvBPRegressor(epsilon=0.01, random_state=0).fit(X, 1000 + X[:, 0] ** 2)
    >>> net.score(X, 1000 + X[:, 0] ** 2) > 0.9
    True
    >>> net.set_params(output="gaussian", n_nets=5).fit(X, 1000 + X[:, 0] ** 2).n_outputs_
    1
    >>> y, std = net.predict(X, return_std=True)
    >>> y.shape, std.shape
    ((100,), (100,))
    """

    _parameter_constraints = {
        **AdversarialEstimator._parameter_constraints,
        "output": [StrOptions(set(CRITERIA))],
    }
    # Of pickles from before it was a parameter.
    output: Literal["identity", "gaussian"] = "identity"
    valid_score = "valid_r2"
    _target_checks = {"multi_output": True, "y_numeric": True}
    _checked_targets = staticmethod(Numbers.checked)

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Activation = "relu",
        *,
        n_nets: int = 1,
        epsilon: ArrayLike = 0.08,
        epsilon_unit: Literal["absolute", "std"] | ArrayLike = "absolute",
        norm: Norm = "linf",
        clip: Clip | None = None,
        clean_weight: float = 0.0,
        random_start: float = 0.0,
        perturbation: Perturbation = "adversarial",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output: Literal["identity", "gaussian"] = "identity",
        module: Callable[..., nn.Module] | nn.Module | None = None,
        criterion: Callable[..., nn.Module] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        lr: float = 0.005,
        lr_schedule: Literal["linear", "constant"] = "linear",
        max_epochs: int = 100,
        batch_size: int = 64,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        train_split: TrainSplit | None = None,
        callbacks: list[Callback] | Literal["disable"] | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        device: str | torch.device = "auto",
        dtype: Literal["auto", "float32", "float64"] = "auto",
        perturbation_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        amp: bool = False,
        compile: bool = False,
        use_caching: bool | Literal["auto"] = "auto",
        torch_load_kwargs: dict[str, object] | None = None,
        iterator_train: Callable[..., Iterable[object]] = Batches,
        iterator_valid: Callable[..., Iterable[object]] = Batches,
        dataset: Callable[..., Dataset[object]] = ArrayDataset,
        random_state: RandomState = None,
        **kwargs: Any,
    ) -> None:
        self._store(locals())

    @with_callbacks
    def fit(
        self, X: Samples, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train on X and y, from scratch unless ``warm_start=True``.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset
            With `module`, arrays may have more axes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Finite numbers. None only with a Dataset, which has its own.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights >= 0. A row of weight 0 is left out.

        Returns
        -------
        self : AdvBPRegressor

        Raises
        ------
        ValueError
            For a parameter or an array that cannot be used, before any training; and when the
            loss becomes non-finite. A fitted estimator stays as it was.
        TypeError
            For the name of a parameter that does not exist.
        """
        fresh = not (self.warm_start and self.__sklearn_is_fitted__())
        return self._fit(X, y, sample_weight, fresh=fresh)

    @with_callbacks
    def partial_fit(
        self, X: Samples, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train one epoch at the constant rate `lr`, from the present weights.

        The first call fixes how y is centred and scaled. Else as
        `AdvBPClassifier.partial_fit`.

        Parameters
        ----------
        X, y, sample_weight
            As for ``fit``.

        Returns
        -------
        self : AdvBPRegressor
        """
        fresh = not self.__sklearn_is_fitted__()
        return self._fit(X, y, sample_weight, fresh=fresh, incremental=True)

    # ---- targets ---------------------------------------------------------------------

    def check_data(self, X: object, y: object = None) -> None:
        """Do nothing: y is checked when it is encoded."""

    def _settle_targets(
        self, y: NDArray[np.float64], sample_weight: Floats | None, *, fresh: bool
    ) -> None:
        """Fix how y is centred and scaled at the first data."""
        if fresh:
            fixed = Numbers.of(y, sample_weight, self.dtype_)
            self.y_mean_, self.y_scale_ = fixed.mean, fixed.scale
            self._target_shape = fixed.shape

    @property
    def _targets(self) -> Numbers:
        return Numbers(self.y_mean_, self.y_scale_, self._target_shape, self.dtype_)

    def _class_weights(self, target: Floats, sample_weight: Floats | None) -> None:
        """Return None: there are no classes."""

    def _default_criterion(self) -> type[nn.Module]:
        return CRITERIA[self._of_net("output")]

    def _kind_of_output(self) -> Output:
        kind: Output = self._of_net("output")
        return kind

    def _means(self, outputs: Tensor) -> Tensor:
        """Return the part of the outputs that predicts y: all but what is of the variance."""
        return outputs[:, : self._targets.n_outputs]

    def batch_score(self, y_pred: Tensor, y_true: Tensor | ArrayLike, X: Input) -> Tensor:
        """Return 1 - the mean squared error on a batch, weighted as the loss is."""
        errors = (self._means(y_pred) - to_tensor(y_true, y_pred.device)).square().mean(1)
        if not isinstance(X, WeightedInput):
            return 1 - errors.mean()
        return 1 - (errors * X.weight).sum() / X.weight.sum()

    def _score_of_outputs(self, scoring: object) -> ScoreOfOutputs | None:
        """Return the score that is asked for, None for one that needs an estimator."""
        gives_variance = self.output == "gaussian"
        if scoring is log_likelihood_score and not gives_variance:
            raise InvalidParameterError(
                "scoring=log_likelihood_score needs output='gaussian', since one net is trained on "
                f"each fold. Got output={self.output!r}."
            )
        if gives_variance and (scoring is None or scoring is log_likelihood_score):
            return ScoreOfOutputs(partial(likelihood_of_outputs, scale=self.y_scale_))
        return ScoreOfOutputs(r_squared) if scoring is None or scoring == "r2" else None

    # ---- predictions -----------------------------------------------------------------

    if TYPE_CHECKING:

        @property
        def estimators_(self) -> list[AdvBPRegressor]:
            """The nets as fitted estimators of their own."""

    @overload
    def predict(self, X: Samples, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, X: Samples, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(self, X: Samples, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Predict y of each sample, and how far off it may be.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset
        return_std : bool, default=False
            Whether to return standard deviations, too. Through a pipeline:
            ``pipeline.predict(X, return_std=True)``, where metadata are routed only after
            ``set_predict_request(return_std=True)``. scikit-learn's searches do not hand it on,
            their ``best_estimator_`` takes it.

        Returns
        -------
        y : float64 ndarray of shape (n_samples,) or (n_samples, n_outputs), as in ``fit``
            For a Dataset while a fit is running, as skorch's scoring callbacks need it, in
            the units of the scaled y.
        std : float64 ndarray of the shape of y
            Only with ``return_std=True``, in the units of `y` above. With ``output="gaussian"`` the
            standard deviation of the Gaussian that is predicted, noise included. With
            ``output="identity"`` and several nets that of their predictions: what the nets
            disagree by, which is *not* the noise in y, and may be far smaller.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            For an X that cannot be used; and ``return_std=True`` of one net with
            ``output="identity"``, which cannot say it.
        """
        scaled = self._training and is_dataset(X)
        if not return_std:
            means = self._means(self._logits(X)).numpy()
            return means if scaled else self._targets.decode(means)
        means, deviation = (part.numpy() for part in self._means_and_deviation(X))
        if scaled:
            return means, deviation
        return self._targets.decode(means), self._targets.decode_deviation(deviation)

    def _means_and_deviation(self, X: Samples) -> tuple[Tensor, Tensor]:
        """Return what is predicted in units of the scaled y, and its standard deviation."""
        self.check_is_fitted()
        if self._of_net("output") == "gaussian":
            means, variance = gaussian.mean_and_variance(self._logits(X).double())
            return means, variance.sqrt()
        if self._n_nets is None:
            raise ValueError(
                "return_std=True needs output='gaussian', or several nets, which disagree. Got "
                "one net with output='identity'."
            )
        of_nets = self._outputs_of_nets(X)
        return of_nets.mean(0), of_nets.double().std(0, correction=0)

    @torch.no_grad()
    def _outputs_of_nets(self, X: Samples) -> Tensor:
        """Return what each of several nets makes of X, (K, n, m), on the CPU."""
        dataset = X if is_dataset(X) else ArrayDataset(self._validated(X, reset=False))
        self.module_.eval()
        batches = (self._input(unpack_data(batch)[0]) for batch in self.get_iterator(dataset))
        return self._finite(torch.cat([self.module_.outputs(x).cpu() for x in batches], dim=1))

    @property
    def predict_proba(self) -> object:
        """Not there: a regressor has no probabilities."""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute 'predict_proba'")

    def _attacked_target(self, X: MatrixLike, y: ArrayLike | None) -> Floats:
        """Return the encoded y that an attack moves X away from."""
        if y is None:
            raise ValueError(
                "adversarial_examples of a regressor needs y: its own predictions are no target to "
                "be moved away from."
            )
        return self._targets.encode(Numbers.checked(y))

    def _row_losses(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return (loss, misclassified), each of shape (n,); no row is misclassified."""
        losses = self._losses(self._outputs(x), target)
        return losses, losses.new_zeros(len(x), dtype=torch.bool)

    @classmethod
    def _get_class_level_metadata_request_values(
        cls, method_name: str, *args: Any, **kwargs: Any
    ) -> dict[str, bool | str | None]:
        """Return what may be routed; skorch takes `classes` out of ``partial_fit``: not there."""
        if method_name == "partial_fit":  # which a search does not have
            return {"sample_weight": None} if callable(cls.partial_fit) else {}
        requests: dict[str, bool | str | None] = super()._get_class_level_metadata_request_values(
            method_name, *args, **kwargs
        )
        return requests

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
