"""Measure how fast an exported model is, next to its peers, in one run.

Each engine runs in a process of its own, in turns, and the best of several rounds counts. The ratios
between rows mean more than the figures: machines differ, and other work disturbs.

  python -m compression bench my-model
  python -m compression bench my-model --peer transformers --peer optimum --peer llama.cpp --json
  python -m compression bench my-model --task classify --peer transformers --peer optimum
  python -m compression bench my-model --task extract --peer transformers

The first run with peers makes their files in the cache folder (minutes).
"""

import argparse
import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

from compression import benchmark, classification_benchmark, encoder_peers, extraction_benchmark
from compression.benchmark import LONG_PROMPT, NEW_TOKENS, Contestant, Row
from compression.peers import LLAMA_CPP_PRECISIONS, PEERS, checkpoint_folder, gguf_file, optimum_folder
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.threads import available_cores
from gpt_tasks.errors import UserError
from gpt_tasks.home import home
from gpt_tasks.tasks.extraction.extraction_task import SHIPPED as SHIPPED_EXTRACTIONS
from gpt_tasks.tasks.extraction.extraction_task import load_extraction
from gpt_tasks.tasks.trained_task import SHIPPED, load_task

SUMMARY = "measure an exported model's speed, memory and size next to its peers"
_LLAMA_CPP_DEFAULT = ("Q8_0", "Q4_1")
_Contestant = Contestant | classification_benchmark.Contestant | extraction_benchmark.Contestant


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path, help="an exported model's folder")
    parser.add_argument("--precision", action="append", metavar="P", help="of the folder's; all of them if left out")
    parser.add_argument(
        "--task",
        choices=["write", "classify", "extract"],
        default="write",
        help="write: decoding and prefill; classify: a sentence and many, with a task's adapter; extract: the entities "
        "of an article of 3,000 words (default: write)",
    )
    parser.add_argument(
        "--classifier",
        metavar="DIR",
        type=Path,
        default=SHIPPED / "intent",
        help="for --task classify, a trained task of this model (default: the shipped intent)",
    )
    parser.add_argument(
        "--extraction",
        metavar="DIR",
        type=Path,
        default=SHIPPED_EXTRACTIONS / "news",
        help="for --task extract, a trained extraction of this model (default: the shipped entities in news)",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        choices=PEERS,
        help="measure this engine too (may be given several times); llama.cpp: the default model only, "
        "after pip install -r requirements-bench.txt",
    )
    parser.add_argument(
        "--llama-cpp-precision",
        action="append",
        choices=LLAMA_CPP_PRECISIONS,
        metavar="P",
        help=f"of llama.cpp, {', '.join(LLAMA_CPP_PRECISIONS)} (default: {' and '.join(_LLAMA_CPP_DEFAULT)})",
    )
    parser.add_argument(
        "--model", help="where the peers take the model from, as in export (default: where the artifact came from)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each engine runs (default: 3)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores that this process may use")
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and do nothing")
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows")


def run(arguments: argparse.Namespace) -> None:
    if arguments.rounds < 1 or (arguments.threads is not None and arguments.threads < 1):
        raise UserError("--rounds and --threads must be at least 1.")
    if arguments.dry_run:
        _show_plan(arguments)
        return
    threads = arguments.threads or available_cores()
    find, compare, table = {
        "write": (_writing, benchmark.compare, _table),
        "classify": (_classifying, classification_benchmark.compare, _classification_table),
        "extract": (_extracting, extraction_benchmark.compare, _extraction_table),
    }[arguments.task]
    contestants = find(arguments, threads)

    def began(contestant: _Contestant, round_: int) -> None:
        sys.stderr.write(f"round {round_ + 1} of {arguments.rounds}: {contestant.engine} {contestant.precision}\n")

    try:
        rows = compare(contestants, arguments.rounds, began)
    except RuntimeError as error:
        raise UserError(str(error)) from error
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(table(rows))


def _show_plan(arguments: argparse.Namespace) -> None:
    checked = {"write": _check_writing, "classify": _check_classifying, "extract": _check_extracting}
    artifact, precisions = checked[arguments.task](arguments)
    peers = list(dict.fromkeys(arguments.peer))
    plan = {"precisions": precisions, "peers": peers, "rounds": arguments.rounds, "peers_files": str(home() / "bench")}
    if arguments.json:
        print(json.dumps(plan))
        return
    print(f"{', '.join(precisions)} of {artifact.folder} would be measured, {arguments.rounds} times each, in turns.")
    if peers:
        print(f"Peers: {', '.join(peers)}; their files are made in {plan['peers_files']} where they aren't there yet.")


def _check_writing(arguments: argparse.Namespace) -> tuple[Artifact, list[str]]:
    """What is measured, and in which precisions.

    Raises:
        UserError: it can't be, or not beside these peers.
    """
    artifact = Artifact(arguments.artifact)
    needed = LONG_PROMPT + NEW_TOKENS
    if artifact.config.context_length < needed:
        raise UserError(
            f"This model's context of {artifact.config.context_length} tokens is too short for the "
            f"measurement, which reads and writes up to {needed}."
        )
    if "llama.cpp" in arguments.peer and artifact.report["source"]["kind"] != "default":
        raise UserError("The peer llama.cpp is measured with the default model's file only, and this is another model.")
    precisions = arguments.precision or artifact.precisions
    for precision in precisions:
        artifact.graph_path(precision)  # raises where there is none
    return artifact, precisions


def _check_classifying(arguments: argparse.Namespace) -> tuple[Artifact, list[str]]:
    """See `_check_writing`."""
    artifact = Artifact(arguments.artifact)
    task = load_task(arguments.classifier, artifact)  # raises where it isn't this model's
    if task.adapter is None:
        raise UserError(f"{arguments.classifier} has no adapter. Name a task that was trained with --method lora.")
    for peer in arguments.peer:
        if peer not in encoder_peers.PEERS:
            raise UserError(f"The peer {peer} doesn't classify. Take {' or '.join(encoder_peers.PEERS)}.")
    if arguments.peer and importlib.util.find_spec("peft") is None:
        raise UserError("The peers need PEFT for the adapter: pip install -r requirements-bench.txt")
    return artifact, _encoding_precisions(arguments, artifact)


def _check_extracting(arguments: argparse.Namespace) -> tuple[Artifact, list[str]]:
    """See `_check_writing`."""
    artifact = Artifact(arguments.artifact)
    load_extraction(arguments.extraction, artifact)  # raises where it isn't this model's
    for peer in arguments.peer:
        if peer != "transformers":
            raise UserError(f"The peer {peer} doesn't extract. Take transformers.")
    return artifact, _encoding_precisions(arguments, artifact)


def _encoding_precisions(arguments: argparse.Namespace, artifact: Artifact) -> list[str]:
    precisions = arguments.precision or artifact.precisions
    for precision in precisions:
        artifact.encoder_path(precision)  # raises where there is none
    return precisions


def _writing(arguments: argparse.Namespace, threads: int) -> list[Contestant]:
    artifact, precisions = _check_writing(arguments)
    found = [Contestant("ours", precision, str(arguments.artifact), threads) for precision in precisions]
    peers = dict.fromkeys(arguments.peer)
    if "llama.cpp" in peers:
        for precision in arguments.llama_cpp_precision or _LLAMA_CPP_DEFAULT:
            found.append(Contestant("llama.cpp", precision, str(gguf_file(precision)), threads))
    if "transformers" in peers:
        folder = str(checkpoint_folder(_model_name(arguments, artifact)))
        found += [Contestant("transformers", precision, folder, threads) for precision in ("float32", "bfloat16")]
    if "optimum" in peers:
        found.append(Contestant("optimum", "fp32", str(optimum_folder(_model_name(arguments, artifact))), threads))
    return found


def _classifying(arguments: argparse.Namespace, threads: int) -> list[classification_benchmark.Contestant]:
    artifact, precisions = _check_classifying(arguments)
    entries: list[tuple[str, str, Path]] = [("ours", precision, arguments.artifact) for precision in precisions]
    if arguments.peer:
        model = _model_name(arguments, artifact)
        merged = encoder_peers.merged_checkpoint(model, arguments.classifier)
        if "transformers" in arguments.peer:
            entries.append(("transformers", "fp32 PEFT", checkpoint_folder(model)))
            entries.append(("transformers", "fp32 merged", merged))
        if "optimum" in arguments.peer:
            entries.append(("optimum", "int8 merged", encoder_peers.optimum_int8(merged)))
    return [
        classification_benchmark.Contestant(engine, precision, str(path), str(arguments.classifier), threads)
        for engine, precision, path in entries
    ]


def _extracting(arguments: argparse.Namespace, threads: int) -> list[extraction_benchmark.Contestant]:
    artifact, precisions = _check_extracting(arguments)
    entries: list[tuple[str, str, Path]] = [("ours", precision, arguments.artifact) for precision in precisions]
    if arguments.peer:
        entries.append(("transformers", "fp32", checkpoint_folder(_model_name(arguments, artifact))))
    return [
        extraction_benchmark.Contestant(
            engine, precision, str(path), str(arguments.artifact), str(arguments.extraction), threads
        )
        for engine, precision, path in entries
    ]


def _model_name(arguments: argparse.Namespace, artifact: Artifact) -> str:
    source = artifact.report["source"]
    name = arguments.model or source.get("repository") or ("default" if source["kind"] == "default" else None)
    if name is None:
        raise UserError("The artifact came from a local folder: name that folder in --model, for the peers to load.")
    return name


def _classification_table(rows: list[classification_benchmark.Row]) -> str:
    peers = next((list(row.ratios) for row in rows if row.ratios), [])
    heads = ["engine", "precision", "sentence ms", "sentences/s", "load s", "peak MB", "size MB"]
    heads += [head for peer in peers for head in (f"sentence x {peer}", "many x")]
    cells = []
    for row in rows:
        figures = [row.sentence_ms, row.sentences_per_second, row.load_seconds, row.peak_memory_mb, row.size_mb]
        ratios = [str(ratio) for peer in peers for ratio in (row.ratios[peer] if row.ratios else ("", ""))]
        cells.append([row.engine, row.precision, *map(str, figures), *ratios])
    return _aligned(heads, cells)


def _extraction_table(rows: list[extraction_benchmark.Row]) -> str:
    heads = ["engine", "precision", "article s", "tokens/s", "load s", "peak MB", "size MB", "x transformers"]
    return _aligned(heads, [["" if value is None else str(value) for value in asdict(row).values()] for row in rows])


def _table(rows: list[Row]) -> str:
    heads = ["engine", "precision", "decode t/s", "prefill t/s", "first token ms", "load s", "peak MB", "size MB"]
    heads += ["held against", "decode x", "prefill x"]
    cells = [["" if value is None else str(value) for value in asdict(row).values()] for row in rows]
    return _aligned(heads, cells)


def _aligned(heads: list[str], cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = []
    for line in [heads, *cells]:
        names = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        figures = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join(names + figures).rstrip())
    return "\n".join(lines)
