"""The shared GPT: its weights, its tokenizer, its folder on disk and the engines that run it.

Serving imports `ort_engine`, `generate` and what they need: numpy, onnxruntime and tokenizers, no torch.
"""
