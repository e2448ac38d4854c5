"""Zeros in all matrices of a model's blocks, layer by layer: a layer sees what the pruned ones before it give out."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from compression.calibration import input_moments, walk
from compression.derived_model import derived
from compression.pruning.masks import Pattern, magnitude_mask, wanda_mask
from compression.pruning.options import SparseMethod
from compression.pruning.sparse_gpt import sparse_gpt
from compression.pruning.sparse_model import is_matrix_of_a_block
from gpt_tasks.backbone.joined_matrices import joined_matrices
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.decoder import Decoder


def require_pattern_fits(model: Model, pattern: Pattern) -> None:
    """
    Raises:
        UserError: a pattern that takes nothing or everything, or rows that don't divide into its groups.
    """
    gone, size = pattern
    if not 0 < gone < size:
        raise UserError(f"The pattern {gone}:{size} must remove at least one weight of a group, and leave one.")
    for layer in range(model.config.layers):
        sizes = model.config.of_layer(layer)
        for columns in (sizes.hidden_size, sizes.query_size, sizes.feed_forward_size):
            if columns % size:
                raise UserError(f"Rows of {columns} weights don't divide into groups of {size}. Take another pattern.")


def prune_unstructured(
    model: Model,
    ids: Tensor | None,
    method: SparseMethod,
    sparsity: float,
    pattern: Pattern | None = None,
    done: Callable[[], None] = lambda: None,
) -> Model:
    """
    The moments of SparseGPT and Wanda are `second_moments`: tokens with massive activations, of which a text has a
    few, count as a large token does, or they would be all that counts.

    Args:
        ids: calibration tokens, int64 [sequences, length]; None with magnitude, which needs none
        done: called after every layer
    """
    decoder = load_decoder(model.weights)
    with torch.no_grad():
        for block, moments in _blocks(decoder, ids):
            for name, parts in joined_matrices(block.attention.config).items():
                for part in parts:
                    linear = block.get_submodule(part)
                    linear.weight.copy_(_sparse(linear.weight, moments.get(name), method, sparsity, pattern))
            done()
    parameters = dict(decoder.named_parameters())
    tensors = {name: parameters[name].detach().numpy() for name in model.weights}
    kept = f"{pattern[0]}of{pattern[1]}" if pattern else f"{round(100 * sparsity)}"
    return derived(model, f"{method}-{kept}", model.config, tensors)


def _blocks(decoder: Decoder, ids: Tensor | None) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
    """Each with the moments of its matrices' inputs, where there are tokens to measure them on."""
    if ids is None:
        yield from ((block, {}) for block in decoder.blocks)
        return
    joined = joined_matrices(decoder.config)
    for _, block, run in walk(decoder, ids):
        yield block, input_moments(block, run, joined)


def _sparse(
    weight: Tensor, moments: Tensor | None, method: SparseMethod, sparsity: float, pattern: Pattern | None
) -> Tensor:
    if method == "sparsegpt":
        return sparse_gpt(weight, moments, sparsity, pattern)
    if method == "wanda":
        return weight * wanda_mask(weight, moments.diagonal().sqrt(), sparsity, pattern)
    return weight * magnitude_mask(weight, sparsity, pattern)


def zeros(model: Model) -> float:
    """The part of the blocks' matrices that is zero."""
    gone = total = 0
    for name in model.weights:
        if is_matrix_of_a_block(name):
            weight = model.weights[name]
            gone += int((weight == 0).sum())
            total += weight.size
    return gone / total
