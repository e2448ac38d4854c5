"""Runs the encoding graph: texts' token ids and an adapter in, hidden states out. Never imports torch."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

from gpt_tasks.backbone.adapter import Adapter
from gpt_tasks.backbone.artifact import Artifact, preferred_precision, scales_file
from gpt_tasks.backbone.encoder_interface import LAST_HIDDEN, feature_layers, layer_output
from gpt_tasks.backbone.ort_engine import Turns, new_session

BATCH_TOKENS = 512
"""Padding counted. More at once is no faster (measured with 256 to 4096) and takes more memory."""


class EncoderEngine:
    """One encoding graph for all tasks and all visitors: the adapter is an argument of each call.

    Args:
        precision: None takes int8, or the best that the folder has
        threads: None takes the cores that this process may use

    Raises:
        UserError: a precision that the folder hasn't got, or a graph that onnxruntime can't load.
    """

    def __init__(self, artifact: Artifact, precision: str | None = None, threads: int | None = None) -> None:
        self.config = artifact.config
        path = artifact.encoder_path(precision or preferred_precision(artifact.precisions))
        self._session = new_session(path, threads)
        # Memory that a batch took goes back after it: 80 MB less at rest, and no slower.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        # What lies above the layers that are asked for isn't computed.
        self._run_options.only_execute_path_to_fetches = True
        scales = path.with_name(scales_file(path.name))
        self._scales = load_file(scales) if scales.is_file() else {}
        self._bound: dict[int, tuple[Adapter, dict[str, onnxruntime.OrtValue]]] = {}
        self._turns = Turns()

    def encode(self, rows: Sequence[Sequence[int]], adapter: Adapter | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One batch.

        Args:
            rows: token ids, at least one each

        Returns:
            float32 [rows, longest, hidden] (numbers without meaning where a row has ended) and the mask
            [rows, longest] of 0 and 1
        """
        (hidden,), mask = self._run(rows, adapter, [LAST_HIDDEN])
        return hidden, mask

    def layers(
        self, rows: Sequence[Sequence[int]], adapter: Adapter | None = None
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """As `encode`, what each of `feature_layers` leaves in the residual stream."""
        return self._run(rows, adapter, [layer_output(layers) for layers in feature_layers(self.config)])

    def _run(
        self, rows: Sequence[Sequence[int]], adapter: Adapter | None, outputs: Sequence[str]
    ) -> tuple[list[np.ndarray], np.ndarray]:
        ids, mask = padded(rows)
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        if self.config.positions != "rotary":
            positions = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
            binding.bind_cpu_input("position_ids", np.ascontiguousarray(positions))
        for name, value in self._inputs(adapter).items():
            binding.bind_ortvalue_input(name, value)
        for output in outputs:
            binding.bind_output(output)
        with self._turns.mine():
            self._session.run_with_iobinding(binding, self._run_options)
        return [output.numpy() for output in binding.get_outputs()], mask

    def encode_all(
        self, rows: Sequence[Sequence[int]], adapter: Adapter | None = None
    ) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        """Batches of like length, the shortest first.

        Yields:
            the rows' numbers, and what `encode` gives for them
        """
        for batch in length_batches([len(row) for row in rows], BATCH_TOKENS):
            yield batch, *self.encode([rows[index] for index in batch], adapter)

    def _inputs(self, adapter: Adapter | None) -> dict[str, onnxruntime.OrtValue]:
        if adapter is None:
            return {}
        # The adapter is kept beside its matrices so that its identity can't go to another one.
        found = self._bound.get(id(adapter))
        if found is None:
            found = self._bound[id(adapter)] = (adapter, adapter.bound(self._scales))
        return found[1]


def padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of at least one token -> ids, and the mask of 0 (padding, at the end) and 1: int64 [rows, longest] each"""
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros(mask.shape, np.int64)
    ids[mask == 1] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return ids, mask


def length_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """The numbers 0 ... n - 1, by length, in batches of at most `tokens` tokens with their padding (or one
    longer row)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # From short to long: the newest is the longest of its batch.
        if not batches or (len(batches[-1]) + 1) * lengths[index] > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches
