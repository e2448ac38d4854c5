"""Export a GPT to ONNX Runtime.

Writes one folder with an ONNX graph for each precision, the tokenizer and the configuration. It loads
in this project, in optimum (ORTModelForCausalLM) and in plain onnxruntime.

  python -m compression export default my-model
  python -m compression export openai-community/gpt2 gpt2-onnx --precision int8_blocks
"""

import argparse
import json
import sys
from pathlib import Path

from compression.export import export
from compression.precisions import PRECISIONS
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.progress_output import make_reporter

SUMMARY = "export a GPT to ONNX Runtime"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="'default' (SmolLM2-135M-Instruct), a local folder with safetensors, a .gguf file, "
        "or a hub id; families: Llama, Mistral, Qwen2, GPT-2",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write; an older export there is replaced")
    described = "; ".join(f"{name}: {precision.description}" for name, precision in PRECISIONS.items())
    parser.add_argument(
        "--precision",
        action="append",
        choices=PRECISIONS,
        metavar="P",
        help=f"may be given several times; all of them if left out. {described}",
    )
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="how to tell the progress on standard error (json: one object a line)",
    )
    parser.add_argument("--json", action="store_true", help="print the export's report as one JSON object")


def run(arguments: argparse.Namespace) -> None:
    precisions = list(dict.fromkeys(arguments.precision or PRECISIONS))
    with make_reporter(arguments.progress) as report:
        artifact = export(open_model(arguments.model, report), arguments.out, precisions, report)
    if arguments.json:
        print(json.dumps(artifact.report, ensure_ascii=False))
        return
    print(f"{artifact.report['model']} -> {arguments.out}")
    for name, entry in artifact.report["precisions"].items():
        print(f"  {name:12} {entry['size_mb']:8.1f} MB  {entry['file']}")
    print(f"Try it: {Path(sys.executable).name} -m gpt_tasks generate --model {arguments.out} 'Once upon a time'")
