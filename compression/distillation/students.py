"""How a student begins: as layers of its teacher, or from nothing. (Or pruned: see `compression.pruning`.)"""

import re
from dataclasses import replace

import numpy as np

from compression.derived_model import derived
from compression.pruning.depth import keep_layers
from gpt_tasks.backbone.architectures import family_of
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.shapes import tensor_shape

_DEVIATION = 0.02  # as GPT-2 begins
_EVERY = re.compile(r"every-(\d+)(st|nd|rd|th)")
_WIDTH_STEP = 32  # the kernels' blocks


def begin_student(
    teacher: Model, how: str, layers: int | None, hidden_size: int | None, feed_forward_size: int | None, seed: int = 0
) -> Model:
    """
    Args:
        how: every-2nd, every-3rd ..., or fresh
        layers, hidden_size, feed_forward_size: of a fresh one; see `fresh_student`

    Raises:
        UserError: another word, or a fresh student without a number of layers.
    """
    every = _EVERY.fullmatch(how)
    if every:
        return every_nth_layer(teacher, int(every[1]))
    if how != "fresh":
        raise UserError(f"A student begins as every-2nd (3rd, ...) or fresh, not {how!r}.")
    if layers is None:
        raise UserError("A fresh student needs a number of layers.")
    return fresh_student(teacher, layers, hidden_size, feed_forward_size, seed)


def every_nth_layer(teacher: Model, n: int) -> Model:
    """The last of every n layers (as DistilBERT begins, with n = 2), so that the student ends where its teacher does.

    Raises:
        UserError: n leaves nothing out, or nothing.
    """
    layers = teacher.config.layers
    if not 2 <= n <= layers:
        raise UserError(f"Every layer but each {n}. can't be left out of {layers}: take n from 2 to {layers}.")
    return keep_layers(teacher, sorted({layer - 1 for layer in range(layers, 0, -n)}))


def fresh_student(
    teacher: Model, layers: int, hidden_size: int | None, feed_forward_size: int | None, seed: int = 0
) -> Model:
    """A random model of the teacher's kind and vocabulary, of other sizes.

    Args:
        hidden_size: None: the teacher's; heads keep their size, so it must be a multiple of it
        feed_forward_size: None: in the teacher's proportion to the hidden size

    Raises:
        UserError: sizes that don't fit each other.
    """
    config = teacher.config
    hidden_size = hidden_size or config.hidden_size
    heads, left = divmod(hidden_size, config.head_size)
    if left or not heads:
        raise UserError(f"--hidden-size {hidden_size} is not a multiple of the heads' size, {config.head_size}.")
    in_proportion = round(config.feed_forward_size / config.hidden_size * hidden_size / _WIDTH_STEP) * _WIDTH_STEP
    group = config.query_heads // config.key_value_heads
    own_sizes = replace(
        config,
        layers=layers,
        hidden_size=hidden_size,
        query_heads=heads,
        key_value_heads=heads // group if heads % group == 0 else heads,
        feed_forward_size=feed_forward_size or max(_WIDTH_STEP, in_proportion),
        layer_sizes=None,
    )
    random = np.random.default_rng(seed)
    tensors = {}
    for name in family_of(teacher.hugging_face_config).sources(own_sizes):
        shape, kind = tensor_shape(own_sizes, name), name.rpartition(".")[2]
        if kind == "bias":
            tensors[name] = np.zeros(shape, np.float32)
        elif "norm" in name:
            tensors[name] = np.ones(shape, np.float32)
        else:
            tensors[name] = random.normal(0, _DEVIATION, shape).astype(np.float32)
    return derived(teacher, f"fresh-{layers}x{hidden_size}", own_sizes, tensors)
