"""Quantize an exported model: from a folder with fp32 to one with smaller and faster precisions.

What 'export' does in one go, from its own fp32 folder on, so that several ways can be tried and compared without
the original model. Each result is checked against that fp32.

  python -m compression export default original --precision fp32
  python -m compression quantize original small --precision int4
  python -m compression quantize original plain --precision int4 --method nearest --symmetric --no-check
  python -m compression quantize original larger --precision int4 --size-mb 115
"""

import argparse
from pathlib import Path

from compression.artifact_model import SOURCE_PRECISION, artifact_model
from compression.commands.export_options import add_export_options, make_request, show_plan, show_result
from compression.export import export
from compression.precisions import PRECISIONS
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.errors import UserError
from gpt_tasks.progress_output import make_reporter

SUMMARY = "quantize an exported fp32 model"
_TARGETS = [name for name in PRECISIONS if name != SOURCE_PRECISION]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="an exported model's folder, with fp32")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write; an older export there is replaced")
    add_export_options(parser, _TARGETS)


def run(arguments: argparse.Namespace) -> None:
    request = make_request(arguments, _TARGETS)
    source = Artifact(arguments.artifact)
    out = arguments.out.resolve()
    if source.folder.resolve() in (out, *out.parents):
        raise UserError("OUT is ARTIFACT, or lies in it: its fp32 would be lost. Name another folder.")
    model = artifact_model(source)
    if arguments.dry_run:
        show_plan(str(source.folder), model.config, arguments.out, request, arguments.json)
        return
    with make_reporter(arguments.progress) as report:
        artifact = export(model, arguments.out, request, report, reference=source)
    show_result(artifact, arguments.out, arguments.explain, arguments.json)
