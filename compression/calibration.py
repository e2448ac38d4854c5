"""What a model does on a calibration text: the inputs of its matrices, and which bear quantization badly."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from compression.smooth_quant import OUTLIER_ROWS, channel_maxima
from gpt_tasks.backbone.joined_matrices import joined_matrices
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.block import DecoderBlock
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.decoder import Decoder
from gpt_tasks.transformer.masks import causal_mask

SEQUENCE = 512
"""tokens read together, where nothing else is asked for"""
FEWEST_TOKENS = 256
MOST_TOKENS = 16 * SEQUENCE
"""where nothing else is asked for: more would make the calibration of quantization slow, and its result no better"""
_CHARACTERS_A_TOKEN = 12  # more than there are on average: only so much of a long text is encoded


def calibration_ids(
    tokenizer: Tokenizer, text: str, config: DecoderConfig, tokens: int = MOST_TOKENS, sequence: int = SEQUENCE
) -> Tensor:
    """The text's beginning cut into sequences: int64 [sequences, length], as many as `tokens` are in whole ones, or
    fewer. A last, shorter piece is left out. A model of short context reads as many, each as long as it can read.

    Args:
        sequence: tokens read together, as far as text and model allow

    Raises:
        UserError: a text that is too short.
    """
    ids = tokenizer.encode(text[: tokens * _CHARACTERS_A_TOKEN])
    if len(ids) < FEWEST_TOKENS:
        raise UserError(f"The calibration text has {len(ids)} tokens; at least {FEWEST_TOKENS} are needed.")
    length = min(sequence, tokens, len(ids), config.context_length)
    count = min(len(ids) // length, max(1, tokens // sequence))
    return torch.tensor(ids[: count * length]).reshape(count, length)


def held_out(ids: Tensor) -> int:
    """How many of the sequences, the first ones, are for measuring only: what was fitted to a text is no judge of it.
    (0 where there is one sequence only, which has to serve for both.)"""
    return -(-len(ids) // 5) if len(ids) > 1 else 0


class Run:
    """Runs a block on what the layers before gave out."""

    def __init__(self, whole: Callable[[int | None], Tensor]) -> None:
        self._whole = whole
        self.output: Tensor | None = None

    def __call__(self, sequences: int | None = None) -> Tensor:
        """Of the first few sequences only, or of all: [sequences, length, hidden]"""
        return self._whole(sequences)

    def finish(self) -> Tensor:
        """The last run, of all: what it gives out is what the next layer reads."""
        self.output = self()
        return self.output


def walk(decoder: Decoder, ids: Tensor) -> Iterator[tuple[int, DecoderBlock, Run]]:
    """Layer by layer: its number, its block, and what runs it.

    The caller may change a block's weights: the layers after it read what the changed one gives out. Where the caller
    doesn't `finish` a block's runs, it is run once more.

    Args:
        ids: [sequences, length]
    """
    x = decoder.embedding(ids)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    if decoder.position_embedding is not None:
        x = x + decoder.position_embedding(positions)
    mask = causal_mask(ids.shape[1], ids.shape[1], decoder.config.attention_window)
    for layer, block in enumerate(decoder.blocks):

        def run(sequences: int | None, block: DecoderBlock = block, x: Tensor = x) -> Tensor:
            return block(x[:sequences], positions[:sequences], mask, decoder.rotary, blockwise=True)[0]

        runs = Run(run)
        yield layer, block, runs
        x = runs.finish() if runs.output is None else runs.output


@contextmanager
def watching(module: nn.Module, see: Callable[[Tensor], None]) -> Iterator[None]:
    """Calls `see` with the module's input, tokens in rows: [tokens, in]"""
    hook = module.register_forward_pre_hook(lambda _, arguments: see(arguments[0].flatten(0, -2)))
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def input_maxima(decoder: Decoder, ids: Tensor) -> dict[str, np.ndarray]:
    """Channel maxima of the inputs of every joined matrix: "blocks.0.attention.output" -> [in]"""
    found: dict[str, list[np.ndarray]] = {}

    def note(name: str) -> Callable[[Tensor], None]:
        return lambda x: found.setdefault(name, []).append(channel_maxima(x.numpy()))

    with ExitStack() as watched:
        for layer, block in enumerate(decoder.blocks):
            for name, parts in joined_matrices(decoder.config).items():
                watched.enter_context(watching(block.get_submodule(parts[0]), note(f"blocks.{layer}.{name}")))
        for sequence in ids:
            decoder(sequence[None])
    return {name: np.max(maxima, axis=0) for name, maxima in found.items()}


def second_moments(x: Tensor) -> Tensor:
    """XᵀX / tokens, the Hessian of a linear layer's squared error: [tokens, in] -> fp64 [in, in]

    Tokens with massive activations are scaled down to OUTLIER_ROWS times the median length: a few of them
    would be all that counts otherwise.
    """
    x = x * _token_scales(x)
    return (x.T @ x).double() / len(x)


def cross_moments(y: Tensor, x: Tensor) -> Tensor:
    """YᵀX / tokens, each token scaled down as `second_moments` of x does: [tokens, out] and [tokens, in] -> fp64
    [out, in]"""
    scales = _token_scales(x)
    return ((y * scales).T @ (x * scales)).double() / len(x)


def _token_scales(x: Tensor) -> Tensor:
    """[tokens, 1]"""
    lengths = x.norm(dim=1, keepdim=True)
    return torch.clamp(OUTLIER_ROWS * lengths.median() / lengths.clamp(min=1e-9), max=1)


def input_moments(
    block: DecoderBlock, run: Run, joined: Mapping[str, tuple[str, ...]], begin: int
) -> dict[str, Tensor]:
    """Second moments of what each joined matrix of a block reads, from token `begin` on: each [in, in]"""
    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[Tensor], None]:
        return lambda x: found.update({name: second_moments(x[begin:])})

    with ExitStack() as watched:
        for name, parts in joined.items():
            watched.enter_context(watching(block.get_submodule(parts[0]), note(name)))
        run()
    return found


@torch.no_grad()
def sensitivities(
    decoder: Decoder, ids: Tensor, quantized: Callable[[nn.Linear], nn.Module], done: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """How much each joined matrix, quantized alone, changes what its block gives out (see `relative_change`).

    Measuring block by block costs a few runs of the model in all, instead of one for each matrix.

    Args:
        quantized: a linear layer -> one that computes as the quantized matrix does
    """
    errors = {}
    for layer, block, run in walk(decoder, ids):
        output = run()
        for name, parts in joined_matrices(decoder.config).items():
            with replaced(block, {part: quantized(block.get_submodule(part)) for part in parts}):
                errors[f"blocks.{layer}.{name}"] = relative_change(output, run())
        done()
    return errors


def relative_change(output: Tensor, changed: Tensor) -> float:
    """The mean over tokens of ‖change‖² / ‖output‖², plus the same of the first token, which all others look
    at (the attention sink, Xiao et al. 2024): a mean over many tokens would not see its harm.

    Args:
        output, changed: [sequences, length, hidden]
    """
    relative = (changed - output).square().sum(-1) / output.square().sum(-1)  # [sequences, length]
    return float(relative.mean() + relative[:, 0].mean())


@contextmanager
def replaced(block: DecoderBlock, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Puts other modules in the place of those of these names, for a while."""
    originals = {name: block.get_submodule(name) for name in modules}
    for name, module in modules.items():
        block.set_submodule(name, module)
    try:
        yield
    finally:
        for name, module in originals.items():
            block.set_submodule(name, module)


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
