"""A model that was made from another: other weights, other sizes, the same tokenizer."""

from collections.abc import Mapping

import numpy as np

from gpt_tasks.backbone.architectures import read_config, resized
from gpt_tasks.backbone.weights import HeldWeights, Model
from gpt_tasks.transformer.config import DecoderConfig


def derived(model: Model, suffix: str, config: DecoderConfig, tensors: Mapping[str, np.ndarray]) -> Model:
    """
    Args:
        suffix: what was done, for the new name
        config: the new sizes
        tensors: all weights under our names, in these sizes
    """
    hugging_face_config = resized(model.hugging_face_config, config)
    config = read_config(hugging_face_config)
    # Not what is known of the base, such as that it is the default model: this is another one.
    source = {"kind": "derived", "base": model.source.get("base", model.name)}
    return Model(
        f"{model.name}-{suffix}",
        source,
        hugging_face_config,
        config,
        HeldWeights(config, tensors),
        model.write_tokenizer,
    )
