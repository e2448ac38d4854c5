"""Export of what this project's own graphs don't cover: optimum's exporter, onnxruntime's optimizer and quantizer."""
