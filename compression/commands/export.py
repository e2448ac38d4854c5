"""Export a GPT to ONNX Runtime.

Writes one folder with an ONNX graph for each precision, the tokenizer and the configuration. It loads
in this project, in optimum (ORTModelForCausalLM), in onnxruntime-genai and in plain onnxruntime.

  python -m compression export default my-model
  python -m compression export openai-community/gpt2 gpt2-onnx --precision int8_blocks
  python -m compression export default small --precision int4 --explain
"""

import argparse
from pathlib import Path

from compression.commands.export_options import add_export_options, make_request, show_plan, show_result
from compression.export import export
from compression.model_or_artifact import open_model_or_artifact, read_config_of
from compression.precisions import PRECISIONS
from gpt_tasks.progress_output import make_reporter

SUMMARY = "export a GPT to ONNX Runtime"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="'default' (SmolLM2-135M-Instruct), a local folder with safetensors, a .gguf file, an exported folder "
        "with fp32, or a hub id; families: Llama, Mistral, Qwen2, GPT-2",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write; an older export there is replaced")
    add_export_options(parser, list(PRECISIONS))


def run(arguments: argparse.Namespace) -> None:
    request = make_request(arguments, list(PRECISIONS))
    with make_reporter(arguments.progress) as report:
        if arguments.dry_run:
            show_plan(arguments.model, read_config_of(arguments.model, report), arguments.out, request, arguments.json)
            return
        model = open_model_or_artifact(arguments.model, report)
        artifact = export(model, arguments.out, request, report)
    show_result(artifact, arguments.out, arguments.explain, arguments.json)
