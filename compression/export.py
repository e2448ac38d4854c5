"""Exports a GPT to an artifact folder: ONNX graphs, tokenizer, configuration, report, model card."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from compression.calibration_text import default_calibration_text
from compression.check import check_export
from compression.decoder_graph import build_decoder_graph
from compression.graph import Graph
from compression.model_card import model_card
from compression.precisions import PRECISIONS, Planning
from gpt_tasks.backbone.artifact import FORMAT, GRAPH_FILES, REPORT_NAME, Artifact, sha256
from gpt_tasks.backbone.json_files import write_json
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_free_space, whole_folder
from gpt_tasks.progress import Progress, Report, silent

_ROTARY_HEAD_STEP = 16  # onnxruntime's rotary kernel on the CPU wants a multiple of it


def export(
    model: Model,
    out: Path,
    precisions: Sequence[str],
    report: Report = silent,
    calibration: str | None = None,
    check: bool = False,
) -> Artifact:
    """Writes `model` in each of the precisions (names in PRECISIONS) to the folder `out`.

    The folder appears when everything is in it; an older artifact of that name is replaced then.

    Args:
        calibration: a text for the precisions that need one; None: one that comes with the project
        check: compare each precision with the original, and fail where its limit is passed

    Raises:
        UserError: a model that the graph can't express, a folder that is something else, a full disk,
            a calibration text that is too short, a check that failed.
    """
    _require_exportable(model)
    _require_replaceable(out)
    with whole_folder(out) as folder:
        require_free_space(folder, sum(estimated_megabytes(model, name) for name in precisions), "export the model")
        (folder / "onnx").mkdir()
        model.write_tokenizer(folder)
        write_json(folder / "config.json", model.hugging_face_config)
        planning = _planning(model, folder, calibration, report)
        facts = {
            "format": FORMAT,
            "model": model.name,
            "source": model.source,
            "precisions": {name: _write_precision(planning, name, folder, report) for name in precisions},
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("onnx", "onnxruntime", "numpy", "tokenizers")},
            },
        }
        (folder / "README.md").write_text(model_card(facts), "utf-8")
        facts["files"] = {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        write_json(folder / REPORT_NAME, facts)
        if check:
            facts["checks"] = _check(model, Artifact(folder), report)
            write_json(folder / REPORT_NAME, facts)
    return Artifact(out)


def _planning(model: Model, folder: Path, calibration: str | None, report: Report) -> Planning:
    steps = 0

    def calibrating() -> None:
        nonlocal steps
        steps += 1
        report(Progress("calibrating", steps, 0, "steps"))

    text = default_calibration_text() if calibration is None else calibration
    return Planning(model, Tokenizer.from_file(folder / "tokenizer.json"), text, calibrating)


def _write_precision(planning: Planning, precision: str, folder: Path, report: Report) -> dict:
    """Writes the graph and returns its entry in the report."""
    plan = PRECISIONS[precision].plan(planning)
    steps, done = planning.model.config.layers + 2, 0

    def step() -> None:
        nonlocal done
        done += 1
        report(Progress("exporting", done, steps, "layers", precision))

    path = folder / GRAPH_FILES[precision]
    with Graph(path) as graph:
        build_decoder_graph(graph, plan.weights, plan.number_format, step)
        graph.save({"precision": precision, "model": planning.model.name})
    entry = {
        "file": GRAPH_FILES[precision],
        "description": PRECISIONS[precision].description,
        "size_mb": _megabytes(path),
    }
    return entry if plan.choice is None else {**entry, "choice": asdict(plan.choice)}


def _check(model: Model, artifact: Artifact, report: Report) -> dict[str, dict]:
    """Precision -> figures.

    Raises:
        UserError: a precision that passes its limit.
    """
    checks = {}
    for precision in artifact.precisions:
        report(Progress("checking", detail=precision))
        result = check_export(artifact, precision, model)
        checks[precision] = asdict(result)
        if not result.passed:
            raise UserError(
                f"{precision} failed its check, and nothing was written: perplexity {result.perplexity:.3f} against "
                f"{result.reference_perplexity:.3f} is a ratio of {result.ratio:.4f}, over the limit of "
                f"{result.ratio_limit}. Take a precision with more bits, calibrate with a text of the model's own kind "
                "(--calibration), or export with --no-check if you want it all the same."
            )
    return checks


def estimated_megabytes(model: Model, precision: str) -> int:
    """The size of a precision's files, in 10^6 bytes, rounded up."""
    config = model.config
    attention = 2 * config.hidden_size * (config.query_size + config.key_value_size)
    feed_forward = (3 if config.feed_forward == "swiglu" else 2) * config.hidden_size * config.feed_forward_size
    tables = (1 if config.tied_embedding else 2) * config.vocabulary_size * config.hidden_size
    parameters = config.layers * (attention + feed_forward) + tables
    return int(parameters * PRECISIONS[precision].bits_per_weight / 8 / 10**6) + 10


def _megabytes(path: Path) -> float:
    """A graph's file and its data, in 10^6 bytes."""
    data = path.with_name(f"{path.name}_data")
    return round(sum(file.stat().st_size for file in (path, data) if file.is_file()) / 10**6, 1)


def _require_exportable(model: Model) -> None:
    config = model.config
    if config.positions == "rotary" and config.head_size % _ROTARY_HEAD_STEP:
        raise UserError(
            f"{model.name} has heads of size {config.head_size}; onnxruntime's rotary attention wants a "
            f"multiple of {_ROTARY_HEAD_STEP}. This model can't be exported."
        )


def _require_replaceable(out: Path) -> None:
    if out.exists() and not (out / REPORT_NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an exported model: it is left alone. Name a new folder.")
