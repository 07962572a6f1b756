"""The ONNX graph of a fitted net: from X to labels and probabilities, or to y."""

import warnings
from copy import deepcopy

import numpy as np
import torch
from onnx import TensorProto, checker, compose, helper, numpy_helper
from sklearn.base import is_classifier

from sk_advbp._version import __version__
from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.training.state import on_the_cpu

__all__ = ["IR_VERSION", "ML_OPSET", "OPSET", "net_model"]

# Those of ONNX 1.13, the first ones that torch's exporter writes.
OPSET, ML_OPSET, IR_VERSION = 18, 3, 8

ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}


class Graph:
    """Operators one after the other, each with a name for what it returns."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, operator, *inputs, name=None, **attributes):
        """Add an operator of the `inputs`, names or arrays, and return the name of its output."""
        names = [i if isinstance(i, str) else self._constant(i) for i in inputs]
        name = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def _constant(self, array):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def net_model(net, input_type):
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
    graph, functions, opsets = Graph(), [], {"": OPSET}
    if type(net.module_) is MultilayerPerceptron and net.module_.layers[0].weight.ndim == 2:
        output = _perceptron(graph, net)
    else:
        output, functions, opsets = _translated(graph, net)
    outputs = (_classifier_end if is_classifier(net) else _regressor_end)(graph, net, output)
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


def _type_of(dtype):
    return helper.np_dtype_to_tensor_dtype(dtype)


def _perceptron(graph, net):
    """Add the layers of the package's own module, and return the name of the last output."""
    module, x = net.module_, graph.add("Cast", "X", to=_type_of(np.dtype(net.dtype_)))
    for number, layer in enumerate(module.layers, 1):
        weight, bias = (t.numpy(force=True) for t in (layer.weight, layer.bias))
        x = graph.add("Gemm", x, weight, bias, transB=1)
        if number < len(module.layers):
            x = graph.add(ACTIVATIONS[module.activation], x)
    return x


def _translated(graph, net):
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
    part = compose.add_prefix(program.model_proto, "module.")
    graph.add("Cast", "X", name=part.graph.input[0].name, to=TensorProto.FLOAT)
    graph.nodes += part.graph.node
    graph.constants += part.graph.initializer
    opsets = {opset.domain: opset.version for opset in part.opset_import}
    output = graph.add("Cast", part.graph.output[0].name, to=_type_of(np.dtype(net.dtype_)))
    return output, list(part.functions), opsets


def _classifier_end(graph, net, logits):
    """Add labels and probabilities; return what the graph puts out."""
    classes = net.classes_
    if len(classes) == 1:  # the other output stands for nothing
        logits = graph.add("Gather", logits, np.array([0]), axis=1)
    if net.predict_nonlinearity is None:
        graph.add("Identity", logits, name="probabilities")
    elif net.predict_nonlinearity == "auto":
        logistic = net._of_net("criterion") is None and net._of_net("output") == "logistic"
        scores = _log_sigmoid(graph, logits, np.ones((), net.dtype_)) if logistic else logits
        graph.add("Softmax", scores, axis=1, name="probabilities")
    else:
        raise ValueError(
            f"predict_nonlinearity={net.predict_nonlinearity!r} is a function, which ONNX has not."
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


def _labels(classes):
    """Return the labels as an array of a dtype that ONNX has: strings, int64, float64 or bool."""
    if classes.dtype.kind in "iu":
        return classes.astype(np.int64)
    if classes.dtype.kind in "bf":
        return classes.astype(np.float64 if classes.dtype.kind == "f" else bool)
    if all(isinstance(label, str) for label in classes):
        return classes.astype(object)
    raise ValueError(f"ONNX has no labels of dtype {classes.dtype}, such as {classes[0]!r}.")


def _log_sigmoid(graph, z, one):
    """Add log σ(z) = min(z, 0) - log(1 + exp(-|z|)), of operators that are there for float64."""
    small = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    below = graph.add("Neg", graph.add("Relu", graph.add("Neg", z)))
    return graph.add("Sub", below, graph.add("Log", graph.add("Add", one, small)))


def _regressor_end(graph, net, output):
    """Add the way back to the units of y; return what the graph puts out."""
    wide = graph.add("Cast", output, to=TensorProto.DOUBLE)
    y = graph.add("Add", graph.add("Mul", wide, net.y_scale_), net.y_mean_)
    shape = list(net._targets.shape)
    graph.add("Reshape", y, np.array([-1, *shape]), name="prediction")
    return [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["n", *shape])]
