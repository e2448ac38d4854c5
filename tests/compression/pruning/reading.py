"""What the tests of this folder let a model read."""

import torch

from gpt_tasks.backbone.torch_engine import load_decoder

TEXT = "the hello hell the " * 400
IDS = torch.arange(24)[None] + 5


def logits(model, ids=IDS):
    with torch.no_grad():
        return load_decoder(model.weights)(ids).logits
