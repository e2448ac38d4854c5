"""Zeros in all matrices of a model's blocks, one after the other: each sees what the pruned ones before it give out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from compression.calibration import cross_moments, second_moments, walk, watching
from compression.derived_model import derived
from compression.pruning.error_feedback import with_feedback
from compression.pruning.masks import Pattern, magnitude_mask, wanda_mask
from compression.pruning.options import SparseMethod
from compression.pruning.refit import refit
from compression.pruning.sparse_gpt import sparse_gpt
from compression.pruning.sparse_model import is_matrix_of_a_block
from gpt_tasks.backbone.joined_matrices import joined_matrices
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.block import DecoderBlock
from gpt_tasks.transformer.decoder import Decoder

_STREAM_READERS = {"attention.output": "attention_norm", "feed_forward.down": "feed_forward_norm"}
"""Matrices whose outputs are added to the residual stream, and the norm that reads it before."""


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
    refitted: bool = True,
    done: Callable[[], None] = lambda: None,
) -> Model:
    """
    The moments of SparseGPT and Wanda are `second_moments`: tokens with massive activations, of which a text has a
    few, count as a large token does, or they would be all that counts. Other than in their papers, a matrix makes up
    for what the zeros before it have changed (`with_feedback`), before it is pruned itself, and what its own zeros
    leave of it is solved for once more (`refit`).

    Args:
        ids: calibration tokens, int64 [sequences, length]; None with magnitude, which needs none
        refitted: what Wanda and SparseGPT leave is solved for once more
        done: called after every layer
    """
    decoder = load_decoder(model.weights)
    with torch.no_grad():
        if ids is None:
            for block in decoder.blocks:
                for part in chain.from_iterable(joined_matrices(model.config).values()):
                    weight = block.get_submodule(part).weight
                    weight *= magnitude_mask(weight, sparsity, pattern)
                done()
        else:

            def pruned(weight: Tensor, moments: Tensor) -> Tensor:
                if method == "sparsegpt":
                    sparse = sparse_gpt(weight, moments, sparsity, pattern)
                else:
                    sparse = weight * wanda_mask(weight, moments.diagonal().sqrt(), sparsity, pattern)
                return refit(weight, sparse, moments) if refitted else sparse

            _prune_in_order(decoder, load_decoder(model.weights), ids, pruned, done)
    parameters = dict(decoder.named_parameters())
    tensors = {name: parameters[name].detach().numpy() for name in model.weights}
    kept = f"{pattern[0]}of{pattern[1]}" if pattern else f"{round(100 * sparsity)}"
    return derived(model, f"{method}-{kept}", model.config, tensors)


def _prune_in_order(
    decoder: Decoder,
    original: Decoder,
    ids: Tensor,
    pruned: Callable[[Tensor, Tensor], Tensor],
    done: Callable[[], None],
) -> None:
    """Each matrix is pruned where it is about to be applied, so that one run of a block prunes all of it.

    Args:
        pruned: a matrix, corrected for what was done to those before it, and the moments of its inputs -> with zeros
    """
    joined = joined_matrices(decoder.config)
    for (_, block, run), (_, dense, run_dense) in zip(walk(decoder, ids), walk(original, ids), strict=True):
        wanted: dict[str, _Reading] = {}
        with _reading(dense, joined, wanted.__setitem__):
            run_dense.finish()

        def prune(name: str, found: _Reading, block: DecoderBlock = block, wanted: dict = wanted) -> None:
            original_reading = wanted.pop(name)
            moments = second_moments(found.inputs)
            for part in joined[name]:
                weight = block.get_submodule(part).weight
                lacking = cross_moments(_lacking(weight, found, original_reading), found.inputs)
                weight.copy_(pruned(with_feedback(weight, moments, lacking), moments))

        with _reading(block, joined, prune):
            run.finish()
        done()


@dataclass(frozen=True)
class _Reading:
    """What a joined matrix has before it."""

    inputs: Tensor
    """[tokens, in]"""
    stream: Tensor | None
    """the residual stream that its output is added to, [tokens, hidden]; None: it isn't"""


@contextmanager
def _reading(
    block: DecoderBlock, joined: Mapping[str, tuple[str, ...]], see: Callable[[str, _Reading], None]
) -> Iterator[None]:
    """Calls `see` with the name of each joined matrix and its reading, before the first of its parts is applied."""
    streams: dict[str, Tensor] = {}
    with ExitStack() as watched:
        for name, norm in _STREAM_READERS.items():
            watched.enter_context(watching(block.get_submodule(norm), partial(streams.__setitem__, name)))
        for name, parts in joined.items():

            def read(inputs: Tensor, name: str = name) -> None:
                see(name, _Reading(inputs, streams.pop(name, None)))

            watched.enter_context(watching(block.get_submodule(parts[0]), read))
        yield


def _lacking(weight: Tensor, found: _Reading, wanted: _Reading) -> Tensor:
    """What the original model's matrix, and the residual stream under it, have more: [tokens, out]"""
    lacking = (wanted.inputs - found.inputs) @ weight.T
    return lacking if found.stream is None else lacking + wanted.stream - found.stream


def zeros(model: Model) -> float:
    """The part of the blocks' matrices that is zero."""
    gone = total = 0
    for name in model.weights:
        if is_matrix_of_a_block(name):
            weight = model.weights[name]
            gone += int((weight == 0).sum())
            total += weight.size
    return gone / total
