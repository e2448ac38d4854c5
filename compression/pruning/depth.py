"""Fewer layers: which blocks a model can do without, and the model without them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from compression.calibration import walk
from compression.derived_model import derived
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.decoder import Decoder
from gpt_tasks.transformer.masks import causal_mask


def keep_layers(model: Model, layers: Sequence[int]) -> Model:
    """The model with these of its blocks only, in their order.

    Raises:
        UserError: none, a layer that isn't there, or one twice.
    """
    count = model.config.layers
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < count:
        raise UserError(f"The layers to keep, {list(layers)}, must be different ones from 0 to {count - 1}, in order.")
    renamed = {f"blocks.{old}.": f"blocks.{new}." for new, old in enumerate(layers)}
    tensors = {}
    for name in model.weights:
        block = ".".join(name.split(".")[:2]) + "." if name.startswith("blocks.") else ""
        if not block or block in renamed:
            tensors[renamed.get(block, "") + name.removeprefix(block)] = model.weights[name]
    sizes = model.config.layer_sizes
    kept = None if sizes is None else tuple(sizes[layer] for layer in layers)
    config = replace(model.config, layers=len(layers), layer_sizes=kept)
    return derived(model, f"{len(layers)}-layers", config, tensors)


@torch.no_grad()
def block_influence(decoder: Decoder, ids: Tensor) -> list[float]:
    """Of each block, 1 - cos(its input, its output), as a mean over tokens (ShortGPT, Men et al. 2024, equation 1).

    Args:
        ids: int64 [sequences, length]
    """
    influences = []
    x = _embedded(decoder, ids)
    for _, _, run in walk(decoder, ids):
        output = run.finish()
        influences.append(float(1 - functional.cosine_similarity(x.float(), output.float(), dim=-1).mean()))
        x = output
    return influences


def least_influential(influences: Sequence[float], kept: int) -> list[int]:
    """The blocks that stay when those of the smallest influence go."""
    ranked = sorted(range(len(influences)), key=lambda layer: -influences[layer])
    return sorted(ranked[:kept])


@torch.no_grad()
def greedy(decoder: Decoder, ids: Tensor, kept: int, done: Callable[[], None] = lambda: None) -> list[int]:
    """The blocks that stay when, again and again, the one goes whose loss the model minds least.

    Every choice is measured on the text, with those made before (as in Shortened LLaMA, Kim et al. 2024, which
    removes all in one go). A removal is judged by the cross-entropy of the text's own tokens.

    Args:
        ids: int64 [sequences, length]
        done: called after every removal
    """
    left = list(range(decoder.config.layers))
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    mask = causal_mask(ids.shape[1], ids.shape[1], decoder.config.attention_window)

    def run(x: Tensor, layers: Sequence[int]) -> Tensor:
        for layer in layers:
            x = decoder.blocks[layer](x, positions, mask, decoder.rotary, blockwise=True)[0]
        return x

    while len(left) > kept:
        losses = []
        x = _embedded(decoder, ids)
        for index, layer in enumerate(left):  # what comes before a block is computed once for all candidates
            losses.append(_loss(decoder, run(x, left[index + 1 :]), ids))
            x = run(x, [layer])
        left.pop(losses.index(min(losses)))
        done()
    return left


def _embedded(decoder: Decoder, ids: Tensor) -> Tensor:
    x = decoder.embedding(ids)
    if decoder.position_embedding is None:
        return x
    return x + decoder.position_embedding(torch.arange(ids.shape[1]).expand_as(ids))


def _loss(decoder: Decoder, x: Tensor, ids: Tensor) -> float:
    """Mean cross-entropy of the next tokens; x: what the last block gives out, [sequences, length, hidden]"""
    total = 0.0
    for row, tokens in zip(x, ids, strict=True):  # one sequence's logits at a time, for the sake of memory
        logits = decoder.head(decoder.final_norm(row[:-1]))
        total += functional.cross_entropy(logits.float(), tokens[1:]).item()
    return total / len(ids)
