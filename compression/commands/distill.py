"""Distill a teacher into a smaller student, on text.

The student is a model's folder (a pruned one, say), or begins as layers of the teacher, or from nothing. It matches
the teacher's predictions, which are computed once and kept in the cache folder; its hidden states and attention too,
where these are given a weight.

  python -m compression distill default half --text texts/ --student every-2nd --tokens 1000000
  python -m compression distill default recovered --text texts/ --student pruned --method lora
  python -m compression distill default small --text texts/ --student fresh --layers 6 --hidden-size 384 --hidden 1
"""

import argparse
import json
import sys
from pathlib import Path

from compression.model_or_artifact import open_model_or_artifact
from compression.texts import read_texts
from gpt_tasks.backbone.checkpoint import require_replaceable_checkpoint
from gpt_tasks.backbone.weights import Model
from gpt_tasks.commands.training_options import add_training_options
from gpt_tasks.errors import UserError
from gpt_tasks.progress_output import make_reporter

SUMMARY = "teach a smaller student what a model knows"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("teacher", metavar="TEACHER", help="as MODEL in 'export'")
    parser.add_argument("out", metavar="OUT", type=Path, help="the student's folder; a checkpoint there is replaced")
    parser.add_argument("--text", required=True, type=Path, metavar="PATH", help="a text file, or a folder of .txt")
    parser.add_argument(
        "--student",
        default="every-2nd",
        metavar="S",
        help="a model's folder; every-2nd (3rd, ...): that layer of the teacher; fresh: random (default: every-2nd)",
    )
    parser.add_argument("--layers", type=int, help="of a fresh student")
    parser.add_argument("--hidden-size", type=int, help="of a fresh student (default: the teacher's)")
    parser.add_argument("--feed-forward-size", type=int, help="of a fresh student (default: in proportion)")
    parser.add_argument("--method", choices=["full", "lora"], default="full", help="default: full")
    parser.add_argument("--rank", type=int, default=32, help="of LoRA (default: 32)")
    parser.add_argument(
        "--start",
        metavar="CORRECTION",
        help="LoRA goes on from this correction: one that comes along (half-depth, pruned-30), or the adapter/ of an "
        "earlier run; with another --seed it sees other windows of the text",
    )
    parser.add_argument("--tokens", type=int, metavar="N", help="of the text to train on, at most (default: all)")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens read together (default: 512)")
    weights = parser.add_argument_group("what is matched, and how much it counts")
    weights.add_argument("--predictions", type=float, default=0.9, help="KL to the teacher's (default: 0.9)")
    weights.add_argument("--own-text", type=float, default=0.1, help="the tokens that really follow (default: 0.1)")
    weights.add_argument("--hidden", type=float, default=0.0, help="hidden states, as DistilBERT (default: 0)")
    weights.add_argument("--attention", type=float, default=0.0, help="attention, as MiniLM (default: 0)")
    weights.add_argument("--temperature", type=float, default=1.0)
    weights.add_argument("--top-k", type=int, default=32, help="of the teacher's tokens that are kept (default: 32)")
    weights.add_argument("--reverse", action="store_true", help="the KL divergence the other way round")
    parser.add_argument(
        "--generated",
        type=int,
        metavar="N",
        help="train on so many tokens that the teacher writes, each text begun with the first words of a line of the "
        "text (sequence-level distillation), instead of the text itself; they are kept in the cache folder",
    )
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, help="default: 3e-4; with LoRA 2e-3")
    parser.add_argument("--tokens-per-batch", type=int, default=2048)
    parser.add_argument("--evaluations", type=float, default=8, help="in an epoch (default: %(default)s)")
    add_training_options(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def run(arguments: argparse.Namespace) -> None:
    # Here, so that the other commands start without PyTorch.
    from compression.distillation.distil import Distillation, distil, require_teachable, teaching_options
    from compression.distillation.objective import Matching

    for name in ("rank", "tokens", "window", "generated", "layers", "hidden_size", "feed_forward_size"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    try:
        matching = Matching(
            predictions=arguments.predictions,
            text=arguments.own_text,
            hidden=arguments.hidden,
            attention=arguments.attention,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            reverse=arguments.reverse,
        )
        options = teaching_options(
            arguments.method,
            arguments.epochs,
            arguments.learning_rate,
            arguments.tokens_per_batch,
            arguments.seed,
            arguments.evaluations,
            arguments.accumulation,
            arguments.compile,
        )
    except ValueError as error:
        raise UserError(f"{error}.") from error
    require_replaceable_checkpoint(arguments.out)
    distillation = Distillation(
        arguments.method,
        arguments.rank,
        arguments.window,
        arguments.tokens,
        matching,
        arguments.start,
        written=arguments.generated is not None,
    )
    with make_reporter(arguments.progress) as report:
        texts = read_texts(arguments.text)
        teacher = open_model_or_artifact(arguments.teacher, report)
        student = _student(arguments, teacher)
        if arguments.generated is not None:
            require_teachable(teacher, student, distillation)  # before the teacher writes for hours
            from compression.distillation.sequence_level import written_by

            texts = written_by(teacher, texts, arguments.generated, arguments.window, arguments.seed, report)
        figures = distil(
            teacher, student, texts, arguments.out, distillation, options, resume=arguments.resume, report=report
        )
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write(f"{arguments.out}: perplexity {figures['perplexity']:.2f} on held-out windows of the text\n")


def _student(arguments: argparse.Namespace, teacher: Model) -> Model:
    from compression.distillation.students import begin_student

    sizes = arguments.layers, arguments.hidden_size, arguments.feed_forward_size
    if arguments.student != "fresh" and any(sizes):
        raise UserError(
            f"--layers, --hidden-size and --feed-forward-size are of a fresh student, not of {arguments.student}. "
            "Leave them out, or give --student fresh."
        )
    if Path(arguments.student).expanduser().is_dir():
        return open_model_or_artifact(arguments.student)
    return begin_student(teacher, arguments.student, *sizes, arguments.seed)
