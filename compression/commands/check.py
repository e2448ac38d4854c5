"""Check what an exported model's numbers cost: each precision against fp32.

Prints perplexity and its ratio to the reference, how often both find the same next token likeliest, the
mean KL divergence, and how much of 64 greedy tokens stays the same. Exits with 1 where a ratio passes
the precision's limit.

  python -m compression check my-model
  python -m compression check my-model --text my.txt --sizes
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from compression.check import check_precision, default_prompts, default_text
from compression.graph_sizes import sizes_by_kind
from compression.texts import read_text
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.errors import UserError

SUMMARY = "check what each precision of an exported model costs in quality"
REFERENCE = "fp32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="an exported model's folder")
    parser.add_argument("--precision", action="append", metavar="P", help="of the folder's; all but fp32 if left out")
    parser.add_argument("--against", metavar="DIR", type=Path, help="take the fp32 reference from this folder instead")
    parser.add_argument("--text", metavar="FILE", type=Path, help="score this text (default: one that comes with it)")
    parser.add_argument("--sizes", action="store_true", help="list the bytes of each kind of tensor too")
    parser.add_argument("--dry-run", action="store_true", help="say what would be checked, and do nothing")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object a precision")


def run(arguments: argparse.Namespace) -> None:
    artifact = Artifact(arguments.artifact)
    reference = artifact if arguments.against is None else Artifact(arguments.against)
    if REFERENCE not in reference.precisions:
        raise UserError(
            f"{reference.folder} has no fp32 to check against. Name a folder that has, with --against, "
            "or export the model again with --precision fp32 too."
        )
    precisions = arguments.precision or [
        name for name in artifact.precisions if name != REFERENCE or arguments.against is not None
    ]
    if not precisions:
        raise UserError(f"{artifact.folder} has fp32 only, and there is nothing to check it against.")
    text = default_text() if arguments.text is None else read_text(arguments.text)
    if arguments.dry_run:
        _show_plan(artifact, reference, precisions, text, arguments.json)
        return
    results = []
    for precision in precisions:
        result = check_precision(artifact, precision, reference, text)
        results.append(
            {**asdict(result), **({"sizes": sizes_by_kind(artifact.graph_path(precision))} if arguments.sizes else {})}
        )
        if not arguments.json:
            print(result.describe())
            for kind, size in results[-1].get("sizes", {}).items():
                print(f"    {size / 10**6:9.2f} MB  {kind}")
        for warning in result.warnings:
            sys.stderr.write(f"warning: {precision}: {warning}\n")
    if arguments.json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
    if not all(result["passed"] for result in results):
        sys.exit(1)


def _show_plan(artifact: Artifact, reference: Artifact, precisions: list[str], text: str, as_json: bool) -> None:
    tokens = len(artifact.load_tokenizer().encode(text))
    for name in precisions:
        artifact.graph_path(name)
    largest = max(artifact.report["precisions"][name]["size_mb"] for name in precisions)
    memory = 2 * (reference.report["precisions"][REFERENCE]["size_mb"] + largest) + 300  # mapped, and repacked
    if as_json:
        print(json.dumps({"precisions": precisions, "tokens": tokens, "memory_mb": round(memory)}))
        return
    print(f"{', '.join(precisions)} of {artifact.folder} would be checked against fp32 of {reference.folder},")
    print(f"on a text of {tokens} tokens and {len(default_prompts())} prompts, with about {memory:.0f} MB of memory.")
