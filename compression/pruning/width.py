"""Narrower layers: key/value heads with their query heads, and feed-forward neurons.

What goes is what adds least to the residual stream: of a head or a neuron, the mean over tokens of

    ‖what it adds‖² / ‖what the block gives out‖²

A ratio token by token, so that a few massive activations don't decide; LLM-Pruner (Ma et al. 2023) groups weights in
the same way, and Wanda's norms of inputs are in it: what a neuron adds is its activation times its column of W_down.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from compression.calibration import walk, watching
from compression.derived_model import derived
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig, LayerSizes
from gpt_tasks.transformer.decoder import Decoder

NEURONS = 32
"""neurons go and stay in such numbers: the kernels' blocks are of 32"""


@torch.no_grad()
def importances(decoder: Decoder, ids: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Of each layer: of its key/value heads' groups [key_value_heads], and of its neurons [feed_forward_size].

    Args:
        ids: int64 [sequences, length]
    """
    heads, neurons = [], []
    for _, block, run in walk(decoder, ids):
        seen: dict[str, Tensor] = {}
        with (
            watching(block.attention.output, lambda x, seen=seen: seen.update(heads=x)),
            watching(block.feed_forward.down, lambda x, seen=seen: seen.update(neurons=x)),
        ):
            output = run.finish().flatten(0, 1)  # [tokens, hidden]
        energy = output.square().sum(dim=1)  # [tokens]
        groups = block.attention.config.key_value_heads
        added = [
            (x @ weight.T).square().sum(dim=1)  # [tokens]
            for x, weight in zip(
                seen["heads"].chunk(groups, dim=1), block.attention.output.weight.chunk(groups, dim=1), strict=True
            )
        ]
        heads.append(torch.stack([(of_group / energy).mean() for of_group in added]))
        activation = (seen["neurons"].square() / energy[:, None]).mean(dim=0)  # [neurons]
        neurons.append(activation * block.feed_forward.down.weight.square().sum(dim=0))
    return heads, neurons


def choose(scores: Sequence[Tensor], sparsity: float, step: int, uniform: bool) -> list[list[int]]:
    """Which parts stay in each layer, in their order.

    Args:
        scores: of each layer's parts
        sparsity: the part of all that goes
        step: as many go at once, and at least as many stay in every layer
        uniform: every layer loses the same number; otherwise those that add least in the whole model go

    Raises:
        UserError: nothing would go, or nothing be left.
    """
    ranked = [layer.argsort(descending=True).tolist() for layer in scores]
    if uniform:
        counts = [_rounded(len(layer) * (1 - sparsity), step) for layer in ranked]
    else:
        counts = _counts(scores, ranked, sparsity, step)
    if all(count >= len(layer) for count, layer in zip(counts, ranked, strict=True)):
        most = max(map(len, ranked))
        advice = "Take a larger one." if most > step else "No sparsity takes any out: prune by another method."
        raise UserError(
            f"A sparsity of {sparsity} takes nothing out: {step} go at a time, and at least {step} of {most} stay in a "
            f"layer. {advice}"
        )
    return [sorted(layer[:count]) for layer, count in zip(ranked, counts, strict=True)]


def removed(scores: Sequence[Tensor], kept: Sequence[Sequence[int]]) -> float:
    """The part of all that goes: less than was asked for where every layer has to keep some."""
    return 1 - sum(map(len, kept)) / sum(map(len, scores))


def _rounded(count: float, step: int) -> int:
    return max(step, round(count / step) * step)


def _counts(scores: Sequence[Tensor], ranked: Sequence[Sequence[int]], sparsity: float, step: int) -> list[int]:
    """How many stay in each layer when the steps that add least go first."""
    steps = []  # what a layer's last step, the one before it, ... adds
    for layer, (values, order) in enumerate(zip(scores, ranked, strict=True)):
        for begin in range(step, len(order), step):
            steps.append((float(values[order[begin : begin + step]].sum()), layer, len(order[begin : begin + step])))
    wanted = sparsity * sum(map(len, ranked))
    counts = [len(order) for order in ranked]
    for _, layer, size in sorted(steps):  # within a layer in the right order: what is ranked lower adds less
        if wanted < size / 2:
            break
        counts[layer] -= size
        wanted -= size
    return counts


def keep_heads(model: Model, kept: Sequence[Sequence[int]]) -> Model:
    """
    Args:
        kept: of each layer, the key/value heads that stay, with the query heads that they serve
    """
    config = model.config
    group = config.query_heads // config.key_value_heads

    def rows(layer: int, heads_a_group: int) -> np.ndarray:
        size = heads_a_group * config.head_size
        return np.concatenate([np.arange(head * size, (head + 1) * size) for head in kept[layer]])

    tensors = {}
    for name in model.weights:
        tensor = model.weights[name]
        layer, part = _part(name)
        if part.startswith("attention.query"):
            tensor = tensor[rows(layer, group)]
        elif part.startswith(("attention.key", "attention.value")):
            tensor = tensor[rows(layer, 1)]
        elif part == "attention.output.weight":
            tensor = tensor[:, rows(layer, group)]
        tensors[name] = tensor
    sizes = [
        replace(size, query_heads=group * len(heads), key_value_heads=len(heads))
        for size, heads in zip(_sizes(config), kept, strict=True)
    ]
    return derived(model, f"{sum(map(len, kept))}-heads", _with_sizes(config, sizes), tensors)


def keep_neurons(model: Model, kept: Sequence[Sequence[int]]) -> Model:
    """
    Args:
        kept: of each layer, the feed-forward neurons that stay
    """
    tensors = {}
    for name in model.weights:
        tensor = model.weights[name]
        layer, part = _part(name)
        if part.startswith(("feed_forward.gate", "feed_forward.up")):
            tensor = tensor[kept[layer]]
        elif part == "feed_forward.down.weight":
            tensor = tensor[:, kept[layer]]
        tensors[name] = tensor
    sizes = [
        replace(size, feed_forward_size=len(neurons)) for size, neurons in zip(_sizes(model.config), kept, strict=True)
    ]
    return derived(model, f"{sum(map(len, kept))}-neurons", _with_sizes(model.config, sizes), tensors)


def _part(name: str) -> tuple[int, str]:
    """ "blocks.3.attention.key.weight" -> 3 and "attention.key.weight"; elsewhere -1 and "" """
    if not name.startswith("blocks."):
        return -1, ""
    _, layer, part = name.split(".", 2)
    return int(layer), part


def _sizes(config: DecoderConfig) -> list[LayerSizes]:
    layers = map(config.of_layer, range(config.layers))
    return [LayerSizes(layer.query_heads, layer.key_value_heads, layer.feed_forward_size) for layer in layers]


def _with_sizes(config: DecoderConfig, sizes: Sequence[LayerSizes]) -> DecoderConfig:
    """Where all layers are alike again, as one size for all."""
    if len(set(sizes)) > 1:
        return replace(config, layer_sizes=tuple(sizes))
    alike = sizes[0]
    return replace(
        config,
        query_heads=alike.query_heads,
        key_value_heads=alike.key_value_heads,
        feed_forward_size=alike.feed_forward_size,
        layer_sizes=None,
    )
