"""How many parts a sparsity leaves. Needs no PyTorch, so that a plan is quick."""

from gpt_tasks.errors import UserError


def kept_count(layers: int, sparsity: float) -> int:
    """How many blocks are left of `layers` when a part of them goes.

    Raises:
        UserError: nothing would go, or nothing be left.
    """
    kept = layers - round(sparsity * layers)
    if not 0 < kept < layers:
        raise UserError(
            f"A sparsity of {sparsity} removes {layers - kept} of {layers} layers. Take one that removes at least one "
            "and leaves at least one."
        )
    return kept
