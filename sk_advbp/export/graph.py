"""The ONNX graph of a fitted net: from X to labels and probabilities, or to y."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import TensorProto, checker, compose, helper, numpy_helper
from sklearn.base import is_classifier

from sk_advbp._version import __version__
from sk_advbp.core.gaussian import LEAST_VARIANCE
from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.training.state import on_the_cpu

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import FunctionProto, ModelProto, ValueInfoProto

    from sk_advbp.core.mixture import Output
    from sk_advbp.estimators.base import AdversarialEstimator

__all__ = ["IR_VERSION", "ML_OPSET", "OPSET", "net_model"]

# Those of ONNX 1.13, the first ones that torch's exporter writes.
OPSET, ML_OPSET, IR_VERSION = 18, 3, 8

# float64 has these operators in onnxruntime, too.
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}


class Graph:
    """Operators one after the other, each with a name for what it returns."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(
        self, operator: str, *inputs: str | NDArray[Any], name: str = "", **attributes: Any
    ) -> str:
        """Add an operator of the `inputs`, names or arrays, and return the name of its output."""
        names = [i if isinstance(i, str) else self._constant(i) for i in inputs]
        name = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def net_model(net: AdversarialEstimator, input_type: int) -> ModelProto:
    """Return the ONNX model of a fitted net.

    Parameters
    ----------
    net : AdvBPClassifier or AdvBPRegressor
    input_type : int
        The `onnx.TensorProto.DataType` of X.

    Returns
    -------
    model : onnx.ModelProto
    """
    graph = Graph()
    functions: list[FunctionProto] = []
    opsets = {"": OPSET}
    if _is_ours(net):
        output = _perceptron(graph, net)
    else:
        output, functions, opsets = _translated(graph, net)
    several_labels = is_classifier(net) and net._target_shape
    end = _labels_end if several_labels else _classifier_end
    outputs = (end if is_classifier(net) else _regressor_end)(graph, net, output)
    taken = helper.make_tensor_value_info("X", input_type, ["n", *net.sample_shape_])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "net", [taken], outputs, graph.constants),
        opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()],
        functions=functions,
        ir_version=IR_VERSION,
        producer_name="sk_advbp",
        producer_version=__version__,
    )
    checker.check_model(model)
    return model


def _is_ours(net: AdversarialEstimator) -> bool:
    """Return whether the module is the package's own, of which all is known."""
    return net._has_own_module and type(net.module_) is MultilayerPerceptron


def _type_of(dtype: np.dtype[Any]) -> int:
    return helper.np_dtype_to_tensor_dtype(dtype)


def _perceptron(graph: Graph, net: AdversarialEstimator) -> str:
    """Add the package's own module, and return the name of what `forward` puts out.

    Of several classifiers that is log p̄ in place of z̄ (see `sk_advbp.core.mixture`), but for
    several labels a row; of several Gaussians what each net puts out, (K, n, 2m).
    """
    module, x = net.module_, graph.add("Cast", "X", to=_type_of(np.dtype(net.dtype_)))
    for number, layer in enumerate(module.layers, 1):
        weight, bias = (t.numpy(force=True) for t in (layer.weight, layer.bias))
        if module.n_nets is None:
            x = graph.add("Gemm", x, weight, bias, transB=1)
        else:  # (n, in) or (K, n, in) times (K, in, out)
            x = graph.add("MatMul", x, np.ascontiguousarray(weight.swapaxes(1, 2)))
            x = graph.add("Add", x, bias[:, None, :])
        if number < len(module.layers):
            x = graph.add(ACTIVATIONS[module.activation], x)
    return x if module.n_nets is None else _mixed(graph, x, module.output, net.dtype_)


def _mixed(graph: Graph, z: str, output: Output, dtype: str) -> str:
    """Add the mean of several nets, (K, n, m) → (n, m): of numbers, log p̄, or z̄ of labels.

    The mixture of Gaussians is `_gaussian`'s.
    """
    nets = np.array([0])
    if output == "identity":
        return graph.add("ReduceMean", z, nets, keepdims=0)
    if output == "gaussian":
        return z
    if output == "multilabel":
        one = np.ones((), dtype)
        log_p, log_q = (
            graph.add("ReduceLogSumExp", _log_sigmoid(graph, side, one), nets, keepdims=0)
            for side in (z, graph.add("Neg", z))
        )
        return graph.add("Sub", log_p, log_q)
    # Without the - log K of the mean, which ``softmax`` takes no notice of.
    scores = _log_sigmoid(graph, z, np.ones((), dtype)) if output == "logistic" else z
    return graph.add("ReduceLogSumExp", graph.add("LogSoftmax", scores, axis=2), nets, keepdims=0)


def _translated(
    graph: Graph, net: AdversarialEstimator
) -> tuple[str, list[FunctionProto], dict[str, int]]:
    """Add what torch's exporter makes of the module.

    Returns
    -------
    output : str
    functions : list of onnx.FunctionProto
    opsets : dict of str to int
    """
    # Two rows, or torch would take their number for a constant.
    rows = torch.zeros(2, *net.sample_shape_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and its exporter among themselves
        program = torch.onnx.export(
            deepcopy(on_the_cpu(net.module_)).float().eval(),
            (rows,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    assert program is not None  # without a file to write
    part = compose.add_prefix(program.model_proto, "module.")
    graph.add("Cast", "X", name=part.graph.input[0].name, to=TensorProto.FLOAT)
    graph.nodes += part.graph.node
    graph.constants += part.graph.initializer
    opsets = {opset.domain: opset.version for opset in part.opset_import}
    output = graph.add("Cast", part.graph.output[0].name, to=_type_of(np.dtype(net.dtype_)))
    return output, list(part.functions), opsets


def _classifier_end(graph: Graph, net: Any, logits: str) -> list[ValueInfoProto]:
    """Add labels and probabilities; return what the graph puts out."""
    classes, mixed = net.classes_, _is_ours(net) and net.module_.n_nets is not None
    if len(classes) == 1:  # the other output stands for nothing
        logits = graph.add("Gather", logits, np.array([0]), axis=1)
    if net.predict_nonlinearity == "auto":
        one = np.ones((), net.dtype_)
        by_units = net._is_logistic and not mixed
        scores = _log_sigmoid(graph, logits, one) if by_units else logits
        graph.add("Softmax", scores, axis=1, name="probabilities")
    elif net.predict_nonlinearity is None and not mixed:
        graph.add("Identity", logits, name="probabilities")
    else:
        raise ValueError(
            "ONNX has no predict_nonlinearity that is a function, nor None of several nets. Got "
            f"{net.predict_nonlinearity!r}."
        )
    labels = _labels(classes)
    codes = graph.add("ArgMax", logits, axis=1, keepdims=0)
    graph.add("Gather", labels, codes, name="label")
    return [
        helper.make_tensor_value_info("label", _type_of(labels.dtype), ["n"]),
        helper.make_tensor_value_info(
            "probabilities", _type_of(np.dtype(net.dtype_)), ["n", len(classes)]
        ),
    ]


def _labels_end(graph: Graph, net: Any, logits: str) -> list[ValueInfoProto]:
    """Add the indicator matrix and the probability of each label."""
    if net.predict_nonlinearity == "auto":
        log_p = _log_sigmoid(graph, logits, np.ones((), net.dtype_))
        graph.add("Exp", log_p, name="probabilities")
    elif net.predict_nonlinearity is None:
        graph.add("Identity", logits, name="probabilities")
    else:
        raise ValueError(
            "ONNX has no predict_nonlinearity that is a function. Got "
            f"{net.predict_nonlinearity!r}."
        )
    positive = graph.add("Greater", logits, np.zeros((), net.dtype_))
    graph.add("Cast", positive, to=TensorProto.INT64, name="label")
    shape: list[str | int | None] = ["n", len(net.classes_)]
    return [
        helper.make_tensor_value_info("label", TensorProto.INT64, shape),
        helper.make_tensor_value_info("probabilities", _type_of(np.dtype(net.dtype_)), shape),
    ]


def _labels(classes: NDArray[Any]) -> NDArray[Any]:
    """Return the labels as an array of a dtype that ONNX has: strings, int64, float64 or bool."""
    if classes.dtype.kind in "iu":
        return classes.astype(np.int64)
    if classes.dtype.kind in "bf":
        return classes.astype(np.float64 if classes.dtype.kind == "f" else bool)
    if all(isinstance(label, str) for label in classes):
        return classes.astype(object)
    raise ValueError(f"ONNX has no labels of dtype {classes.dtype}, such as {classes[0]!r}.")


def _log_sigmoid(graph: Graph, z: str, one: NDArray[Any]) -> str:
    """Add log σ(z) = min(z, 0) - log(1 + exp(-|z|)), of operators that are there for float64."""
    small = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    below = graph.add("Neg", graph.add("Relu", graph.add("Neg", z)))
    return graph.add("Sub", below, graph.add("Log", graph.add("Add", one, small)))


def _regressor_end(graph: Graph, net: Any, output: str) -> list[ValueInfoProto]:
    """Add the way back to the units of y; return what the graph puts out."""
    wide = graph.add("Cast", output, to=TensorProto.DOUBLE)
    found = {"prediction": wide}
    if net._kind_of_output() == "gaussian":
        several = _is_ours(net) and net.module_.n_nets is not None
        found["prediction"], found["std"] = _gaussian(graph, wide, net.n_outputs_, several)
    shape = list(net._targets.shape)
    for name, scaled in found.items():
        y = graph.add("Mul", scaled, net.y_scale_)
        y = graph.add("Add", y, net.y_mean_) if name == "prediction" else y
        graph.add("Reshape", y, np.array([-1, *shape]), name=name)
    return [helper.make_tensor_value_info(n, TensorProto.DOUBLE, ["n", *shape]) for n in found]


def _gaussian(graph: Graph, z: str, n_outputs: int, several: bool) -> tuple[str, str]:
    """Add the mean and the standard deviation, those of the mixture of several nets."""
    mean, s = (graph.add("Gather", z, np.arange(n_outputs) + i, axis=-1) for i in (0, n_outputs))
    softplus = graph.add("Neg", _log_sigmoid(graph, graph.add("Neg", s), np.ones(())))
    variance = graph.add("Add", softplus, np.array(LEAST_VARIANCE))
    if several:
        nets, means = np.array([0]), mean
        mean = graph.add("ReduceMean", means, nets, keepdims=0)
        from_mean = graph.add("Sub", means, mean)
        apart = graph.add("ReduceMean", graph.add("Mul", from_mean, from_mean), nets, keepdims=0)
        variance = graph.add("Add", graph.add("ReduceMean", variance, nets, keepdims=0), apart)
    return mean, graph.add("Sqrt", variance)
