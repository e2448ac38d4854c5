"""Export a model to ONNX Runtime.

Writes one folder with an ONNX graph for each precision, the tokenizer and the configuration.

GPTs of the families Llama, Mistral, Qwen2 and GPT-2 get this project's own graphs. The folder loads in this project, in
optimum (ORTModelForCausalLM), in onnxruntime-genai, in transformers.js and in plain onnxruntime.

All other models that optimum knows (BERT, RoBERTa, T5, BART, GPT-NeoX, OPT, BLOOM, Falcon ...) go through optimum's
exporter and onnxruntime's optimizer and quantizers; int8 and int4 are tried scheme by scheme, from the fastest to the
safest, until one loses no more quality than --budget allows. That folder loads in optimum, in transformers.js and in
plain onnxruntime.

  python -m compression export default my-model
  python -m compression export openai-community/gpt2 gpt2-onnx --precision int8_blocks
  python -m compression export default small --precision int4 --explain
  python -m compression export FacebookAI/roberta-base roberta-onnx --precision int8 --budget 0.02
"""

import argparse
from pathlib import Path

from compression.commands import other_models
from compression.commands.export_options import add_export_options, make_request, show_plan, show_result
from compression.commands.publishing import add_push_options, publish, require_pushable
from compression.export import export
from compression.model_or_artifact import open_model_or_artifact, read_config_of
from compression.optimum_route.checkpoint import other_checkpoint
from compression.precisions import PRECISIONS
from gpt_tasks.backbone.hub import DEFAULT_REVISION
from gpt_tasks.progress_output import make_reporter

SUMMARY = "export a model to ONNX Runtime"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="'default' (SmolLM2-135M-Instruct), a local folder with safetensors, a .gguf file, an exported folder "
        "with fp32, or a hub id",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write; an older export there is replaced")
    parser.add_argument(
        "--from-hub",
        nargs="?",
        const=DEFAULT_REVISION,
        metavar="REVISION",
        help="MODEL is a hub id, even where a folder has that name; REVISION is a branch, a tag or a commit (default: "
        f"{DEFAULT_REVISION}). The commit is recorded in report.json",
    )
    add_export_options(parser, list(PRECISIONS))
    other_models.add_options(parser)
    add_push_options(parser)


def run(arguments: argparse.Namespace) -> None:
    require_pushable(arguments)
    checkpoint = other_checkpoint(arguments.model, arguments.from_hub, arguments.task, arguments.trust_remote_code)
    if checkpoint is not None:
        other_models.run(checkpoint, arguments)
        publish(arguments)
        return
    other_models.require_unused(arguments)
    request = make_request(arguments, list(PRECISIONS))
    with make_reporter(arguments.progress) as report:
        if arguments.dry_run:
            config = read_config_of(arguments.model, report, arguments.from_hub)
            show_plan(arguments.model, config, arguments.out, request, arguments.json)
            publish(arguments)
            return
        model = open_model_or_artifact(arguments.model, report, arguments.from_hub)
        artifact = export(model, arguments.out, request, report)
    show_result(artifact, arguments.out, arguments.explain, arguments.json)
    publish(arguments)
