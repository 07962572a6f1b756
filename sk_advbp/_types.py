"""The words of the annotations outside of `core`, whose modules have their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar

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
ClassWeight: TypeAlias = (
    Mapping[str, float] | Mapping[int, float] | Mapping[float, float] | Literal["balanced"]
)
TrainSplit: TypeAlias = Callable[..., tuple[Dataset[object], Dataset[object] | None]]


class Sparse(Protocol):
    """A matrix or an array of `scipy.sparse`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_rows, n_columns)."""

    def toarray(self) -> NDArray[Any]:
        """Return it dense."""


IsSparse: TypeAlias = Callable[[object], TypeIs[Sparse]]
IsDataset: TypeAlias = Callable[[object], TypeIs[Dataset[Any]]]
MatrixLike: TypeAlias = ArrayLike | Sparse
Samples: TypeAlias = MatrixLike | Dataset[object]


class Sliceable(Protocol):
    """An array-like that can be cut into rows."""

    def __getitem__(self, rows: slice, /) -> MatrixLike:
        """Return some of the rows."""


T_co = TypeVar("T_co", covariant=True)


class SizedIterable(Protocol[T_co]):
    """What can be counted and gone through, such as the mini-batches of an epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...


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
