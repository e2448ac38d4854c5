"""A decoder's layers as machine code made for this CPU (`torch.compile`)."""

import os
import shutil

from torch import nn

from gpt_tasks.errors import UserError
from gpt_tasks.transformer.block import DecoderBlock


def compile_layers(model: nn.Module, *, one_length: bool) -> None:
    """Each layer by itself: they are alike, so that the first one's code serves all.

    Args:
        one_length: all examples are equally long: code for that length, which takes 9/10 of the time

    Raises:
        UserError: there is no compiler.
    """
    compiler = os.environ.get("CXX", "g++")  # as PyTorch looks for it
    if shutil.which(compiler) is None:
        raise UserError(
            f"Compiling needs a C++ compiler, and {compiler} isn't found. Install one (Debian: g++ and python3-dev), "
            "or leave --compile out."
        )
    for module in model.modules():
        if isinstance(module, DecoderBlock):
            module.compile(dynamic=None if one_length else True)
