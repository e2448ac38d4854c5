"""The backbone in PyTorch: the reference that the ONNX engine is held against, and what training starts from."""

import torch

from gpt_tasks.backbone.weights import DecoderWeights
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.decoder import Decoder


def load_decoder(weights: DecoderWeights) -> Decoder:
    """The from-scratch Decoder with a checkpoint's weights, in evaluation mode.

    Raises:
        UserError: a tensor whose shape isn't what the configuration says.
    """
    decoder = Decoder(weights.config)
    parameters = dict(decoder.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            if parameters[name].shape != tensor.shape:
                raise UserError(
                    f"{name} has the shape {tensor.shape}; its config.json says {tuple(parameters[name].shape)}."
                )
            parameters[name].copy_(torch.tensor(tensor))
    return decoder.eval()
