"""Prune a model: sparse weights, or fewer layers, heads, neurons or tokens.

magnitude, wanda and sparsegpt set weights to zero: on a CPU's dense kernels that saves no time, and no memory unless
the files are packed. depth, attention, feed-forward and vocabulary take whole parts out, which does. OUT is a
checkpoint for 'distill' (to recover what was lost) and 'export'.

  python -m compression prune default pruned --method depth --sparsity 0.3
  python -m compression prune default narrow --method feed-forward --sparsity 0.25
  python -m compression prune default sparse --method sparsegpt --pattern 2:4
  python -m compression prune default fewer-tokens --method vocabulary --text corpus/
"""

import argparse
import json
import re
import sys
from pathlib import Path

from compression.model_or_artifact import open_model_or_artifact
from compression.pruning.options import METHODS, require_options_fit
from compression.sizes import parameters
from compression.texts import read_texts
from gpt_tasks.backbone.checkpoint import require_replaceable_checkpoint
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_writable
from gpt_tasks.progress_output import make_reporter

SUMMARY = "take weights, layers, heads, neurons or tokens out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="as in 'export'")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write; a checkpoint there is replaced")
    parser.add_argument("--method", required=True, choices=METHODS)
    parser.add_argument(
        "--sparsity", type=float, metavar="S", help="the part that goes, between 0 and 1 (default: 0.5)"
    )
    parser.add_argument("--pattern", metavar="N:M", help="of sparse methods: N of every M weights go, such as 2:4")
    parser.add_argument(
        "--text",
        type=Path,
        metavar="PATH",
        help="a text file, or a folder of .txt, to decide by (default: a text of the project's own; magnitude needs "
        "none); of vocabulary, the corpus whose tokens stay (default: the rarest tokens go, by the sparsity)",
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=8192,
        metavar="N",
        help="of the text, at most, to decide by (default: 8192); of depth without --by-influence the first 1,024 of "
        "them, since the search runs the model again and again",
    )
    parser.add_argument(
        "--by-influence",
        action="store_true",
        help="depth: by the blocks' influence (ShortGPT), in one pass over all the tokens, without a search",
    )
    parser.add_argument("--keep-layers", metavar="N,N,...", help="depth: keep these, without a search")
    parser.add_argument(
        "--uniform",
        action="store_true",
        help="attention, feed-forward: every layer loses the same, so that other loaders know the model",
    )
    parser.add_argument(
        "--no-refit",
        action="store_true",
        help="wanda, sparsegpt: don't solve once more for what the zeros leave of a matrix",
    )
    parser.add_argument("--progress", choices=["bar", "json", "none"], default="bar")
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON object")


def run(arguments: argparse.Namespace) -> None:
    # Here, so that the other commands start without PyTorch.
    from compression.pruning.prune import Pruning, prune, write_pruned

    try:
        pruning = Pruning(
            arguments.method,
            0.5 if arguments.sparsity is None else arguments.sparsity,
            _pattern(arguments.pattern),
            arguments.by_influence,
            _layers(arguments.keep_layers),
            arguments.uniform,
            not arguments.no_refit,
            arguments.tokens,
        )
        require_options_fit(pruning.method, text=arguments.text is not None)
    except ValueError as error:
        raise UserError(f"{error}.") from error
    require_replaceable_checkpoint(arguments.out)
    require_writable(arguments.out)
    text = None if arguments.text is None else "\n".join(read_texts(arguments.text))
    with make_reporter(arguments.progress) as report:
        model = open_model_or_artifact(arguments.model, report)
        pruned, facts = prune(model, pruning, text, report)
        write_pruned(pruned, facts, arguments.out)
    if arguments.json:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    before, after = (parameters(config) / 10**6 for config in (model.config, pruned.config))
    sys.stdout.write(f"{arguments.out}: {after:.1f} million weights of {before:.1f}\n")
    if facts.get("removed") is not None:
        parts = "key/value heads" if pruning.method == "attention" else "neurons"
        taken, asked = 100 * facts["removed"], 100 * pruning.sparsity
        sys.stdout.write(f"{taken:.1f} % of the {parts} were taken out (asked for: {asked:.1f} %).\n")
    if facts.get("zeros") is not None:
        sys.stdout.write(f"{100 * facts['zeros']:.1f} % of the layers' weights are zero, which saves no time here.\n")


def _pattern(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found:
        raise UserError(f"--pattern must look like 2:4, got {text!r}.")
    return int(found[1]), int(found[2])


def _layers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise UserError(f"--keep-layers must be numbers with commas between them, got {text!r}.")
    return tuple(map(int, text.split(",")))
