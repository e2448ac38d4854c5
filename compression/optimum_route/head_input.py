"""A masked language model's graph that also gives the states its head reads, so that they can be compared."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import torch

_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "MatMulNBits")
_BETWEEN = ("Add", "Mul", "Cast", "Identity", "Reshape")  # bias and, where it is quantized, scales


class WithStates:
    """Called as a model of transformers is; gives `logits`, and `states` [1, length, hidden] or None.

    Args:
        graph: with an output "logits"
    """

    def __init__(self, graph: Path) -> None:
        model = onnx.load(graph, load_external_data=False)
        self._states = head_input(model.graph)
        if self._states is not None:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(self._states))
        beside = graph.with_suffix(".states.onnx")  # there, since the weights may lie in a file beside the graph
        onnx.save(model, beside)
        self._session = onnxruntime.InferenceSession(beside, providers=["CPUExecutionProvider"])
        beside.unlink()

    def __call__(self, **inputs: torch.Tensor) -> SimpleNamespace:
        # Not every tokenizer gives the token types that BERT's graphs ask for: a single text is all zeros.
        first = torch.zeros_like(inputs["input_ids"])
        feed = {i.name: inputs.get(i.name, first).numpy() for i in self._session.get_inputs()}
        logits, *states = self._session.run(["logits", *filter(None, [self._states])], feed)
        return SimpleNamespace(
            logits=torch.from_numpy(logits), states=torch.from_numpy(states[0].astype(np.float32)) if states else None
        )


def head_input(graph: onnx.GraphProto) -> str | None:
    """What the matrix product that gives "logits" reads, in fp32; None: the graph ends in another way."""
    made_by = {output: node for node in graph.node for output in node.output}
    node = made_by.get("logits")
    while node is not None and node.op_type in _BETWEEN:
        node = next((made_by[name] for name in node.input if name in made_by), None)
    if node is None:
        return None
    if node.op_type == "MatMulInteger":
        node = made_by.get(node.input[0])
        return None if node is None or node.op_type != "DynamicQuantizeLinear" else node.input[0]
    return node.input[0] if node.op_type in _PRODUCTS else None
