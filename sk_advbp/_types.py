"""The words of the annotations outside of `core`, whose modules have their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch.utils.data import Dataset
from typing_extensions import TypeIs

from sk_advbp.core.attacks import Attack
from sk_advbp.core.perturbation import Norm

Floats: TypeAlias = NDArray[np.floating]
Matrix: TypeAlias = Floats | sparse.csr_array | sparse.csr_matrix
Labels: TypeAlias = NDArray[np.generic]
RandomState: TypeAlias = int | np.random.RandomState | None
Clip: TypeAlias = tuple[ArrayLike, ArrayLike]
Epsilons: TypeAlias = Sequence[float] | NDArray[np.number]


class Sparse(Protocol):
    """A matrix or an array of `scipy.sparse`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_rows, n_columns)."""

    def toarray(self) -> NDArray[Any]:
        """Return it dense."""


IsSparse: TypeAlias = Callable[[object], TypeIs[Sparse]]
MatrixLike: TypeAlias = ArrayLike | Sparse
Samples: TypeAlias = MatrixLike | Dataset[object]


class Sliceable(Protocol):
    """An array-like that can be cut into rows."""

    def __getitem__(self, rows: slice, /) -> MatrixLike:
        """Return some of the rows."""


class Predictor(Protocol):
    """An estimator, a pipeline or a search, of scikit-learn or any other."""

    def predict(self, X: Any, /) -> NDArray[Any]:
        """Return a label or number for each sample."""


class Classifier(Predictor, Protocol):
    """The same with probabilities."""

    def predict_proba(self, X: Any, /) -> NDArray[Any]:
        """Return the probability of each class for each sample."""


class AttackOptions(TypedDict, total=False):
    """The `**options` of `adversarial_examples`."""

    norm: Norm | None
    clip: Clip | Literal["same"] | None
    n_steps: int
    step_size: float | None
    n_restarts: int
    random_state: RandomState


class NamedAttackOptions(AttackOptions, total=False):
    """The `**options` where the name of the attack is one of them."""

    attack: Attack


class ScoreOptions(NamedAttackOptions, total=False):
    """The `**options` of `adversarial_accuracy_score`."""

    sample_weight: ArrayLike | None
