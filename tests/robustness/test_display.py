import builtins

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from sk_advbp import AdvBPClassifier
from sk_advbp.robustness import (
    AdversarialExamplesDisplay,
    RobustnessCurveDisplay,
    adversarial_examples,
    robustness_curve,
)
from sk_advbp.robustness.images import as_images, drawable_shape

X, Y = load_digits(return_X_y=True)
OPTIONS = {"max_epochs": 5, "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def net():
    return make_pipeline(MinMaxScaler(), AdvBPClassifier((20,), **OPTIONS)).fit(X, Y)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    pyplot.close("all")


# ---- curves ------------------------------------------------------------------------------


def test_curve_of_an_estimator(net):
    epsilons = [0, 0.1, 0.2]
    options = {"n_steps": 3, "random_state": 1}
    display = RobustnessCurveDisplay.from_estimator(
        net, X[:100], Y[:100], epsilons=epsilons, attack_options=options, color="green"
    )
    (line,) = display.lines_
    expected = robustness_curve(net, X[:100], Y[:100], epsilons, **options)
    assert np.array_equal(line.get_xdata(), epsilons)
    assert np.array_equal(line.get_ydata(), expected)
    assert np.array_equal(display.accuracies, [expected])
    assert line.get_color() == "green" and line.get_label() == "AdvBPClassifier"
    assert display.ax_.get_xlabel() == "ε"
    assert display.ax_.get_ylabel() == "Accuracy under attack"
    assert display.figure_ is display.ax_.figure


@pytest.mark.parametrize("given", ["dict", "list"])
def test_curves_of_estimators_in_given_axes(net, given):
    estimators = {"a": net, "b": net} if given == "dict" else [net, net]
    ax = Figure().subplots()
    display = RobustnessCurveDisplay.from_estimators(
        estimators, X[:50], Y[:50], epsilons=[0, 0.1], attack="fgsm", ax=ax, linestyle=":"
    )
    assert display.ax_ is ax and list(ax.lines) == display.lines_
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    expected = ["a", "b"] if given == "dict" else ["AdvBPClassifier 1", "AdvBPClassifier 2"]
    assert labels == expected
    assert {line.get_linestyle() for line in display.lines_} == {":"}
    assert not pyplot.get_fignums()  # nothing but the given figure


def test_curve_of_predictions():
    y_pred = [[0, 1, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    display = RobustnessCurveDisplay.from_predictions(
        [0, 1, 1, 0], y_pred, epsilons=[0, 1, 2], sample_weight=[1, 1, 1, 0]
    )
    np.testing.assert_allclose(display.lines_[0].get_ydata(), [1, 2 / 3, 0])
    assert display.ax_.get_legend() is None
    assert display.plot(label="again").ax_.get_legend() is not None


# ---- images ------------------------------------------------------------------------------


def test_images_of_estimators(net):
    X4, y4 = X[:4], np.array([0, 1, 2, 7])  # the last label is wrong
    display = AdversarialExamplesDisplay.from_estimators(
        {"a net": net, "another": net}, X4, y4, epsilon=0.2
    )
    assert display.axes_.shape == (6, 4)
    moved = adversarial_examples(net, X4, y4, epsilon=0.2)
    shown = [[ax.images[0].get_array() for ax in row] for row in display.axes_]
    np.testing.assert_allclose(shown[0], X4.reshape(4, 8, 8) / 16)
    # The scaler makes 0.2 a fifth of each pixel's range; constant pixels have range 0.
    change = (moved - X4).reshape(4, 8, 8)
    np.testing.assert_allclose(shown[1], 0.5 + change / np.abs(change).max() / 2)
    np.testing.assert_allclose(shown[5], np.clip(moved.reshape(4, 8, 8) / 16, 0, 1))
    for row, images in ((0, X4), (2, moved)):
        proba = net.predict_proba(images)
        for i, (ax, label) in enumerate(zip(display.axes_[row], net.predict(images), strict=True)):
            assert ax.get_title() == f"{label} ({proba[i].max():.0%})"
            assert same_color(ax.title.get_color(), "black" if label == y4[i] else "red")
    assert [row[0].get_ylabel() for row in display.axes_[:3]] == [
        "a net\nclean",
        "perturbation",
        "adversarial",
    ]
    assert display.axes_[3, 0].get_ylabel() == "another\nclean"
    assert display.figure_ is display.ax_.figure


def test_images_in_given_axes_without_pyplot(net):
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    display = AdversarialExamplesDisplay.from_estimator(net, X[:2], epsilon=0.1, ax=right)
    figure.draw_without_rendering()
    assert display.axes_[0, 0].get_position().x0 > left.get_position().x1
    assert not right.axison and not pyplot.get_fignums()


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (5, 4, 1), (3, 5, 4), (5, 4, 3)])
def test_any_image_shape(shape):
    rng = np.random.default_rng(0)
    images, y = rng.random((20, *shape), dtype=np.float32), np.arange(20) % 2
    module = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2))
    net = AdvBPClassifier(module=module, **OPTIONS).fit(images, y)
    by_shape = AdversarialExamplesDisplay.from_estimator(net, images[:3], y[:3], epsilon=0.1)
    rows = AdvBPClassifier((4,), **OPTIONS).fit(images.reshape(20, -1), y)
    of_rows = AdversarialExamplesDisplay.from_estimator(
        rows, images[:3].reshape(3, -1), y[:3], epsilon=0.1, image_shape=shape
    )
    colours = (3,) if 3 in shape else ()
    for display in (by_shape, of_rows):
        assert display.axes_[0, 0].images[0].get_array().shape == (5, 4, *colours)
    first = images[0].squeeze()
    first = np.moveaxis(first, 0, -1) if shape[0] == 3 else first
    assert np.array_equal(by_shape.clean[0], first)


def test_images_of_predictions():
    clean = np.zeros((2, 4))
    display = AdversarialExamplesDisplay.from_predictions(
        clean,
        clean + 1,
        ["cat", "dog"],
        ["dog", "dog"],
        y_proba_adversarial=[[0.3, 0.7], [0.1, 0.9]],
        name="forest",
    )
    titles = [[ax.get_title() for ax in row] for row in display.axes_]
    assert titles == [["cat", "dog"], ["", ""], ["dog (70%)", "dog (90%)"]]
    assert [ax.title.get_color() for ax in display.axes_[2]] == ["red", "black"]
    assert display.axes_[0, 0].get_ylabel() == "forest\nclean"


@pytest.mark.parametrize(
    ("sample_shape", "image_shape"),
    [(3, None), (64, (8, 9)), ((2, 8, 8), None), ((4, 4, 4, 4), None), (12, (1, 1, 3, 4))],
)
def test_what_is_no_image(sample_shape, image_shape):
    with pytest.raises(ValueError, match="only images of shape"):
        drawable_shape(sample_shape, image_shape)
    assert as_images(np.zeros((2, 6)), (2, 3)).shape == (2, 2, 3)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    import_ = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return import_(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    message = r"RobustnessCurveDisplay needs matplotlib, .* extra 'plot': python -m pip install"
    with pytest.raises(ImportError, match=message):
        RobustnessCurveDisplay(epsilons=[0], accuracies=[1]).plot()


def test_examples_need_axes_of_a_grid():
    net = AdvBPClassifier(max_epochs=1, random_state=0).fit(X, Y)
    ax = Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="ax must be one of a grid"):
        AdversarialExamplesDisplay.from_estimator(net, X[:2], ax=ax)
