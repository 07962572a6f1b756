"""Mini-batches against plain indexing of the arrays."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from skorch.dataset import unpack_data
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader, Subset

from sk_advbp.training import batches
from sk_advbp.training.batches import ArrayDataset, Batches, WeightedInput, as_tensor

N, D = 11, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D)).astype(np.float32)
Y = RNG.integers(4, size=N)
W = RNG.uniform(size=N).astype(np.float32)
STORAGE = {"dense": lambda a: a, "csr_matrix": sparse.csr_matrix, "csr_array": sparse.csr_array}
storages = pytest.mark.parametrize("storage", STORAGE.values(), ids=STORAGE)
weights = pytest.mark.parametrize("weight", [None, W], ids=["", "weighted"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def check_batch(batch, rows, weight, y=Y):
    """The batch holds exactly those `rows` of the arrays."""
    x, target = unpack_data(batch)
    if weight is not None:
        assert isinstance(x, WeightedInput)
        np.testing.assert_array_equal(x.weight, weight[rows])
        x = x.x
    assert torch.is_tensor(x) and x.dtype == torch.float32 and x.layout == torch.strided
    np.testing.assert_array_equal(x, X[rows])
    np.testing.assert_array_equal(target, y[rows])


@storages
@weights
@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, N + 2),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    subset=st.none() | st.lists(st.integers(0, N - 1), min_size=1),
    nested=st.booleans(),
)
def test_batches_are_the_rows_in_order(storage, weight, size, shuffle, drop_last, subset, nested):
    dataset, order = ArrayDataset(storage(X), Y, weight), np.arange(N)
    if subset is not None:
        dataset, order = Subset(dataset, subset), order[subset]
        if nested:
            dataset, order = Subset(dataset, np.arange(len(order))[::-1]), order[::-1]
    batches = Batches(dataset, size, shuffle=shuffle, drop_last=drop_last, generator=seeded())
    generator = seeded()
    for _ in range(2):  # each pass has an order of its own
        if shuffle:
            rows = order[torch.randperm(len(order), generator=generator).numpy()]
        else:
            rows = order
        expected = [rows[i : i + size] for i in range(0, len(rows), size)]
        expected = [r for r in expected if len(r) == size or not drop_last]
        found = list(batches)
        assert len(found) == len(batches) == len(expected)
        for batch, r in zip(found, expected, strict=True):
            check_batch(batch, r, weight)


@storages
@weights
def test_same_as_a_data_loader(storage, weight):
    dataset = ArrayDataset(storage(X), Y, weight)
    loader = DataLoader(dataset, batch_size=4)
    for ours, theirs in zip(Batches(dataset, 4), loader, strict=True):
        check_batch(theirs, np.flatnonzero((X[:, None] == unwrapped(ours)).all(2).any(1)), weight)


def unwrapped(batch):
    x, _ = unpack_data(batch)
    return (x.x if isinstance(x, WeightedInput) else x).numpy()


@storages
@pytest.mark.parametrize(
    "rows", [3, np.int64(3), slice(2, 9, 3), np.array([5, 1, 5]), torch.tensor([5, 1, 5])]
)
@weights
def test_indexing(rows, weight, storage):
    dataset = ArrayDataset(storage(X), Y, weight)
    assert len(dataset) == N
    check_batch(dataset[rows], int(rows) if np.isscalar(rows) else np.asarray(X_rows(rows)), weight)


def X_rows(rows):
    return np.arange(N)[rows] if isinstance(rows, slice) else rows


def test_memory_is_shared_with_the_array():
    dataset = ArrayDataset(X, Y, W)
    (x, weight), target = dataset[:]
    for tensor, array in [(x, X), (weight, W), (target, Y)]:
        assert np.shares_memory(tensor.numpy(), array)
    assert dataset.X is X


def test_read_only_arrays_do_not_warn():
    array = X.copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = as_tensor(array, "cpu")
    assert np.shares_memory(tensor.numpy(), array)


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_as_tensor_dtype(dtype):
    assert as_tensor(X, "cpu", dtype).dtype == (dtype or torch.float32)


def test_y_is_the_users_own_again():
    dataset = ArrayDataset(X, Y, y=lambda target: np.array(list("abcd"))[target])
    assert dataset.y.tolist() == [list("abcd")[y] for y in Y]
    assert ArrayDataset(X, Y).y is Y


def test_without_target_for_prediction():
    x, y = ArrayDataset(X)[2:5]
    np.testing.assert_array_equal(x, X[2:5])
    assert len(y) == 3


def test_more_axes_and_several_outputs():
    images, targets = RNG.normal(size=(N, 2, 3, 4)), RNG.normal(size=(N, 2))
    batches = list(Batches(ArrayDataset(images, targets), 4))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), images)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), targets)


def test_shuffling_without_a_generator_draws_from_the_global_one():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        (x, _) = next(iter(Batches(ArrayDataset(X, Y), N, shuffle=True)))
        torch.manual_seed(3)
        np.testing.assert_array_equal(x, X[torch.randperm(N).numpy()])


def test_rows_that_lie_on_a_gpu_are_not_sent_there(monkeypatch):
    """Pretended: tensors without numbers, which know that a GPU's memory cannot be pinned."""
    with FakeTensorMode():

        def on_gpu(array, device, dtype=None):
            return torch.empty(array.shape, device=device)

        monkeypatch.setattr(batches, "as_tensor", on_gpu)
        monkeypatch.setattr(batches, "selected", lambda tensor, rows: tensor)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**30))
        monkeypatch.setattr(torch.Tensor, "pin_memory", None)
        monkeypatch.setattr(torch.Tensor, "to", None)
        x, target = ArrayDataset(X, Y, device="cuda")[:]
    assert (x.shape, x.device.type, target.device.type) == ((N, D), "cuda", "cuda")


def test_of_writable_arrays_no_warning_is_silenced(monkeypatch):
    """Silencing is for the whole process, so that threads would undo each other's."""
    monkeypatch.setattr(batches, "warnings", None)
    as_tensor(X, "cpu")
