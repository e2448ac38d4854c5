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

from compression.commands.check import read_text
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
        "--calibration",
        metavar="FILE",
        type=Path,
        help="a text like those the model is for, which int8 and int8_fastest are fitted to (default: one that comes "
        "with the project)",
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare each precision with the original, and write nothing where its limit is passed",
    )
    parser.add_argument("--explain", action="store_true", help="print which matrices int8 keeps in blocks, and why")
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="how to tell the progress on standard error (json: one object a line)",
    )
    parser.add_argument("--json", action="store_true", help="print the export's report as one JSON object")


def run(arguments: argparse.Namespace) -> None:
    precisions = list(dict.fromkeys(arguments.precision or PRECISIONS))
    calibration = None if arguments.calibration is None else read_text(arguments.calibration)
    with make_reporter(arguments.progress) as report:
        model = open_model(arguments.model, report)
        artifact = export(model, arguments.out, precisions, report, calibration, arguments.check)
    if arguments.json:
        print(json.dumps(artifact.report, ensure_ascii=False))
        return
    print(f"{artifact.report['model']} -> {arguments.out}")
    for name, entry in artifact.report["precisions"].items():
        check = artifact.report.get("checks", {}).get(name)
        quality = "" if check is None else f"  perplexity x {check['ratio']:.4f}"
        print(f"  {name:12} {entry['size_mb']:8.1f} MB{quality}  {entry['file']}")
        if arguments.explain and "choice" in entry:
            _explain(entry["choice"])
    print(f"Try it: {Path(sys.executable).name} -m gpt_tasks generate --model {arguments.out} 'Once upon a time'")


def _explain(choice: dict) -> None:
    print(
        f"    mean KL to fp32 on the calibration text: {choice['mean_kl']:.5f}; with everything in blocks "
        f"{choice['mean_kl_all_in_blocks']:.5f}; allowed {choice['budget']} times that"
    )
    print(f"    {len(choice['in_blocks'])} of {len(choice['sensitivities'])} matrices in blocks (sensitivity: relative")
    print("    change of the block's output when this matrix alone is quantized with a scale a token):")
    for name, error in choice["sensitivities"].items():
        print(f"      {error:9.6f}  {'blocks   ' if name in choice['in_blocks'] else 'per token'}  {name}")
