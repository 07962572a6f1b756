import urllib.error

import numpy as np
import pytest

from sk_advbp.command import datasets, load_data


@pytest.fixture
def save(tmp_path):
    """Write arrays to a .npz file and return its path."""

    def save(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return path

    return save


def labels(n=12):
    return np.arange(n) % 3


def images(n=12, shape=(4, 5)):
    return np.arange(n * np.prod(shape), dtype=np.uint8).reshape(n, *shape)


def test_digits_are_scaled_stratified_and_the_same_each_time():
    data = load_data("digits")
    assert data.image_shape == (8, 8)
    assert data.X_train.dtype == np.float32
    assert data.X_train.min() == 0 and data.X_train.max() == 1
    # Every class gives its quarter, to the nearest row.
    share = np.bincount(data.y_test) / np.bincount(np.r_[data.y_train, data.y_test])
    np.testing.assert_allclose(share, 0.25, atol=0.005)
    for first, second in zip(data, load_data("digits"), strict=True):
        np.testing.assert_array_equal(first, second)


def test_file_with_both_parts_keeps_them(save):
    X_test = images(6) + np.uint8(9)
    path = save(X_train=images(), y_train=labels(), X_test=X_test, y_test=labels(6))
    data = load_data(path)
    assert data.image_shape == (4, 5)
    assert data.X_test.dtype == np.float32
    np.testing.assert_allclose(data.X_test, X_test.reshape(6, 20) / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_train, labels())


def test_file_with_one_part_is_split_with_its_labels(save):
    data = load_data(save(X=np.c_[labels(), labels()].astype(float), y=labels().astype(str)))
    assert data.X_train.shape == (9, 2) and data.X_test.shape == (3, 2)
    assert data.image_shape is None
    assert sorted(data.y_test) == ["0", "1", "2"]
    np.testing.assert_array_equal(data.X_train[:, 0], data.y_train.astype(float))


@pytest.mark.parametrize(
    ("dtype", "expected", "largest"),
    [
        ("uint8", "float32", 200 / 255),
        ("int64", "float32", 200),
        ("float32", "float32", 200),
        ("float64", "float64", 200),
    ],
)
def test_only_uint8_values_are_scaled(save, dtype, expected, largest):
    data = load_data(save(X=np.full((12, 2), 200).astype(dtype), y=labels()))
    assert data.X_train.dtype == expected
    assert data.X_train.max() == pytest.approx(largest)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"X": images()}, "accepted are the arrays .* or X and y, .*; found: X$"),
        ({"data": images(), "what": labels()}, "found: data, what$"),
        ({"X": labels(), "y": labels()}, r"X has dtype int64 and shape \(12,\)"),
        ({"X": images(0), "y": labels(0)}, r"X has .* shape \(0, 4, 5\)"),
        ({"X": images().astype(str), "y": labels()}, "X has dtype <U"),
        ({"X": np.full((12, 2), np.nan), "y": labels()}, "X contains NaN"),
        ({"X": images(), "y": labels(11)}, r"y has shape \(11,\); accepted is \(12,\)"),
        ({"X": images(), "y": labels() + 0.5}, "y has dtype float64 and no class labels"),
        ({"X": images(), "y": np.array(["a", 1, None] * 4)}, "Python objects, .* never loaded"),
        ({"X": images(4), "y": np.array([0, 0, 0, 1])}, "least populated class"),
        (
            {
                "X_train": images(),
                "y_train": labels(),
                "X_test": images(6),
                "y_test": labels(6) + 2,
            },
            r"y_test has labels that y_train has not: \[3, 4\]",
        ),
        (
            {
                "X_train": images(),
                "y_train": labels(),
                "X_test": images(6, (4, 4)),
                "y_test": labels(6),
            },
            r"X_train have shape \(4, 5\), of X_test \(4, 4\)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_unusable_arrays_are_named_with_their_file(save, arrays, complaint):
    path = save(**arrays)
    with pytest.raises(ValueError, match=complaint) as caught:
        load_data(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "flipped", "lone array"])
def test_damaged_file(save, damage):
    path = save(X=images(), y=labels())
    content = path.read_bytes()
    middle = len(content) // 4
    if damage == "lone array":
        with path.open("wb") as file:
            np.save(file, images())
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"X,y\n1,2\n",
                "truncated": content[:middle],
                "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            }[damage]
        )
    with pytest.raises(ValueError, match=r"is damaged, is no \.npz file"):
        load_data(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_file_that_cannot_be_opened(tmp_path, make):
    path = tmp_path / "data.npz"
    make(path)
    with pytest.raises(OSError, match=r"data\.npz: cannot be read \(\w+"):
        load_data(path)


OTHERS = [
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("train_data", "train_labels", "test_data", "test_labels"),
    ("x", "y"),
    ("images", "labels"),
    ("data", "target"),
]


@pytest.mark.parametrize("names", OTHERS, ids=lambda names: names[0])
@pytest.mark.parametrize("as_column", [False, True])
def test_names_of_others(save, names, as_column):
    y = labels()[:, None] if as_column else labels()
    arrays = {name: y if i % 2 else images() for i, name in enumerate(names)}
    more = {"val_images": images(), "val_labels": y, "weights": np.ones(3)}
    data = load_data(save(**more, **arrays))
    own = ("X_train", "y_train", "X_test", "y_test") if len(names) == 4 else ("X", "y")
    ours = load_data(save(**{n: labels() if i % 2 else images() for i, n in enumerate(own)}))
    for theirs, expected in zip(data, ours, strict=True):
        np.testing.assert_array_equal(theirs, expected)


def test_names_of_others_in_messages(save):
    path = save(x_train=images(), y_train=labels(), x_test=images(shape=(4, 4)), y_test=labels())
    with pytest.raises(ValueError, match=r"samples of x_train have shape \(4, 5\), of x_test"):
        load_data(path)
    path = save(train_images=images(), train_labels=labels(), test_images=images())
    with pytest.raises(ValueError, match=r"found: train_images, train_labels, test_images$"):
        load_data(path)
    path = save(empty=np.array([{}], dtype=object), other=images())
    with pytest.raises(ValueError, match=r"found: empty, other$"):
        load_data(path)


def test_unknown_name_lists_what_is_accepted():
    with pytest.raises(ValueError, match="'iris': accepted are 'digits', 'mnist' and the path"):
        load_data("iris")


def test_mnist_from_openml_keeps_the_standard_order(monkeypatch):
    X = np.repeat(np.arange(70000) % 256, 2).reshape(-1, 2).astype(float)
    y = (np.arange(70000) % 10).astype(str).astype(object)
    monkeypatch.setattr(datasets, "fetch_openml", lambda name, **options: (X, y))
    data = load_data("mnist")
    assert data.X_train.shape == (60000, 2) and data.image_shape == (28, 28)
    assert data.X_train.dtype == np.float32
    np.testing.assert_allclose(data.X_test, X[60000:] / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_test, np.arange(60000, 70000) % 10)


def test_mnist_without_a_network_says_what_else_there_is(monkeypatch):
    def fetch_openml(name, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(datasets, "fetch_openml", fetch_openml)
    with pytest.raises(OSError, match=r"OpenML .*no network.*; a \.npz file"):
        load_data("mnist")


@pytest.mark.data
def test_mnist_from_a_file(mnist):
    assert mnist.X_train.shape == (60000, 784) and mnist.X_test.shape == (10000, 784)
    assert mnist.image_shape == (28, 28)
    assert mnist.X_train.max() == 1
    # The first digits of both parts, as everyone knows them.
    assert mnist.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.y_test[:5].tolist() == [7, 2, 1, 0, 4]
