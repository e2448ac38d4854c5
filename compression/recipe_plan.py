"""What a recipe would do, before it does it: sizes, time and memory, all of them estimates."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compression.block_settings import BlockSettings
from compression.distillation.student_sizes import every_nth, every_of, fresh_sizes
from compression.precisions import PRECISIONS, estimated_bytes
from compression.pruning.counts import kept_count
from compression.pruning.options import CALIBRATED
from compression.recipe import Recipe
from compression.recipe_options import Bench, Check, Distill, Evaluate, Export, Prune, Recover, Step, Teaching
from compression.sizes import export_memory_bytes, parameters, zeros_memory_bytes
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig

_FLOPS = 1e11
"""a second, on two cores without bf16; with it about four times as many"""
_TEXT_TOKENS = 1_000_000
"""taken for a text whose length isn't known"""
_CALIBRATION_TOKENS = 16 * 512
_SOLVER_SECONDS = 60
"""for the zeros of a model of 135 million weights, whatever it has read"""
_FIXED_SECONDS = {"check": 60, "bench": 20, "evaluate": 60}


@dataclass(frozen=True)
class PlannedStep:
    title: str
    parameters: int
    """of the model after it"""
    size_mb: float | None
    """of the files it writes; None where it writes none"""
    minutes: float
    memory_mb: float


def plan(recipe: Recipe, config: DecoderConfig, text: str | None = None) -> Iterator[PlannedStep]:
    """
    Args:
        config: of the recipe's model
        text: what stands in for the text of teaching steps

    Raises:
        UserError: sizes that don't fit the model.
    """
    original = parameters(config)
    configs = _sizes_after_steps(recipe, config)
    for number, ((name, step), smaller) in enumerate(zip(recipe.steps, configs, strict=True), 1):
        weights = parameters(smaller)
        yield PlannedStep(
            f"{number}-{name}",
            weights,
            _size_mb(step, smaller),
            round(_seconds(step, name, original, weights, text) / 60, 1),
            round(_memory(step, smaller, original) / 10**6),
        )


def require_sizes(recipe: Recipe, config: DecoderConfig) -> None:
    """Of what a recipe prunes and distills.

    Raises:
        UserError: sizes that don't fit the model.
    """
    _sizes_after_steps(recipe, config)


def _sizes_after_steps(recipe: Recipe, config: DecoderConfig) -> list[DecoderConfig]:
    configs = []
    for number, (name, step) in enumerate(recipe.steps, 1):
        if isinstance(step, (Prune, Distill)):
            try:
                config = _smaller(config, step)
            except UserError as error:
                raise UserError(f"The recipe {recipe.name}, step {number}, {name}: {error}") from error
        configs.append(config)
    return configs


def _smaller(config: DecoderConfig, step: Prune | Distill) -> DecoderConfig:
    """What is left, on the average: which parts go is decided by measurement. How much of a vocabulary a text
    uses isn't known."""
    if isinstance(step, Distill):
        every = every_of(step.student)
        if every is None:
            return fresh_sizes(config, step.layers, step.hidden_size, step.feed_forward_size)
        return replace(config, layers=len(every_nth(config.layers, every)), layer_sizes=None)
    if step.method == "depth":
        if step.layers and step.layers[-1] >= config.layers:
            raise UserError(
                f"it keeps the layers {step.layers}, but the model has those from 0 to {config.layers - 1}."
            )
        layers = len(step.layers) if step.layers else kept_count(config.layers, step.sparsity)
        return replace(config, layers=layers, layer_sizes=None)
    if step.method == "feed-forward":
        return replace(config, feed_forward_size=max(32, round(config.feed_forward_size * (1 - step.sparsity))))
    if step.method == "attention":
        kept = max(1, round(config.key_value_heads * (1 - step.sparsity)))
        group = config.query_heads // config.key_value_heads
        return replace(config, key_value_heads=kept, query_heads=group * kept)
    if step.method == "vocabulary" and step.text is None:
        return replace(config, vocabulary_size=max(1, round(config.vocabulary_size * (1 - step.sparsity))))
    return config


def _size_mb(step: Step, config: DecoderConfig) -> float | None:
    if isinstance(step, Export):
        settings = BlockSettings(step.method, step.symmetric, step.size_mb, step.mean_kl)
        return round(sum(estimated_bytes(config, name, settings) for name in step.precision) / 10**6, 1)
    return None if step.needs == "artifact" else round(4 * parameters(config) / 10**6, 1)


def _seconds(step: Step, name: str, original: int, weights: int, text: str | None) -> float:
    if isinstance(step, Recover) and step.adapter and text is None and step.text is None:
        return 10
    if isinstance(step, Teaching):
        tokens = (step.tokens or _TEXT_TOKENS) * step.epochs
        passes = 4 if step.method == "lora" else 6  # forward and backward, in multiply-adds a weight
        return tokens * (passes * weights + 2 * original * bool(step.predictions)) / _FLOPS
    if isinstance(step, Prune):
        searched = step.method == "depth" and not step.layers and not step.by_influence
        if step.method in CALIBRATED:
            runs = 4  # of the original and of the pruned one; the moments take about as long as both
            return 10 + _SOLVER_SECONDS * original / 1.35e8 + runs * 2 * original * step.tokens / _FLOPS
        return 10 + (2 * original * _CALIBRATION_TOKENS / _FLOPS) * (30 if searched else 1)
    if isinstance(step, Export):
        calibrated = sum(PRECISIONS[precision].calibrates for precision in step.precision)
        return 10 + calibrated * 20 * 2 * weights * _CALIBRATION_TOKENS / _FLOPS
    if isinstance(step, (Check, Bench, Evaluate)):
        return _FIXED_SECONDS[name] * max(1.0, original / 1.35e8)
    return 10


def _memory(step: Step, config: DecoderConfig, original: int) -> float:
    weights = 4 * parameters(config)
    if isinstance(step, Teaching):
        logits = 4 * step.tokens_per_batch * config.vocabulary_size
        copies = 2 if step.method == "lora" else 6
        return 600e6 + copies * weights + logits + 4 * original
    if isinstance(step, Export):
        calibrates = any(PRECISIONS[precision].calibrates for precision in step.precision)
        return float(export_memory_bytes(config, calibrates, step.precision != ["fp32"]))
    if isinstance(step, Prune) and step.method in CALIBRATED:
        return float(zeros_memory_bytes(config, step.tokens))
    return 600e6 + 2 * max(weights, 4 * original)
