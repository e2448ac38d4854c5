"""What `export` takes and says for models that go through optimum."""

import argparse
import json
import re
from pathlib import Path

from compression.block_settings import METHODS
from compression.calibration_text import default_calibration_text
from compression.check import default_text
from compression.export import require_replaceable
from compression.optimum_route.checkpoint import Checkpoint
from compression.optimum_route.tasks import TASKS
from compression.texts import read_text
from gpt_tasks.backbone.artifact import OPTIMUM
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_writable
from gpt_tasks.progress_output import make_reporter

_TEXTS = 200
_OWN = {
    "calibration": None,
    "calibrated": None,
    "method": METHODS[0],
    "symmetric": False,
    "size_mb": None,
    "mean_kl": None,
    "genai_precision": None,
    "explain": False,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models that go through optimum")
    group.add_argument(
        "--task", choices=list(TASKS), metavar="TASK", help=f"{', '.join(TASKS)} (default: what the checkpoint is for)"
    )
    group.add_argument(
        "--budget",
        type=float,
        metavar="X",
        help="the part of quality that int8 and int4 may lose: of perplexity, of equal tokens or labels, of the cosine "
        "of features (default: 0.01 for int8, 0.12 for int4)",
    )
    group.add_argument(
        "--check-text",
        type=Path,
        metavar="FILE",
        help="texts to check with, one a line (default: sentences that come with the project)",
    )
    group.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that comes with the model, where it has some"
    )


def require_unused(arguments: argparse.Namespace) -> None:
    """
    Raises:
        UserError: an option that means nothing to this project's own graphs.
    """
    for option in ("budget", "check_text"):
        if getattr(arguments, option) is not None:
            raise UserError(
                f"--{option.replace('_', '-')} is for models that go through optimum; {arguments.model} has a graph of "
                "this project's own. Its limits are those of the precisions; --mean-kl sets that of int4."
            )


def run(checkpoint: Checkpoint, arguments: argparse.Namespace) -> None:
    """Exports, and says what was made.

    Raises:
        UserError: see `export_by_optimum`; options that are for this project's own graphs.
    """
    # Here, since these bring transformers and optimum, which take seconds that the other route needn't wait.
    from compression.optimum_route.export import PRECISIONS, OptimumRequest, export_by_optimum

    wanted = tuple(dict.fromkeys(arguments.precision or PRECISIONS))
    _require_possible(checkpoint, arguments, wanted, PRECISIONS)
    request = OptimumRequest(wanted, _texts(arguments.check_text), arguments.budget, arguments.check)
    if arguments.dry_run:
        _show_plan(checkpoint, arguments.out, request, arguments.json)
        return
    with make_reporter(arguments.progress) as report:
        facts = export_by_optimum(checkpoint, arguments.out, request, report)
    _show(facts, arguments.out, arguments.json)


def _require_possible(
    checkpoint: Checkpoint, arguments: argparse.Namespace, wanted: tuple[str, ...], known: tuple[str, ...]
) -> None:
    others = [precision for precision in wanted if precision not in known]
    if others:
        raise UserError(
            f"{checkpoint.name} ({checkpoint.config['model_type']}) goes through optimum, which makes "
            f"{', '.join(known)}, not {others[0]}."
        )
    for option, unset in _OWN.items():
        if getattr(arguments, option) != unset:
            raise UserError(
                f"--{option.replace('_', '-')} is for this project's own graphs; {checkpoint.name} goes through "
                "optimum."
            )
    if arguments.budget is not None and not 0 < arguments.budget < 1:
        raise UserError("--budget must be between 0 and 1: a part of the quality.")


def default_texts() -> list[str]:
    """Sentences of our own texts; nothing here is calibrated with them."""
    text = f"{default_text()}\n{default_calibration_text()}"
    return [one for one in re.split(r"(?<=[.!?])\s+", text) if len(one) > 20][:_TEXTS]


def _texts(path: Path | None) -> list[str]:
    if path is None:
        return default_texts()
    texts = [line for line in read_text(path).splitlines() if line.strip()]
    if not texts:
        raise UserError(f"{path} has no text in it. Put one text on each line.")
    return texts


def _show_plan(checkpoint: Checkpoint, out: Path, request, as_json: bool) -> None:
    from compression.optimum_route.export import estimated_megabytes

    require_replaceable(out)
    require_writable(out)
    plan = {
        "model": checkpoint.name,
        "route": OPTIMUM,
        "task": checkpoint.task.name,
        "out": str(out),
        "parameters": checkpoint.weight_bytes // 4,
        "size_mb": {precision: estimated_megabytes(checkpoint, precision) for precision in request.precisions},
        "memory_mb": round(checkpoint.memory_bytes / 10**6),
        "checks": request.check,
        "texts": len(request.texts),
    }
    if as_json:
        print(json.dumps(plan, ensure_ascii=False))
        return
    print(
        f"{checkpoint.name} ({checkpoint.config['model_type']}, {plan['parameters'] / 10**6:.1f} million weights) "
        f"would be exported by optimum for {checkpoint.task.name}, and written to {out}:"
    )
    for precision, size in plan["size_mb"].items():
        limit = f", may lose {request.limit(precision)} of its quality" if request.check else ""
        print(f"  {precision:12} about {size:8.1f} MB{limit}")
    print(f"  memory       about {plan['memory_mb']:8.1f} MB while it is made")
    print("Nothing was done.")


def _show(facts: dict, out: Path, as_json: bool) -> None:
    from compression.optimum_route.export import Trial, table

    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    print(f"{facts['model']} -> {out}, by optimum's exporter, for {facts['task']}")
    for name, entry in facts["precisions"].items():
        check = facts["checks"].get(name)
        figures = "" if check is None else ", ".join(f"{key} {value:.4f}" for key, value in check["figures"].items())
        print(f"  {name:12} {entry['size_mb']:8.1f} MB  {', '.join(entry['files'])}  {figures}")
        if len(entry.get("tried", ())) > 1:
            print("\n".join(f"  {line}" for line in table([Trial(**trial) for trial in entry["tried"]]).split("\n")))
    print(f"How to run it: {out / 'README.md'}")
