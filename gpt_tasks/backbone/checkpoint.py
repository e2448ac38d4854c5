"""Writes a model as a checkpoint: the folder that transformers saves, and that `open_model` reads."""

import math
from pathlib import Path

from safetensors.numpy import save

from gpt_tasks.backbone.architectures import checkpoint_tensors
from gpt_tasks.backbone.json_files import write_json
from gpt_tasks.backbone.safetensors_reader import SINGLE_NAME
from gpt_tasks.backbone.weights import TOKENIZER_FILES, Model
from gpt_tasks.home import require_replaceable
from gpt_tasks.transformer.shapes import tensor_shape

_OTHER_FILES_MB = 10
_WRITTEN = {
    "config.json",
    SINGLE_NAME,
    *TOKENIZER_FILES,
    "README.md",
    "pruning.json",
    "log.jsonl",
    "loss.png",
    "adapter_config.json",
    "adapter_model.safetensors",
}
"""what a checkpoint's folder and its `adapter/` hold"""


def write_checkpoint(model: Model, folder: Path) -> None:
    """config.json, the weights in fp32 and the tokenizer's files, into a folder that is there.

    Where layers have sizes of their own, only this project reads it (see `architectures`).
    """
    write_json(folder / "config.json", model.hugging_face_config)
    tensors = checkpoint_tensors(model.hugging_face_config, model.weights)
    # Not save_file, which would let nobody else read it.
    (folder / SINGLE_NAME).write_bytes(save(tensors, metadata={"format": "pt"}))
    model.write_tokenizer(folder)


def checkpoint_megabytes(model: Model) -> int:
    """What `write_checkpoint` will write, in 10^6 bytes."""
    weights = sum(math.prod(tensor_shape(model.config, name)) for name in model.weights)
    return 4 * weights // 10**6 + _OTHER_FILES_MB


def require_replaceable_checkpoint(out: Path) -> None:
    """
    Raises:
        UserError: there is something else than a checkpoint that this project wrote, which would be lost.
    """
    require_replaceable(out, "a checkpoint", "config.json", _WRITTEN)
