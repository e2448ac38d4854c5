"""The backbone in PyTorch: the reference that the ONNX engine is held against, and what training starts from."""

from collections.abc import Sequence

import numpy as np
import torch

from gpt_tasks.backbone.weights import DecoderWeights
from gpt_tasks.transformer.decoder import Decoder
from gpt_tasks.transformer.kv_cache import KeyValueCache


def load_decoder(weights: DecoderWeights) -> Decoder:
    """The from-scratch Decoder with a checkpoint's weights, in evaluation mode."""
    decoder = Decoder(weights.config)
    parameters = dict(decoder.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].copy_(torch.tensor(tensor))
    return decoder.eval()


class TorchEngine:
    """The decoder behind the interface of `OrtEngine`: slower, and the formulas as they are."""

    def __init__(self, weights: DecoderWeights) -> None:
        self._decoder = load_decoder(weights)

    def new_cache(self) -> KeyValueCache:
        return KeyValueCache(self._decoder.config)

    def read(self, ids: Sequence[int], cache: KeyValueCache, all_logits: bool = False) -> np.ndarray:
        """float32 [tokens, vocabulary], or [1, vocabulary]; see `OrtEngine.read`"""
        with torch.no_grad():
            logits = self._decoder(torch.tensor([list(ids)]), cache=cache).logits[0]
        return (logits if all_logits else logits[-1:]).numpy()
