"""Makes a small GPT small and fast on a CPU, and says what that cost: export to ONNX, benchmark."""
