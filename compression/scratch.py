"""Graphs that are written to be measured, and thrown away."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from compression.decoder_graph import build_decoder_graph
from compression.graph import Graph
from compression.linear import Float32, NumberFormat
from compression.parity import Divergence
from compression.scaled_channels import ScaledChannels
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.weights import DecoderWeights, HeldWeights


class Scratch:
    """Measures number formats of one model. Looks like an artifact to `OrtEngine`."""

    def __init__(self, folder: Path, reference: DecoderWeights, sequences: Sequence[Sequence[int]]) -> None:
        self.config = reference.config
        self._folder = folder
        self._count = 0
        self._divergence = Divergence(self._engine(reference, Float32()), sequences)
        self._held: HeldWeights | None = None

    def mean_kl(self, weights: ScaledChannels, number_format: NumberFormat) -> float:
        """To the reference in fp32, in nats. The weights must be the same ones in every call: they are kept."""
        if self._held is None:
            self._held = HeldWeights(weights.config, weights)
        return self._divergence.of(self._engine(self._held, number_format))

    def graph_path(self, precision: str) -> Path:
        return self._folder / f"{precision}.onnx"

    def _engine(self, weights: Mapping[str, np.ndarray], number_format: NumberFormat) -> OrtEngine:
        self._count += 1  # a new name each time: the engine before may still have its file mapped
        path = self.graph_path(str(self._count))
        with Graph(path) as graph:
            build_decoder_graph(graph, weights, number_format)
            graph.save({})
        engine = OrtEngine(self, path.stem)
        for file in self._folder.iterdir():  # the session has them open; the disk is free when it is gone
            file.unlink()
        return engine


@contextmanager
def scratch(reference: DecoderWeights, sequences: Sequence[Sequence[int]]) -> Iterator[Scratch]:
    """
    Args:
        reference: the original model
        sequences: token ids, on which is measured
    """
    with tempfile.TemporaryDirectory() as folder:
        yield Scratch(Path(folder), reference, sequences)
