"""How a student begins: as layers of its teacher, or from nothing. (Or pruned: see `compression.pruning`.)"""

import numpy as np

from compression.derived_model import derived
from compression.distillation.student_sizes import every_nth, every_of, fresh_sizes
from compression.pruning.depth import keep_layers
from gpt_tasks.backbone.architectures import family_of
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.shapes import tensor_shape

_DEVIATION = 0.02  # as GPT-2 begins


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
    try:
        every = every_of(how)
    except ValueError as error:
        raise UserError(f"{error}.") from error
    if every is not None:
        return every_nth_layer(teacher, every)
    if layers is None:
        raise UserError("A fresh student needs a number of layers.")
    return fresh_student(teacher, layers, hidden_size, feed_forward_size, seed)


def every_nth_layer(teacher: Model, n: int) -> Model:
    """The last of every n layers (as DistilBERT begins, with n = 2), so that the student ends where its teacher does.

    Raises:
        UserError: n leaves nothing out, or nothing.
    """
    return keep_layers(teacher, every_nth(teacher.config.layers, n))


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
    own_sizes = fresh_sizes(teacher.config, layers, hidden_size, feed_forward_size)
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
    return derived(teacher, f"fresh-{layers}x{own_sizes.hidden_size}", own_sizes, tensors)
