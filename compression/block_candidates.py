"""The ways in which each matrix of a model could be stored in blocks, and what each does to its block's output.

A calibration text is read layer by layer. Every joined matrix is rounded in each way with the second moments of
what it reads; the layers after it read what 4 bits leave of the layer, so that they can make up for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compression.awq import awq_scales
from compression.block_settings import BlockSettings
from compression.calibration import (
    held_out,
    input_moments,
    relative_change,
    replaced,
    second_moments,
    walk,
)
from compression.gptq import gptq
from compression.linear import fitting_block_size, stored_bytes
from compression.quantize_blocks import (
    Blocks,
    Grid,
    affine_grid,
    asymmetric_grid,
    round_to_nearest,
    symmetric_grid,
)
from compression.scaled_channels import ScaledChannels
from gpt_tasks.backbone.joined_matrices import joined_matrices, norm_readers
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model
from gpt_tasks.transformer.block import DecoderBlock

WIDE, PLAIN, OFFSETS, EIGHT = "4 bits/64", "4 bits/32", "4 bits+", "8 bits/64"
"""Bits / weights in a block; "+": in blocks of 32 with an offset each."""
_NODE = 70_000
"""bytes that memory moves in the time of one small node more: what decoding is bound by (measured: 2 µs, 33 GB/s)"""
_COMPARED_SEQUENCES = 1  # to measure what a way does to a block's output: 480 times for 30 layers


@dataclass(frozen=True)
class Candidate:
    way: str
    blocks: Blocks
    error: float
    """relative change of the block's output"""

    @property
    def size(self) -> int:
        """In the file, in bytes."""
        return stored_bytes(self.blocks.grid)

    @property
    def cost(self) -> int:
        """What decoding a token has to wait for, in bytes."""
        nodes = 0 if self.blocks.grid.offsets is None else 2
        return self.size + 2 * self.blocks.grid.scales.size + nodes * _NODE  # scales become fp32 when loaded


@dataclass(frozen=True)
class Candidates:
    weights: ScaledChannels
    """with AWQ's scales in them, where asked for"""
    of: dict[str, list[Candidate]]
    """joined matrix -> the ways to store it, the cheapest first"""
    head_moments: Tensor
    """of what the head reads: [hidden, hidden]"""
    on_source_grid: bool
    """nearly all weights lie on a 4-bit grid already, which is kept"""


@torch.no_grad()
def find_candidates(
    model: Model, ids: Tensor, settings: BlockSettings, done: Callable[[], None] = lambda: None
) -> Candidates:
    """
    Args:
        ids: a calibration text, [sequences, length]; the first few are for measuring (see `held_out`)
        done: called after every layer
    """
    decoder = load_decoder(model.weights)
    config, joined = decoder.config, joined_matrices(decoder.config)
    fitted_from = held_out(ids) * ids.shape[1]  # tokens
    scales: dict[str, np.ndarray] = {}
    candidates: dict[str, list[Candidate]] = {}
    rows_on_grid: list[np.ndarray] = []
    for layer, block, run in walk(decoder, ids):
        moments = input_moments(block, run, joined, fitted_from)
        if "awq" in settings.method:
            for norm, (name, parts) in norm_readers(config).items():
                found = _awq(_joined_weight(block, parts), moments[name], settings)
                scales[f"blocks.{layer}.{name}"] = found.numpy()
                _fold(block, norm, parts, found)
                moments[name] = moments[name] / torch.outer(found, found)
        output = run(_COMPARED_SEQUENCES)
        best: dict[str, nn.Module] = {}
        for name, parts in joined.items():
            weight = _joined_weight(block, parts)
            grids, on_grid = _grids(weight, settings.symmetric)
            rows_on_grid.append(on_grid)
            ways = []
            for way, grid in grids.items():
                exact = way == EIGHT or (way == OFFSETS and on_grid.all())
                blocks = round_to_nearest(weight, grid) if exact else quantized(weight, grid, moments[name], settings)
                layers = _linear_layers(block, parts, blocks.dequantize())
                with replaced(block, layers):
                    error = relative_change(output, run(_COMPARED_SEQUENCES))
                ways.append(Candidate(way, blocks, error))
                if way != EIGHT:
                    best |= layers
            candidates[f"blocks.{layer}.{name}"] = sorted(ways, key=lambda way: way.cost)
        for name, module in best.items():
            block.set_submodule(name, module)
        last = run.finish()
        done()
    return Candidates(
        ScaledChannels(model.weights, config, scales),
        candidates,
        second_moments(decoder.final_norm(last).flatten(0, -2)[fitted_from:]),
        bool(np.concatenate(rows_on_grid).mean() > 0.99),
    )


def quantized(weight: np.ndarray, grid: Grid, moments: Tensor, settings: BlockSettings) -> Blocks:
    """Rounded to a grid as the settings say."""
    return gptq(weight, moments, grid) if "gptq" in settings.method else round_to_nearest(weight, grid)


def plain_grid(weight: np.ndarray, symmetric: bool) -> Grid:
    """4 bits in blocks of 32, without offsets."""
    make = symmetric_grid if symmetric else asymmetric_grid
    return make(weight, 4, fitting_block_size(weight.shape[1], 32))


def _grids(weight: np.ndarray, symmetric: bool) -> tuple[dict[str, Grid], np.ndarray]:
    """Way -> grid, of the 4-bit ones the nearest to the weights last; and which rows lie on a 4-bit grid already."""
    columns = weight.shape[1]
    grids = {EIGHT: symmetric_grid(weight, 8, fitting_block_size(columns, 64))}
    if not symmetric and fitting_block_size(columns, 64) == 64:
        grids[WIDE] = asymmetric_grid(weight, 4, 64)
    grids[PLAIN] = plain_grid(weight, symmetric)
    if symmetric:
        return grids, np.zeros(len(weight), bool)
    grids[OFFSETS], on_grid = affine_grid(weight, 4, fitting_block_size(columns, 32))
    return grids, on_grid


def _awq(weight: np.ndarray, moments: Tensor, settings: BlockSettings) -> Tensor:
    block_size = fitting_block_size(weight.shape[1], 32)
    if not settings.symmetric and affine_grid(weight, 4, block_size)[1].all():
        return torch.ones(weight.shape[1])  # scaled, the weights would lie on no grid any more

    def quantize(scaled: np.ndarray) -> Blocks:
        """In the best of the 4-bit ways."""
        if settings.symmetric:
            return round_to_nearest(scaled, symmetric_grid(scaled, 4, block_size))
        return round_to_nearest(scaled, affine_grid(scaled, 4, block_size, keep_source=False)[0])

    return torch.tensor(awq_scales(weight, moments, quantize))


def _joined_weight(block: DecoderBlock, parts: Sequence[str]) -> np.ndarray:
    return torch.cat([block.get_submodule(part).weight for part in parts]).numpy()


def _linear_layers(block: DecoderBlock, parts: Sequence[str], weight: np.ndarray) -> dict[str, nn.Linear]:
    """The parts of a joined matrix as layers of their own."""
    layers, begin = {}, 0
    for part in parts:
        original = block.get_submodule(part)
        rows, columns = original.weight.shape
        linear = nn.Linear(columns, rows, bias=False)
        linear.weight = nn.Parameter(torch.tensor(weight[begin : begin + rows]))
        linear.bias = original.bias
        layers[part] = linear
        begin += rows
    return layers


def _fold(block: DecoderBlock, norm: str, parts: Sequence[str], scales: Tensor) -> None:
    for parameter in block.get_submodule(norm).parameters():
        parameter.div_(scales)
    for part in parts:
        block.get_submodule(part).weight.mul_(scales)
