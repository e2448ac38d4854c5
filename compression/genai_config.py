"""genai_config.json: what onnxruntime-genai wants to know about an exported folder."""

from collections.abc import Mapping

from gpt_tasks.transformer.config import DecoderConfig


def genai_config(config: DecoderConfig, hugging_face_config: Mapping, end_ids: frozenset[int], file: str) -> dict:
    """
    Args:
        end_ids: the tokens that end a text
        file: the graph that genai runs, within the folder
    """
    ends = sorted(end_ids)
    begin, pad = hugging_face_config.get("bos_token_id"), hugging_face_config.get("pad_token_id")
    return {
        "model": {
            "type": "decoder",  # any decoder with one past a layer; its "gpt2" expects an older interface
            "bos_token_id": begin if begin is not None else (ends or [0])[0],
            "eos_token_id": ends,
            "pad_token_id": pad if pad is not None else (ends or [0])[0],
            "vocab_size": config.vocabulary_size,
            "context_length": config.context_length,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": file,
                "hidden_size": config.hidden_size,
                "head_size": config.head_size,
                "num_attention_heads": config.query_heads,
                "num_key_value_heads": config.key_value_heads,
                "num_hidden_layers": config.layers,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "position_ids": "position_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": config.context_length,
            "past_present_share_buffer": True,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }
