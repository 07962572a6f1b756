"""A fitted net, and the pipeline before it, in a form that needs no torch.

What lives here: ONNX of a net or a pipeline (`pipelines`), and the graph of a net (`graph`), which
alone imports onnx.
What may not: anything that an estimator needs.
"""

from sk_advbp.export.pipelines import to_onnx

__all__ = ["to_onnx"]
