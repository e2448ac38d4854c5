"""Exports a checkpoint by optimum, checks it against PyTorch, quantizes it by the first scheme that is good enough."""

import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from compression.export import list_files, require_replaceable
from compression.optimum_route.card import card
from compression.optimum_route.checkpoint import Checkpoint
from compression.optimum_route.graphs import (
    SUFFIXES,
    exchange,
    fuse,
    graph_files,
    load,
    megabytes,
    quantize,
    quiet,
    remove_parts,
    write_graphs,
)
from compression.optimum_route.readings import Figures, Reading, Readings
from compression.optimum_route.schemes import SCHEMES, with_data
from compression.optimum_route.tasks import Task, is_made_for
from gpt_tasks.backbone.artifact import FORMAT, OPTIMUM, REPORT_NAME
from gpt_tasks.backbone.json_files import write_json
from gpt_tasks.errors import UserError, first_line
from gpt_tasks.home import require_free_space, whole_folder
from gpt_tasks.memory import require_memory
from gpt_tasks.progress import Progress, Report, silent

PRECISIONS = tuple(SUFFIXES)
BUDGETS = {"fp32": 0.001, "int8": 0.01, "int4": 0.12}
"""the part of quality that a precision may lose, where none is given"""
_BITS = {"fp32": 32, "int8": 9, "int4": 6}
_WIDTHS = ("embedding_size", "hidden_size", "d_model", "n_embd", "dim")


@dataclass(frozen=True)
class OptimumRequest:
    precisions: Sequence[str]
    """of PRECISIONS"""
    texts: Sequence[str]
    """to check with"""
    budget: float | None = None
    """the part of quality that a quantized precision may lose; None: BUDGETS"""
    check: bool = True
    """off: each precision by its fastest scheme, however good it is"""

    def limit(self, precision: str) -> float:
        return BUDGETS[precision] if self.budget is None or precision == "fp32" else self.budget


@dataclass(frozen=True)
class Trial:
    """A way to quantize, and what it cost."""

    scheme: str
    description: str
    size_mb: float
    loss: float
    figures: dict[str, float] = field(default_factory=dict)
    passed: bool = True


def estimated_megabytes(checkpoint: Checkpoint, precision: str) -> float:
    whole = checkpoint.weight_bytes
    # Blocks are for matrices that are multiplied: int4 leaves the embedding's table as it is.
    table = min(whole, _table_bytes(checkpoint.config)) if precision == "int4" else 0
    return round((table + (whole - table) * _BITS[precision] / 32) / 10**6, 1)


def _table_bytes(config: Mapping) -> int:
    """Of the embedding, in fp32; 0 where the configuration doesn't tell its sizes by a known name."""
    width = next((config[name] for name in _WIDTHS if isinstance(config.get(name), int)), 0)
    return 4 * width * (config.get("vocab_size") or 0)


def export_by_optimum(checkpoint: Checkpoint, out: Path, request: OptimumRequest, report: Report = silent) -> dict:
    """Writes the folder `out`, which appears when everything is in it, and returns its report.

    Raises:
        UserError: too little memory or disk, weights or a tokenizer that can't be had, a model that optimum can't
            export, a precision none of whose schemes keeps its limit, a folder that is something else.
    """
    require_replaceable(out)
    require_memory(checkpoint.memory_bytes, f"export {checkpoint.name}")
    report(Progress("reading", detail=checkpoint.name))
    source, task = checkpoint.open(), checkpoint.task
    _require_head(checkpoint, source)
    with whole_folder(out) as folder:
        require_free_space(folder, int(3 * checkpoint.weight_bytes / 10**6) + 50, "export the model")
        report(Progress("exporting", detail="fp32"))
        write_graphs(source, task, folder, checkpoint.remote_code)
        readings = _make_readings(checkpoint, folder, request.texts)
        reference = None
        checks: dict[str, dict] = {}
        if request.check:
            report(Progress("checking", detail="fp32"))
            reference, checks["fp32"] = _check_fp32(checkpoint, source, folder, readings, request)
        _fuse(folder, task, readings, reference)
        precisions: dict[str, dict] = {}
        for precision in request.precisions:
            entry = {"file": graph_files(task, precision)[0], "files": graph_files(task, precision)}
            if precision == "fp32":
                entry |= {"description": "32-bit floating point"}
            else:
                trials = _quantize(folder, task, precision, readings, reference, request, report)
                entry |= {"description": trials[-1].description, "tried": [asdict(trial) for trial in trials]}
                if request.check:
                    checks[precision] = _entry(Figures(trials[-1].figures, trials[-1].loss), request.limit(precision))
            precisions[precision] = {**entry, "size_mb": megabytes(folder, task, precision)}
        remove_parts(folder, "fp32" in request.precisions, task)
        facts = {
            "format": FORMAT,
            "route": OPTIMUM,
            "task": task.name,
            "model": checkpoint.name,
            "source": checkpoint.source,
            "precisions": precisions,
            "checks": {name: checks[name] for name in request.precisions if name in checks},
            "versions": _versions(),
        }
        names = [name for entry in precisions.values() for name in entry["files"]]
        data_apart = any(len(with_data(folder / name)) > 1 for name in names)
        (folder / "README.md").write_text(card(facts, checkpoint.config, data_apart), "utf-8")
        facts["files"] = list_files(folder)
        write_json(folder / REPORT_NAME, facts)
    return facts


def _require_head(checkpoint: Checkpoint, source: Path) -> None:
    """
    Raises:
        UserError: the task was given by hand, and the checkpoint has no weights for its head: they would be random.
    """
    task = checkpoint.task
    if task.kind == "features" or is_made_for(checkpoint.config, task):
        return
    import transformers

    with quiet():
        _, loaded = getattr(transformers, task.transformers_class).from_pretrained(
            source, output_loading_info=True, trust_remote_code=checkpoint.remote_code
        )
    if loaded["missing_keys"]:
        named = ", ".join(checkpoint.config.get("architectures") or ()) or "no class"
        raise UserError(
            f"{checkpoint.name} has no weights for {task.name}, such as {min(loaded['missing_keys'])}: they would be "
            f"random. Its config.json names {named}; leave --task out, or train it for this task first."
        )


def _make_readings(checkpoint: Checkpoint, folder: Path, texts: Sequence[str]) -> Readings:
    from transformers import AutoConfig, AutoTokenizer

    code = {"trust_remote_code": checkpoint.remote_code}
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **code)
            config = AutoConfig.from_pretrained(folder, **code)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:  # TypeError: no vocabulary to read
        raise UserError(
            f"{checkpoint.name} has no tokenizer that transformers can load ({first_line(error)}). Put the "
            "tokenizer's files beside its weights."
        ) from error
    return Readings(checkpoint.task, tokenizer, config, texts)


def _check_fp32(
    checkpoint: Checkpoint, source: Path, folder: Path, readings: Readings, request: OptimumRequest
) -> tuple[Reading, dict]:
    """The graph in fp32 against the checkpoint in PyTorch. Returns what the graph reads, and the check's entry.

    Raises:
        UserError: the graph passes its limit.
    """
    import torch
    import transformers

    with quiet():
        model = getattr(transformers, checkpoint.task.transformers_class).from_pretrained(
            source, dtype=torch.float32, trust_remote_code=checkpoint.remote_code
        )
    try:
        expected = readings.of(model.eval())
    except ValueError as error:  # what a model of pictures says, say
        raise UserError(
            f"{checkpoint.name} can't read a text for {checkpoint.task.name}: {first_line(error)} Only models of text "
            "are exported."
        ) from error
    del model  # before the session is loaded: together they are most of what an export has in memory
    actual = readings.of(load(folder, checkpoint.task, "fp32"))
    entry = _entry(readings.compare(expected, actual), request.limit("fp32"))
    if not entry["passed"]:
        raise UserError(
            f"The graph that optimum exported is not the model, and nothing was written: {_said(entry['figures'])}, a "
            f"loss of {entry['loss']:.4f} over the limit of {entry['limit']}. Export with --no-check if you want it "
            "all the same."
        )
    return actual, entry


def _fuse(folder: Path, task: Task, readings: Readings, reference: Reading | None) -> None:
    """Takes the fused graph where it is the same model."""
    with tempfile.TemporaryDirectory(dir=folder) as fused:
        if not fuse(folder, task, Path(fused)):
            return
        exchange(folder, task, Path(fused))
        if reference is None:
            return
        if readings.compare(reference, readings.of(load(folder, task, "fp32"))).loss > BUDGETS["fp32"]:
            exchange(folder, task, Path(fused))


def _quantize(
    folder: Path,
    task: Task,
    precision: str,
    readings: Readings,
    reference: Reading | None,
    request: OptimumRequest,
    report: Report,
) -> list[Trial]:
    """Tries one scheme after the other. The last one that is returned is the one that was taken.

    Raises:
        UserError: none of them keeps the limit.
    """
    trials: list[Trial] = []
    for scheme in SCHEMES[precision]:
        report(Progress("calibrating", len(trials) + 1, len(SCHEMES[precision]), "schemes", detail=precision))
        quantize(folder, task, precision, scheme)
        size = megabytes(folder, task, precision)
        if reference is None:
            return [Trial(scheme.name, scheme.description, size, 0.0)]
        figures = readings.compare(reference, readings.of(load(folder, task, precision)))
        passed = figures.loss <= request.limit(precision)
        trials.append(Trial(scheme.name, scheme.description, size, figures.loss, figures.values, passed))
        if passed:
            return trials
    best = min(trials, key=lambda trial: trial.loss)
    raise UserError(
        f"{precision} failed its check, and nothing was written. Tried, with a limit of {request.limit(precision)}:\n"
        f"{table(trials)}\nThe best lost {best.loss:.4f} ({_said(best.figures)}). Allow more with --budget, take "
        "another precision, or export with --no-check if you want the fastest all the same."
    )


def _entry(figures: Figures, limit: float) -> dict:
    return {"figures": figures.values, "loss": figures.loss, "limit": limit, "passed": figures.loss <= limit}


def _said(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def table(trials: Sequence[Trial]) -> str:
    """For people: a line for each scheme."""
    width = max(len(trial.scheme) for trial in trials)
    return "\n".join(
        f"  {trial.scheme:{width}}  {trial.size_mb:8.1f} MB  loss {trial.loss:8.4f}  "
        f"{'kept' if trial.passed else 'too much'}  ({_said(trial.figures)})"
        for trial in trials
    )


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
