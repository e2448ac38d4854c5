"""The sizes that a student begins with. Needs no PyTorch, so that a recipe is checked and planned quickly."""

import re
from dataclasses import replace

from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig

_EVERY = re.compile(r"every-(\d+)(st|nd|rd|th)")
_WIDTH_STEP = 32  # the kernels' blocks


def every_of(how: str) -> int | None:
    """every-3rd -> 3; None: a fresh student

    Raises:
        ValueError: another word.
    """
    if how == "fresh":
        return None
    every = _EVERY.fullmatch(how)
    if not every or int(every[1]) < 2:
        raise ValueError(f"a student begins as every-2nd (3rd, ...) or fresh, not {how!r}")
    return int(every[1])


def every_nth(layers: int, n: int) -> list[int]:
    """The last of every n layers.

    Raises:
        UserError: n leaves nothing out, or nothing.
    """
    if not 2 <= n <= layers:
        raise UserError(f"Of {layers} layers a student can't have every {n}-th: take n from 2 to {layers}.")
    return sorted({layer - 1 for layer in range(layers, 0, -n)})


def fresh_sizes(
    config: DecoderConfig, layers: int, hidden_size: int | None, feed_forward_size: int | None
) -> DecoderConfig:
    """Of a fresh student of the teacher's kind; see `students.fresh_student`.

    Raises:
        UserError: sizes that don't fit each other.
    """
    hidden_size = hidden_size or config.hidden_size
    heads, left = divmod(hidden_size, config.head_size)
    if left or not heads:
        raise UserError(f"A hidden size of {hidden_size} is not a multiple of the heads' size, {config.head_size}.")
    in_proportion = round(config.feed_forward_size / config.hidden_size * hidden_size / _WIDTH_STEP) * _WIDTH_STEP
    group = config.query_heads // config.key_value_heads
    return replace(
        config,
        layers=layers,
        hidden_size=hidden_size,
        query_heads=heads,
        key_value_heads=heads // group if heads % group == 0 else heads,
        feed_forward_size=feed_forward_size or max(_WIDTH_STEP, in_proportion),
        layer_sizes=None,
    )
