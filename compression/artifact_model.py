"""An exported fp32 artifact as a model again: what `quantize` starts from."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from compression.onnx_tensors import tensor_values
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.joined_matrices import joined_matrices
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.weights import Model, copy_tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.shapes import tensor_shape

SOURCE_PRECISION = "fp32"


def artifact_model(artifact: Artifact) -> Model:
    """
    Raises:
        UserError: an artifact without fp32.
    """
    if SOURCE_PRECISION not in artifact.precisions:
        raise UserError(
            f"{artifact.folder} has {', '.join(artifact.precisions)} only: quantized numbers, which are not quantized "
            "again, since the errors would add up. Start from the original model, or from an artifact with fp32: "
            "python -m compression export MODEL OUT --precision fp32"
        )
    return Model(
        artifact.report["model"],
        artifact.report["source"],
        read_json(artifact.folder / "config.json"),
        artifact.config,
        ArtifactWeights(artifact.config, artifact.graph_path(SOURCE_PRECISION)),
        write_tokenizer=partial(copy_tokenizer, artifact.folder),
    )


class ArtifactWeights(Mapping[str, np.ndarray]):
    """The weights of an exported fp32 graph under our own names, read when asked for.

    The graph has some layers joined, and linear weights as [in, out].

    Raises:
        UserError: not a graph of this project's export.
    """

    def __init__(self, config: DecoderConfig, graph: Path) -> None:
        self.config = config
        self._folder = graph.parent
        try:
            model = onnx.load(graph, load_external_data=False)
        except DecodeError as error:
            raise UserError(f"{graph} is damaged ({error}). Export the model again.") from error
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._parts = dict(_parts(config, self._tensors))
        if "embedding.weight" not in self._parts:
            raise UserError(f"{graph} has no weights under this project's names. Export the model again.")

    def __getitem__(self, name: str) -> np.ndarray:
        stored, transposed, rows = self._parts[name]
        values = tensor_values(self._tensors[stored], self._folder)
        return np.ascontiguousarray((values.T if transposed else values)[rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _parts(config: DecoderConfig, tensors: Mapping[str, TensorProto]) -> Iterator[tuple[str, tuple[str, bool, slice]]]:
    """Our name -> where it is: the graph's tensor, whether that is transposed, and which rows of it."""
    joined = joined_matrices(config)
    for stored in tensors:
        module, _, kind = stored.rpartition(".")
        if kind not in ("weight", "bias"):
            continue
        block = re.match(r"(blocks\.\d+\.)(.*)", module)
        names = joined.get(block[2], (block[2],)) if block else (module,)
        transposed = kind == "weight" and (module == "head" or (block is not None and block[2] in joined))
        begin = 0
        for name in names:
            size = tensor_shape(config, f"{block[1] if block else ''}{name}.{kind}")[0]
            rows = slice(begin, begin + size) if len(names) > 1 else slice(None)
            yield f"{block[1] if block else ''}{name}.{kind}", (stored, transposed, rows)
            begin += size
