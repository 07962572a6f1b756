"""`AdvBPClassifier`: labels, their losses, probabilities."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from skorch import NeuralNetClassifier
from skorch.utils import to_tensor
from torch import nn
from torch.nn import functional as F

from sk_advbp.estimators.base import AdversarialEstimator, with_callbacks
from sk_advbp.estimators.output_scores import (
    ScoreOfOutputs,
    accuracy,
    log_likelihood,
    subset_accuracy,
)
from sk_advbp.estimators.targets import LabelMatrix, Labels, checked_classes
from sk_advbp.parameters import scaled_weight
from sk_advbp.training.batches import ArrayDataset, Batches, WeightedInput, is_dataset
from sk_advbp.training.outputs import first_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Literal, Self

    from numpy.typing import ArrayLike, NDArray
    from sklearn.utils import Tags
    from skorch.callbacks import Callback
    from torch import Tensor
    from torch.utils.data import Dataset

    from sk_advbp._types import (
        ClassWeight,
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

__all__ = ["AdvBPClassifier"]


class LogisticOutputLoss(nn.Module):
    """Binary cross-entropy of one logistic unit a class or label, summed over them."""

    def __init__(self, reduction: str = "none") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row.

        Parameters
        ----------
        logits : torch.Tensor of shape (n, n_classes)
        target : torch.Tensor of shape (n,) or (n, n_classes)
            Encoded labels, or an indicator matrix.
        """
        if target.ndim == 1:
            target = F.one_hot(target, logits.shape[1])
        target = target.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)


CRITERIA: dict[str, type[nn.Module]] = {
    "softmax": nn.CrossEntropyLoss,
    "logistic": LogisticOutputLoss,
}


class AdvBPClassifier(AdversarialEstimator, NeuralNetClassifier):
    """Multilayer perceptron trained by adversarial back-propagation.

    At every step the mini-batch x is first moved to x' = x + ε · sign(∇ₓJ), where the loss J
    is larger, and ordinary back-propagation then learns from x' alone. It regularises, and
    makes the net harder to fool by small changes of its input.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Number of units of each hidden layer; ``()`` is a linear model. Ignored with `module`.
    activation : {"relu", "tanh", "logistic", "identity"}, default="relu"
        Activation of the hidden layers, each with an initialisation that fits it.
    n_nets : int, default=1
        So many nets, each with its own initial weights and its own adversarial examples, learn
        from the same mini-batches and answer as one: by the mean of their probabilities. More
        nets err less and are less overconfident, and small ones cost little more than one;
        the gain from the adversarial step is smaller then. It takes the package's perceptron and
        SGD, Adam, AdamW or RMSprop; skorch's ``GradientNormClipping`` clips all nets together.
    epsilon : float or array of the shape of one sample, default=0.08
        Size of the perturbation, in the units of X as given to ``fit``, so scale the features
        first. Larger values regularise more; too large ones cost accuracy on clean data. 0 is
        plain back-propagation, without an extra pass. In an array, a zero keeps its feature
        from moving: one-hot columns, for instance. The default is that of the author's later
        code for pixels in [0, 1]. Beware: in ``MLPClassifier`` the same name is a constant of
        Adam.
    epsilon_unit : {"absolute", "std"} or array of the shape of one sample, default="absolute"
        What `epsilon` counts: ``"absolute"``, the units of X, as in the paper; ``"std"``, the
        weighted standard deviation of each feature in the training data, found at ``fit`` or
        the first ``partial_fit``; or numbers >= 0 of your own, one a feature. A constant
        feature, or one of unit 0, does not move.
    norm : {"linf", "l2"}, default="linf"
        ``"linf"``: the step is ε · sign(g), the paper's. ``"l2"``: it is ε ⊙ (ε ⊙ g) / ‖ε ⊙ g‖₂
        for each sample, which for one ε is ε · g / ‖g‖₂.
    clip : tuple (low, high) or None, default=None
        Bounds of the perturbation, numbers or arrays of the shape of one sample: x' lies in
        [min(low, x), max(high, x)], so that a value already outside is never pulled in.
    clean_weight : float in [0, 1], default=0.0
        Share of the loss at x in the update: 0 is the paper's rule, 0.5 that of Goodfellow et
        al. (2015), 1 plain back-propagation.
    random_start : float in [0, 1], default=0.0
        r > 0 takes the gradient at x + δ₀, with δ₀ uniform in the ball of rε, and projects the
        sum of δ₀ and the step back to the ε-ball.
    perturbation : {"adversarial", "random"}, default="adversarial"
        ``"random"`` moves x by random signs (or in a random direction) of the same ε: the
        control that shows whether the adversarial direction matters.
    dropout : float in [0, 1), default=0.0
        Rate at which hidden units are dropped, in both passes, with masks of their own.
    input_dropout : float in [0, 1), default=0.0
        The same for features. A dropped feature is not perturbed.
    output : {"softmax", "logistic"}, default="softmax"
        ``"softmax"`` with cross-entropy, or ``"logistic"``: one logistic unit a class with
        binary cross-entropy summed over the classes. Probabilities then are
        softmax(logsigmoid(z)). Where y is an indicator matrix it does not count: see Notes.
    module : torch.nn.Module class or instance, or None, default=None
        None is `sk_advbp.core.MultilayerPerceptron`. A module of yours takes X alone and
        returns logits (n, n_classes), or (n, n_labels) for an indicator matrix; X may then have
        more than two axes. Its parameters are given as ``module__…``.
    criterion : torch loss class or None, default=None
        None follows from `output`. Yours takes logits and encoded labels, or an indicator matrix
        of floats, and is built with ``reduction="none"``. For ``NLLLoss`` a `module` returns
        probabilities, as in skorch, or their logarithms, as in torch.
    optimizer : torch.optim.Optimizer class, default=torch.optim.Adam
        Its parameters are given as ``optimizer__…``, such as ``optimizer__weight_decay``.
        Fused where torch has that.
    lr : float > 0, default=0.005
        Learning rate.
    lr_schedule : {"linear", "constant"}, default="linear"
        ``"linear"``: from `lr` at the first step to zero after the last of `max_epochs`.
    max_epochs : int, default=100
        Passes over the training data. Chosen with `lr` and `batch_size` for tables of a few
        hundred to a few thousand rows; large data need fewer, and a smaller `lr`.
    batch_size : int, default=64
        Rows of a mini-batch; -1 takes all at once.
    early_stopping : bool, default=False
        Hold out a part of the data, stratified where each class allows it (not by an indicator
        matrix), stop when its accuracy does not improve, and keep the best weights. Where fewer
        than 10 rows would be held out none is, and the training loss is watched. Unlike in
        ``MLPClassifier`` nothing stops a fit early when this is False.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that `early_stopping` holds out.
    n_iter_no_change : int, default=10
        Epochs without improvement by `tol` after which `early_stopping` stops.
    tol : float >= 0, default=1e-4
        What counts as an improvement.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class, on top of `sample_weight`. ``"balanced"``: inversely proportional
        to the weighted counts of the classes in the data of the call. None with an indicator
        matrix.
    classes : array-like or None, default=None
        The labels, where y need not have all of them; None finds them in y. Of an indicator
        matrix 0 … n_labels - 1, which it has anyway.
    train_split : callable or None, default=None
        skorch's way to a validation set, such as ``skorch.helper.predefined_split(dataset)``
        or ``skorch.dataset.ValidSplit(5)``. It takes the place of what `early_stopping` holds
        out.
    callbacks : list of skorch callbacks, None or "disable", default=None
        Your own objects, initialised at each fit and readable afterwards.
    predict_nonlinearity : callable, None or "auto", default="auto"
        Map from logits to what ``predict_proba`` returns. ``"auto"`` follows from `output`.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the last call, with the net as it was built
        then.
    verbose : int, default=0
        1 prints a line an epoch.
    device : str or torch.device, default="auto"
        ``"auto"`` is CUDA when available, else the CPU.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Of weights and computation. ``"auto"``: float64 for input that is neither float16
        nor float32, while X has at most 25,000 values and `amp` is False, else float32. A module
        of yours runs in float32 unless ``"float64"`` is given.
    perturbation_dtype : {"auto", "float32", "bfloat16"}, default="auto"
        Of the first pass, of which only a direction is wanted; the update keeps that of the
        weights. ``"auto"``: bfloat16 where the hardware has products of it (AMX, AVX512-BF16,
        compute capability 8.0) and the layers are large enough to gain, never with float64 weights.
        ``"float32"``: as the weights.
    amp : bool, default=False
        Whether both passes run in bfloat16, with float32 weights and optimizer.
    compile : bool, default=False
        Whether torch compiles the step of the package's perceptron, or `module`: a minute
        once, that long fits get back. Options are given as ``compile__…``.
    use_caching : bool or "auto", default="auto"
        skorch's, for its scoring callbacks.
    torch_load_kwargs : dict or None, default=None
        skorch's, for ``load_params``.
    iterator_train : iterator class, default=sk_advbp.training.Batches
        The default cuts shuffled batches from tensors that lie on the device. Another one,
        such as ``torch.utils.data.DataLoader``, works as in skorch, which does not shuffle
        unless ``iterator_train__shuffle=True``.
    iterator_valid : iterator class, default=sk_advbp.training.Batches
        The same for prediction and validation.
    dataset : Dataset class, default=sk_advbp.training.ArrayDataset
        skorch's, and not used: arrays become an ``ArrayDataset``.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling, dropout and random perturbations. An int gives the
        same weights, bit by bit, on the same machine with the same number of torch threads;
        another thread count or processor may round differently. The global random states of
        NumPy and torch are neither read nor changed. None differs from run to run.
    **kwargs : dict
        Parameters of the components: ``module__…``, ``criterion__…``, ``optimizer__…``,
        ``iterator_train__…``, ``iterator_valid__…``, ``callbacks__…``, ``compile__…``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the columns of ``predict_proba``. Of an indicator matrix the
        numbers of its columns.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X has names that are all strings.
    epsilon_unit_ : float or ndarray of the shape of one sample
        What one of `epsilon` is in the units of X.
    sample_shape_ : tuple of int
        Shape of one sample.
    module_ : torch.nn.Module
        The trained net. Its parameters are weight (out, in) and bias (out,) layer by layer, of
        several nets (n_nets, out, in) and (n_nets, out).
    optimizer_, criterion_, callbacks_ : object
        As in skorch.
    history : skorch.history.History
        What was recorded in each epoch.
    n_iter_ : int
        Number of epochs that were run.
    t_ : int
        Number of rows that were learnt from, counted in each epoch.
    loss_curve_ : list of float
        Mean of the minimised loss in each epoch; of several nets the mean of theirs, each by
        itself.
    loss_ : float
        The last of `loss_curve_`.
    best_loss_ : float or None
        The smallest of `loss_curve_`; None where data were held out.
    validation_scores_ : list of float or None
        Accuracy on the held-out data after each epoch, weighted as the loss is (of several labels
        a row the share of rows of which all are right); of several nets
        that of their one answer, as ``valid_loss`` in the history is its loss.
    best_validation_score_ : float or None
        The largest of `validation_scores_`.
    validation_loss_curve_ : list of float or None
        Mean of the loss on the held-out data after each epoch, without a perturbation; None where
        nothing was held out.
    n_outputs_ : int
        Number of outputs of the net: one a class, and two at least, or one a label.
    n_layers_ : int
        Number of layers of the package's perceptron, with input and output.
    coefs_, intercepts_ : list of ndarray of shape (in, out), and of shape (out,)
        Copies of the weights and biases of the package's perceptron, of several nets
        (n_nets, in, out) and (n_nets, out). Not there with `module`.
    out_activation_ : {"softmax", "logistic", "identity", "gaussian"}
        As `output`, of a regressor too.
    estimators_ : list of `n_nets` fitted AdvBPClassifier
        The nets by themselves, to look at their disagreement. Made anew at each access.
    device_ : str
        The device that `device` stood for.
    dtype_ : str
        The dtype that `dtype` stood for.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : Plain back-propagation.
    skorch.NeuralNetClassifier : The base class.

    Notes
    -----
    With parameters θ, loss J and a mini-batch (x, y)::

        g  = ∇ₓ J(θ, x, y)          first pass, no gradient of θ
        x' = x + ε · sign(g)        g is held constant
        θ  ← step along ∇_θ J(θ, x', y)

    To first order J(θ, x') ≈ J + ε‖g‖₁: a penalty on the gradient of the loss with respect to
    the input.

    The loss is Σwℓ/Σw over each mini-batch. Rows of weight zero are left out altogether. Two
    fits, with integer weights and with repeated rows, agree to 1e-7 when one mini-batch holds
    all rows, in float64 and without options that draw random numbers for each row (`dropout`,
    `input_dropout`, `random_start`, ``perturbation="random"``).

    Where y is an indicator matrix, each label has a logistic unit and a probability of its own, and
    ℓ is the binary cross-entropy summed over the labels, as in ``MLPClassifier``; ``score`` is the
    share of rows of which all labels are right, and a row is fooled when any label changes.

    For a custom module with BatchNorm only the pass that updates the weights, over x', updates
    the running statistics.

    Several nets are those of Deep Ensembles (arXiv:1612.01474), whose step is half of the clean
    loss (``clean_weight=0.5``) and an ε of 1 % of each feature's range.

    Differs from the paper: everything but the rule above (`n_nets`, `norm`, `clip`, `clean_weight`,
    `random_start`, the optimizer and its settings, the initialisation) is our choice.

    References
    ----------
    Arild Nøkland, "Improving Back-Propagation by Adding an Adversarial Gradient",
    arXiv:1510.04189.

    Ian Goodfellow, Jonathon Shlens and Christian Szegedy, "Explaining and Harnessing
    Adversarial Examples", ICLR 2015, arXiv:1412.6572.

    Balaji Lakshminarayanan, Alexander Pritzel and Charles Blundell, "Simple and Scalable
    Predictive Uncertainty Estimation using Deep Ensembles", NIPS 2017, arXiv:1612.01474.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_advbp import AdvBPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = make_pipeline(StandardScaler(), AdvBPClassifier(epsilon=0.1, random_state=0))
    >>> net.fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints = {
        **AdversarialEstimator._parameter_constraints,
        "output": [StrOptions(set(CRITERIA))],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "classes": ["array-like", None],
    }

    valid_score = "valid_acc"
    _target_checks = {"multi_output": True}
    _checked_targets = staticmethod(checked_classes)
    # Of one y: () for a label, (n_labels,) for a row of an indicator matrix.
    _target_shape: tuple[int, ...] = ()
    _sparse_labels = False

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
        output: Literal["softmax", "logistic"] = "softmax",
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
        class_weight: ClassWeight | None = None,
        classes: ArrayLike | None = None,
        train_split: TrainSplit | None = None,
        callbacks: list[Callback] | Literal["disable"] | None = None,
        predict_nonlinearity: Callable[[Tensor], Tensor] | Literal["auto"] | None = "auto",
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
        self, X: Samples, y: MatrixLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train on X and y, from scratch unless ``warm_start=True``.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset
            With `module`, arrays may have more axes.
        y : array-like of shape (n_samples,), or array-like or CSR matrix (n_samples, n_labels)
            Labels, numbers or strings; or for several labels a row an indicator matrix: 1 where
            the row has the label, else 0. None only with a Dataset, which has its own.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights >= 0. A row of weight 0 is left out.

        Returns
        -------
        self : AdvBPClassifier

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
        self,
        X: Samples,
        y: MatrixLike | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train one epoch at the constant rate `lr`, from the present weights.

        skorch's trains `max_epochs`; this one is scikit-learn's. It never holds data out, and
        n calls give the weights of a ``fit`` of n epochs with ``lr_schedule="constant"``.

        Parameters
        ----------
        X, y, sample_weight
            As for ``fit``.
        classes : array-like of shape (n_classes,) or None, default=None
            All the labels that will come, of an indicator matrix the numbers of its columns.
            Needed at the first call, unless the parameter `classes` has them, or ``initialize``
            has built a net for the labels of this call.

        Returns
        -------
        self : AdvBPClassifier

        Raises
        ------
        ValueError
            As for ``fit``; and for labels that were not announced.
        """
        fresh = not self.__sklearn_is_fitted__()
        if not self.initialized_ and classes is None and self.classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._fit(X, y, sample_weight, fresh=fresh, incremental=True, classes=classes)

    # ---- targets ---------------------------------------------------------------------

    def check_data(self, X: object, y: object = None) -> None:
        """Do nothing: skorch would take the encoded labels for the classes."""

    def _settle_targets(
        self,
        y: NDArray[np.generic],
        sample_weight: Floats | None,
        *,
        fresh: bool,
        classes: ArrayLike | None = None,
    ) -> None:
        """Fix the labels at the first data: those that are announced, else those of y."""
        if y.ndim == 2 and self.class_weight is not None:
            raise ValueError(
                "class_weight is for one label a row: give sample_weight with an indicator matrix. "
                f"Got {self.class_weight!r}."
            )
        if classes is None:
            classes = self.classes
        announced = None if classes is None else np.unique(classes)
        if announced is not None and not announced.size:
            raise ValueError(f"classes must have at least one label. Got {classes!r}.")
        if fresh:
            self._target_shape, self._sparse_labels = y.shape[1:], sparse.issparse(y)
            self.classes_inferred_ = self._classes_of(y, announced)
        elif announced is not None and not np.array_equal(announced, self.classes_):
            raise ValueError(
                f"classes={announced.tolist()} is not the same as on the last call, "
                f"was: {self.classes_.tolist()}."
            )

    def _classes_of(
        self, y: NDArray[np.generic], announced: NDArray[np.generic] | None
    ) -> NDArray[np.generic]:
        """Return the labels of the first data; raise ValueError for what a matrix cannot have."""
        if y.ndim == 1:
            return np.unique(y) if announced is None else announced
        columns = np.arange(y.shape[1])
        if announced is not None and not np.array_equal(announced, columns):
            raise ValueError(
                f"The classes of an indicator matrix are the numbers of its columns, "
                f"{columns.tolist()}. Got classes={announced.tolist()}."
            )
        return columns

    @property
    def _targets(self) -> Labels | LabelMatrix:
        if self._target_shape:
            return LabelMatrix(self._target_shape[0], self.dtype_, self._sparse_labels)
        return Labels(self.classes_)

    @property
    def classes_(self) -> NDArray[np.generic]:
        """The class labels, in the order of the columns of ``predict_proba``."""
        if "classes_inferred_" in self.__dict__:
            return self.classes_inferred_
        if self.classes is not None:
            return np.unique(self.classes)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute 'classes_'")

    def _class_weights(
        self, target: NDArray[np.integer], sample_weight: Floats | None
    ) -> Floats | None:
        """Return the weight that each row has by its class; None without `class_weight`."""
        if self.class_weight is None:
            return None
        # "balanced" is about the classes that are here, a dict may name others.
        given = isinstance(self.class_weight, dict)
        which = np.arange(len(self.classes_)) if given else np.unique(target)
        per_class = np.ones(len(self.classes_))
        per_class[which] = compute_class_weight(
            self.class_weight,
            classes=self.classes_[which],
            y=self._targets.decode(target),
            sample_weight=sample_weight,
        )
        if not (np.isfinite(per_class).all() and (per_class >= 0).all()):
            raise ValueError(
                f"class_weight must have finite values >= 0. Got {self.class_weight!r}."
            )
        return scaled_weight(per_class)[target]

    def _default_criterion(self) -> type[nn.Module]:
        return LogisticOutputLoss if self._target_shape else CRITERIA[self._of_net("output")]

    def _kind_of_output(self) -> Output:
        if self._target_shape:
            return "multilabel"
        criterion = self.criterion or self._default_criterion()
        return "logistic" if criterion is LogisticOutputLoss else "softmax"

    def batch_score(self, y_pred: Tensor, y_true: Tensor | ArrayLike, X: Input) -> Tensor:
        """Return the accuracy on a batch, weighted as the loss is."""
        correct = (~self._errs(y_pred, to_tensor(y_true, y_pred.device))).to(y_pred.dtype)
        if not isinstance(X, WeightedInput):
            return correct.mean()
        return (correct * X.weight).sum() / X.weight.sum()

    def _score_of_outputs(self, scoring: object) -> ScoreOfOutputs | None:
        """Return the score by the name `scoring`, None for one that needs an estimator."""
        if self._target_shape:
            return ScoreOfOutputs(subset_accuracy) if scoring in (None, "accuracy") else None
        if scoring is None or scoring == "neg_log_loss":
            return ScoreOfOutputs(
                partial(log_likelihood, logistic=self._kind_of_output() == "logistic")
            )
        return ScoreOfOutputs(accuracy) if scoring == "accuracy" else None

    # ---- predictions -----------------------------------------------------------------

    if TYPE_CHECKING:

        @property
        def estimators_(self) -> list[AdvBPClassifier]:
            """The nets as fitted estimators of their own."""

    def _get_predict_nonlinearity(self) -> Callable[[Tensor], Tensor]:
        """Return the map from logits to probabilities."""
        self.check_is_fitted()
        if callable(self.predict_nonlinearity):
            return self.predict_nonlinearity
        if self.predict_nonlinearity is None:
            return lambda logits: logits
        if not isinstance(self.predict_nonlinearity, str) or self.predict_nonlinearity != "auto":
            raise ValueError(
                "predict_nonlinearity must be a callable, None or 'auto'. Got "
                f"{self.predict_nonlinearity!r}."
            )
        if self._target_shape:
            return torch.sigmoid
        if isinstance(self.criterion_, nn.NLLLoss) and not self._has_own_module:
            return lambda output: output.exp() if (output <= 0).all() else output
        return lambda logits: self._scores(logits).softmax(1)

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        if self._target_shape:
            return F.logsigmoid(logits)
        if isinstance(self.criterion_, nn.NLLLoss):
            return self._log_of_probabilities(logits)
        return F.log_softmax(self._scores(logits), dim=1)

    def _scores(self, logits: Tensor) -> Tensor:
        """Return the scores of which the softmax is the probabilities."""
        return F.logsigmoid(logits) if self._is_logistic else logits

    @property
    def _is_logistic(self) -> bool:
        """Whether the outputs are logistic units: the net's, whatever the parameters are now."""
        # Not by `criterion_`, which a net that is trimmed for prediction has lost.
        criterion = self._of_net("criterion") or CRITERIA[self._of_net("output")]
        return criterion is LogisticOutputLoss

    def predict(self, X: Samples) -> NDArray[np.generic]:
        """Predict the class of each sample.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset

        Returns
        -------
        y : ndarray of shape (n_samples,), or indicator matrix of shape (n_samples, n_labels)
            Labels. For a Dataset while a fit is running, as skorch's scoring callbacks need
            them, indices into `classes_`. Of several labels a row those of a probability above
            0.5, as a CSR matrix where y was sparse in ``fit``.
        """
        codes = self._answers(self._logits(X)).numpy()
        if self._training and is_dataset(X):
            # skorch's scoring callbacks compare with the encoded labels of the batches.
            return codes
        return self._targets.decode(codes)

    def predict_proba(self, X: Samples) -> Floats:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes), of dtype `dtype_`
            Rows sum to 1, but for several labels a row, each with a probability of its own.
        """
        proba = self._get_predict_nonlinearity()(self._logits(X))
        if not torch.is_tensor(proba):
            raise TypeError(
                "predict_nonlinearity must return a tensor. Got "
                f"{type(proba).__name__} from {self.predict_nonlinearity!r}."
            )
        array: Floats = proba.numpy()
        return np.ones((len(array), 1), array.dtype) if len(self.classes_) == 1 else array

    def predict_log_proba(self, X: Samples) -> Floats:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes), of dtype `dtype_`
            Finite where the probability itself rounds to zero.
        """
        if self.predict_nonlinearity != "auto":
            with np.errstate(divide="ignore", invalid="ignore"):  # what is no probability
                return np.log(self.predict_proba(X))
        proba = self._log_probabilities(self._logits(X)).numpy()
        return np.zeros((len(proba), 1), proba.dtype) if len(self.classes_) == 1 else proba

    def _attacked_target(self, X: MatrixLike, y: MatrixLike | None) -> NDArray[np.number]:
        """Return the encoded labels that an attack moves X away from."""
        if y is None:
            return self._answers(self._logits(X)).numpy()
        return self._targets.encode(checked_classes(y))

    def _target(self, y: Tensor | ArrayLike) -> Tensor:
        """Return labels as integers, but for a loss of the user's, which may want other ones."""
        y = super()._target(y)
        if self._target_shape:
            return y.to(getattr(torch, self.dtype_))
        return y if y.is_floating_point() and self._of_net("criterion") is not None else y.long()

    def _row_losses(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return (loss, misclassified), each of shape (n,)."""
        logits = first_output(self._outputs(x))
        return self._losses(logits, target), self._errs(logits, target)

    def _answers(self, logits: Tensor) -> Tensor:
        """Return the encoded labels that are predicted, those of several nets side by side."""
        if self._target_shape:
            return (logits > 0).to(logits.dtype)
        # Of one class alone there are two outputs, and one prediction.
        return logits.argmax(-1).clamp_(max=len(self.classes_) - 1)

    def _errs(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return whether a row's label, or any of its labels, is predicted wrongly."""
        wrong = self._answers(logits) != target
        return wrong.any(-1) if self._target_shape else wrong

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self.class_weight is None
        return tags
