"""Explain an ONNX model that you already have.

Says what a graph is made of (operators, sizes by kind of tensor, inputs, opset), what is wrong with it (a tied
embedding that is stored twice, no KV cache, attention in single steps, per-tensor int8), and what exporting the model
again gains.

  python -m compression inspect model.onnx
  python -m compression inspect my-model --json
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from compression.inspection import Inspection, find_graphs, inspect

SUMMARY = "explain an ONNX model that you already have"
_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="FOLDER_OR_ONNX", type=Path, help="an .onnx file, or a folder with some")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object a graph")


def run(arguments: argparse.Namespace) -> None:
    found = [inspect(graph) for graph in find_graphs(arguments.path)]
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False))
        return
    print("\n\n".join(_described(one) for one in found))


def _described(found: Inspection) -> str:
    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    numbers = (f"{name} {size / 10**6:.1f} MB" for name, size in found.sizes_by_type.items() if size > 10**5)
    lines = [
        f"{found.file}: {found.size_mb} MB, {found.nodes} operators, opset {opsets}"
        + (f", by {found.producer}" if found.producer else ""),
        f"  inputs     {_signature(found.inputs)}",
        f"  outputs    {_signature(found.outputs)}",
        f"  operators  {', '.join(f'{name} {count}' for name, count in list(found.operators.items())[:_SHOWN])}",
        f"  numbers    {', '.join(numbers)}",
        "  weights",
        *(f"    {size / 10**6:9.2f} MB  {kind}" for kind, size in list(found.sizes_by_kind.items())[:_SHOWN]),
    ]
    if len(found.sizes_by_kind) > _SHOWN:
        rest = sum(list(found.sizes_by_kind.values())[_SHOWN:])
        lines.append(f"    {rest / 10**6:9.2f} MB  {len(found.sizes_by_kind) - _SHOWN} kinds more")
    if not found.findings:
        return "\n".join([*lines, "  Nothing that exporting it again would change."])
    lines.append("  What exporting it again (python -m compression export) changes:")
    lines += [f"    - {finding.problem}\n      gain: {finding.gain}" for finding in found.findings]
    return "\n".join(lines)


def _signature(values: dict[str, list[str | int]]) -> str:
    """Keys and values of all layers are one entry."""
    shown, cached = [], 0
    for name, shape in values.items():
        if "past" in name or "present" in name:
            cached += 1
        else:
            shown.append(f"{name} {shape}".replace("'", ""))
    return ", ".join(shown + ([f"{cached} of the KV cache"] if cached else []))
