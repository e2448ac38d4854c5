"""Which step of a recipe can follow which."""

from collections.abc import Sequence

from compression.pruning.options import SPARSE
from compression.recipe_options import Distill, Export, Prune, Quantize, Recover, Step, Teaching


def misplaced(steps: Sequence[tuple[str, Step]]) -> str | None:
    """The first step that can't work on what the ones before it leave, why, and what to do; None where all can.

    Args:
        steps: names and options
    """
    for number, (name, step) in enumerate(steps, 1):
        reason = _reason(name, step, steps[: number - 1])
        if reason is not None:
            return f"step {number}, {name}: {reason}"
    return None


def _reason(name: str, step: Step, before: Sequence[tuple[str, Step]]) -> str | None:
    """Why a step can't come after others, and what to do; None where it can."""
    steps = [other for _, other in before]
    exported = any(isinstance(other, Export) for other in steps)
    pruned = {other.method for other in steps if isinstance(other, Prune)}
    if step.needs == "artifact" and not exported:
        return "it works on an exported model. Put export before it."
    if step.needs == "checkpoint" and exported:
        return "it works on weights that aren't exported yet. Put it before export."
    measured = [other_name for other_name, other in before if not other.gives]
    if step.gives and measured:
        return (
            f"{' and '.join(measured)} before it would then have measured another model than the recipe leaves. "
            f"Put {name} first."
        )
    if name in measured:
        return "there is one before it already, whose figures it would replace. Leave one of the two out."
    if isinstance(step, Recover):
        if not pruned and not any(isinstance(other, Distill) for other in steps):
            return "nothing was pruned before it. Put prune before it, or take distill."
        if pruned & set(SPARSE) and (step.method == "lora" or step.adapter is not None):
            return "a correction would fill the zeros of the pruning before it. Take method: full, and no adapter."
    if isinstance(step, Teaching) and "vocabulary" in pruned:
        return "the vocabulary was pruned before it, so that no teacher fits. Prune the vocabulary after it."
    if isinstance(step, Quantize):
        precisions = next(other.precision for other in reversed(steps) if isinstance(other, Export))
        if "fp32" not in precisions:
            return "it starts from fp32, which isn't there. Export fp32 first."
    return None
