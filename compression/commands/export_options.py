"""The options that `export` and `quantize` share, and what both say before and after the work."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from compression.block_settings import METHODS, BlockSettings
from compression.calibrated_int8 import read_calibration
from compression.choice import explain
from compression.export import Request, require_exportable, require_replaceable
from compression.planning import INT8_BUDGETS
from compression.precisions import PRECISIONS, estimated_bytes
from compression.sizes import export_memory_bytes, parameters
from compression.texts import read_text
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_writable
from gpt_tasks.transformer.config import DecoderConfig


def add_export_options(parser: argparse.ArgumentParser, precisions: Sequence[str]) -> None:
    described = "; ".join(f"{name}: {PRECISIONS[name].description}" for name in precisions)
    parser.add_argument(
        "--precision",
        action="append",
        choices=precisions,
        metavar="P",
        help=f"may be given several times; all of them if left out. {described}",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="a text like those the model is for, which int8, int8_fastest, int4 and int4_fast are fitted to "
        "(default: one that comes with the project)",
    )
    parser.add_argument(
        "--calibrated",
        metavar="FILE",
        type=Path,
        help="take the calibration of int8 and int8_fastest from this file, which 'calibrate' wrote",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help=f"how int4 and int4_fast are rounded (default: {METHODS[0]}; nearest: plain rounding, for comparison)",
    )
    parser.add_argument(
        "--symmetric", action="store_true", help="int4 and int4_fast without zero points: the usual blocks of others"
    )
    parser.add_argument(
        "--size-mb",
        type=float,
        metavar="N",
        help="the files of int4, and those of int4_fast, may take so many MB (10^6 bytes): the best quality within "
        "that (default: 5.7 bits a weight); with --mean-kl too, both limits hold",
    )
    parser.add_argument(
        "--mean-kl",
        type=float,
        metavar="X",
        help="int4 and int4_fast: the fastest model whose mean KL to fp32 on the calibration text is at most X nats",
    )
    parser.add_argument(
        "--genai-precision", choices=precisions, metavar="P", help="what onnxruntime-genai runs (default: int8)"
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare each precision with the original, and write nothing where its limit is passed",
    )
    parser.add_argument("--explain", action="store_true", help="print what was chosen for each matrix, and why")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, with sizes, and do nothing")
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="how to tell the progress on standard error (json: one object a line)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")


def make_request(arguments: argparse.Namespace, precisions: Sequence[str]) -> Request:
    """
    Raises:
        UserError: options that don't fit each other, files that can't be read.
    """
    wanted = tuple(dict.fromkeys(arguments.precision or precisions))
    if arguments.genai_precision is not None and arguments.genai_precision not in wanted:
        raise UserError(f"--genai-precision {arguments.genai_precision} is not among the precisions to export.")
    for option, value in (("--size-mb", arguments.size_mb), ("--mean-kl", arguments.mean_kl)):
        if value is not None and not 0 < value < 10**6:
            raise UserError(f"{option} must be larger than 0, and less than a million.")
        if value is not None and not any(name.startswith("int4") for name in wanted):
            raise UserError(f"{option} is for int4 and int4_fast, and neither is to be made.")
    if arguments.calibrated is not None:
        if not any(name in INT8_BUDGETS for name in wanted):
            raise UserError("--calibrated is for int8 and int8_fastest, and neither is to be made.")
        read_calibration(arguments.calibrated)
    return Request(
        wanted,
        None if arguments.calibration is None else read_text(arguments.calibration),
        arguments.calibrated,
        BlockSettings(arguments.method, arguments.symmetric, arguments.size_mb, arguments.mean_kl),
        arguments.genai_precision,
        arguments.check,
    )


def show_plan(name: str, config: DecoderConfig, out: Path, request: Request, as_json: bool) -> None:
    """What an export would do.

    Raises:
        UserError: what would be refused.
    """
    require_exportable(name, config)
    require_replaceable(out)
    require_writable(out)
    sizes = {precision: estimated_bytes(config, precision, request.settings) for precision in request.precisions}
    plan = {
        "model": name,
        "out": str(out),
        "parameters": parameters(config),
        "size_mb": {precision: round(size / 10**6, 1) for precision, size in sizes.items()},
        "calibrates": [precision for precision in request.precisions if PRECISIONS[precision].calibrates],
        "checks": request.check,
        "memory_mb": round(export_memory_bytes(config, request.calibrates, request.check) / 10**6),
    }
    if as_json:
        print(json.dumps(plan, ensure_ascii=False))
        return
    print(f"{name} ({plan['parameters'] / 10**6:.1f} million weights) would be written to {out}:")
    for precision, size in plan["size_mb"].items():
        extra = ", calibrated" if precision in plan["calibrates"] else ""
        print(f"  {precision:12} about {size:8.1f} MB{extra}")
    print(f"  on disk      about {sum(plan['size_mb'].values()):8.1f} MB")
    print(f"  memory       about {plan['memory_mb']:8.1f} MB while it is made")
    print(f"Each precision would {'' if request.check else 'not '}be checked against the original. Nothing was done.")


def show_result(artifact: Artifact, out: Path, show_choices: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps(artifact.report, ensure_ascii=False))
        return
    print(f"{artifact.report['model']} -> {out}")
    for name, entry in artifact.report["precisions"].items():
        check = artifact.report.get("checks", {}).get(name)
        quality = "" if check is None else f"  perplexity x {check['ratio']:.4f}"
        print(f"  {name:12} {entry['size_mb']:8.1f} MB{quality}  {entry['file']}")
        if show_choices and "choice" in entry:
            print("\n".join(f"    {line}" for line in explain(entry["choice"])))
    print(f"Try it: {Path(sys.executable).name} -m gpt_tasks generate --model {out} 'Once upon a time'")
