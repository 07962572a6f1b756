"""`to_onnx`: the pipeline, by skl2onnx, and the net behind it, as one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import make_pipeline

from sk_advbp.estimators.pipelines import last_step
from sk_advbp.training.state import PlainState

if TYPE_CHECKING:
    from onnx import ModelProto

    from sk_advbp._types import MatrixLike, Predictor

__all__ = ["to_onnx"]


def to_onnx(model: Predictor, X: MatrixLike) -> ModelProto:
    """Return the ONNX model of a fitted estimator, or of a pipeline that ends in one.

    Parameters
    ----------
    model : AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor, Pipeline or search
        Fitted. The transformers of a pipeline are those that skl2onnx knows: scikit-learn's
        scalers, encoders, ``ColumnTransformer`` and many others. Samplers, which do nothing when a
        pipeline predicts, are left out.
    X : array-like or DataFrame of shape (n_samples, n_features)
        A row or more as ``predict`` takes them, for the number and the types of the columns.

    Returns
    -------
    onnx_model : onnx.ModelProto
        ``onnx_model.SerializeToString()`` are the bytes of the file. It takes ``X``, any number
        of rows of the dtype of X; or, where X is a DataFrame before transformers, each column
        under its name, of shape (n, 1). It returns ``label``, of shape (n,), and
        ``probabilities``, of shape (n, n_classes), as ``predict`` and ``predict_proba`` do; of
        several labels a row both of shape (n, n_labels), dense; of a regressor ``prediction``, of
        the shape of y, and with ``output="gaussian"`` ``std``, of the same.

    Raises
    ------
    ImportError
        The packages of the extra ``onnx`` are not installed.
    TypeError
        There is no estimator of this package at the end of `model`.
    ValueError
        For a `predict_nonlinearity` that is a function, for labels that ONNX does not have, and
        for an X that the net does not take.
    sklearn.exceptions.NotFittedError
        Before ``fit``.

    Notes
    -----
    The package's perceptron is computed in the dtype of its weights. A module of your own is
    translated by torch's exporter, in evaluation mode and float32: runtimes have convolutions
    and the like in no other dtype.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_advbp import AdvBPClassifier
    >>> from sk_advbp.export import to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> net = AdvBPClassifier((8,), max_epochs=3, random_state=0).fit(X, y)
    >>> [output.name for output in to_onnx(net, X[:1]).graph.output]
    ['label', 'probabilities']
    """
    try:
        import skl2onnx
        from onnx import checker, compose, helper

        from sk_advbp.export.graph import IR_VERSION, ML_OPSET, OPSET, net_model
    except ImportError as error:
        raise ImportError(
            "to_onnx needs onnx, onnxscript and skl2onnx, which come with the extra 'onnx': "
            'python -m pip install -c constraints.txt -e ".[onnx]"'
        ) from error
    steps, net = last_step(model)
    if not isinstance(net, PlainState):
        raise TypeError(
            "only an estimator of this package, a pipeline whose last step is one, or a fitted "
            f"search over them can be exported. Got {model!r}."
        )
    net.check_is_fitted()
    if not steps:
        net._validated(X, reset=False)
        return net_model(net, helper.np_dtype_to_tensor_dtype(np.asarray(X).dtype))
    row: Any = X if hasattr(X, "columns") else np.asarray(X)
    transformers = make_pipeline(*(transformer for _, transformer in steps))
    before = skl2onnx.to_onnx(
        transformers, row[:1], target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET}
    )
    before.ir_version = IR_VERSION
    (output,) = before.graph.output
    both = compose.merge_models(
        compose.add_prefix(before, "before.", rename_inputs=False),
        compose.add_prefix(
            net_model(net, output.type.tensor_type.elem_type), "net.", rename_outputs=False
        ),
        io_map=[(f"before.{output.name}", "net.X")],
    )
    checker.check_model(both)
    return both
