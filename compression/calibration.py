"""What a model does on a calibration text: the inputs of its matrices, and which bear 8-bit activations badly."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from compression.smooth_quant import channel_maxima
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.block import DecoderBlock
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.decoder import Decoder
from gpt_tasks.transformer.masks import causal_mask

SEQUENCE = 512
"""tokens read together"""
FEWEST_TOKENS = 256
MOST_SEQUENCES = 16
"""more would make calibration slow, and its result no better"""
_CHARACTERS_A_TOKEN = 12  # more than there are on average: only so much of a long text is encoded


def calibration_ids(tokenizer: Tokenizer, text: str, config: DecoderConfig) -> Tensor:
    """The text's beginning cut into sequences: int64 [at most MOST_SEQUENCES, length]. A last, shorter
    piece is left out.

    Raises:
        UserError: a text that is too short.
    """
    ids = tokenizer.encode(text[: MOST_SEQUENCES * SEQUENCE * _CHARACTERS_A_TOKEN])
    if len(ids) < FEWEST_TOKENS:
        raise UserError(f"The calibration text has {len(ids)} tokens; at least {FEWEST_TOKENS} are needed.")
    length = min(SEQUENCE, len(ids), config.context_length)
    count = min(len(ids) // length, MOST_SEQUENCES)
    return torch.tensor(ids[: count * length]).reshape(count, length)


def joined_matrices(config: DecoderConfig) -> dict[str, tuple[str, ...]]:
    """The matrices of a block as the graph joins them: name -> the linear layers that share an input."""
    feed_forward = (
        {"feed_forward.gate_up": ("feed_forward.gate", "feed_forward.up")}
        if config.feed_forward == "swiglu"
        else {"feed_forward.up": ("feed_forward.up",)}
    )
    return {
        "attention.query_key_value": ("attention.query", "attention.key", "attention.value"),
        "attention.output": ("attention.output",),
        **feed_forward,
        "feed_forward.down": ("feed_forward.down",),
    }


def input_maxima(decoder: Decoder, ids: Tensor) -> dict[str, np.ndarray]:
    """Channel maxima of the inputs of every joined matrix: "blocks.0.attention.output" -> [in]"""
    found: dict[str, list[np.ndarray]] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            found.setdefault(name, []).append(channel_maxima(arguments[0].flatten(0, -2).numpy()))

        return module.register_forward_pre_hook(note)

    hooks = [
        watch(f"blocks.{layer}.{name}", block.get_submodule(parts[0]))
        for layer, block in enumerate(decoder.blocks)
        for name, parts in joined_matrices(decoder.config).items()
    ]
    with torch.no_grad():
        for sequence in ids:
            decoder(sequence[None])
    for hook in hooks:
        hook.remove()
    return {name: np.max(maxima, axis=0) for name, maxima in found.items()}


def sensitivities(
    decoder: Decoder, ids: Tensor, quantized: Callable[[nn.Linear], nn.Module], done: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """How much each joined matrix, quantized alone, changes what its block gives out.

    The mean over tokens of ‖change‖² / ‖output‖², plus the same of the first token, which all others
    look at (the attention sink, Xiao et al. 2024): a mean over many tokens would not see its harm.
    Measuring block by block costs a few runs of the model in all, instead of one for each matrix.

    Args:
        quantized: a linear layer -> one that computes as the quantized matrix does
    """
    errors = {}
    with torch.no_grad():
        x = decoder.embedding(ids)  # [sequences, length, hidden]
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        if decoder.position_embedding is not None:
            x = x + decoder.position_embedding(positions)
        mask = causal_mask(ids.shape[1], ids.shape[1], decoder.config.attention_window)
        for layer, block in enumerate(decoder.blocks):
            output, _ = block(x, positions, mask, decoder.rotary)
            for name, parts in joined_matrices(decoder.config).items():
                with _replaced(block, parts, quantized):
                    changed, _ = block(x, positions, mask, decoder.rotary)
                relative = (changed - output).square().sum(-1) / output.square().sum(-1)  # [sequences, length]
                errors[f"blocks.{layer}.{name}"] = float(relative.mean() + relative[:, 0].mean())
            x = output
            done()
    return errors


@contextmanager
def _replaced(block: DecoderBlock, parts: tuple[str, ...], make: Callable[[nn.Linear], nn.Module]) -> Iterator[None]:
    originals: Mapping[str, nn.Linear] = {part: block.get_submodule(part) for part in parts}
    for part, module in originals.items():
        block.set_submodule(part, make(module))
    try:
        yield
    finally:
        for part, module in originals.items():
            block.set_submodule(part, module)


class PerTokenLinear(nn.Module):
    """Computes as the graph's `PerTokenInteger` does, in floating point."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        step = linear.weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) / 127  # [out, 1]
        self.weight = torch.round(linear.weight / step) * step
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] -> [..., out]"""
        step = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-9) / 127  # [..., 1]
        return nn.functional.linear(torch.round(x / step) * step, self.weight, self.bias)
