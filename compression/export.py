"""Exports a GPT to an artifact folder: ONNX graphs, tokenizer, configuration, report, model card."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from safetensors.numpy import save

from compression.block_settings import BlockSettings
from compression.calibration_text import default_calibration_text
from compression.check import check_export
from compression.decoder_graph import build_decoder_graph
from compression.encoder_graph import build_encoder_graph
from compression.genai_config import genai_config
from compression.graph import Graph
from compression.model_card import model_card
from compression.planning import DEFAULT_SETTINGS, Planning, plan_of
from compression.precisions import PRECISIONS, estimated_bytes
from compression.sizes import export_memory_bytes
from gpt_tasks.backbone.architectures import is_uniform
from gpt_tasks.backbone.artifact import (
    FORMAT,
    GRAPH_FILES,
    REPORT_NAME,
    Artifact,
    encoder_file,
    end_ids,
    preferred_precision,
    read_report,
    scales_file,
    sha256,
)
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model, fingerprint
from gpt_tasks.errors import UserError
from gpt_tasks.home import require_free_space, whole_folder
from gpt_tasks.memory import require_memory
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.transformer.config import DecoderConfig

_OTHER_FILES_MB = 10
"""tokenizer and configuration"""
_ROTARY_HEAD_STEP = 16  # onnxruntime's rotary kernel on the CPU wants a multiple of it


@dataclass(frozen=True)
class Request:
    """What to export, and how."""

    precisions: Sequence[str]
    """names in PRECISIONS"""
    calibration: str | None = None
    """a text for the precisions that need one; None: one that comes with the project"""
    calibrated: Path | None = None
    """a file of `python -m compression calibrate`, for int8 and int8_fastest"""
    settings: BlockSettings = DEFAULT_SETTINGS
    """of int4 and int4_fast"""
    genai_precision: str | None = None
    """the one that genai_config.json names; None: int8, or the best that is exported"""
    check: bool = False
    """compare each precision with the original, and fail where its limit is passed"""

    @property
    def calibrates(self) -> bool:
        return any(PRECISIONS[precision].calibrates for precision in self.precisions)


def export(
    model: Model, out: Path, request: Request, report: Report = silent, reference: Artifact | None = None
) -> Artifact:
    """Writes `model` to the folder `out`.

    The folder appears when everything is in it; an older artifact of that name is replaced then.

    Args:
        reference: an artifact with fp32 of the same model, for the checks; None: the new folder's own fp32, or
            the decoder in PyTorch

    Raises:
        UserError: a model that the graph can't express, a tokenizer that doesn't fit it, weights that aren't finite,
            a folder that is something else, too little memory, a full disk, a calibration text that is too short, a
            check that failed.
    """
    require_exportable(model.name, model.config)
    require_replaceable(out)
    require_memory(export_memory_bytes(model.config, request.calibrates, request.check), f"export {model.name}")
    with whole_folder(out) as folder:
        needed = sum(estimated_bytes(model.config, name, request.settings) for name in request.precisions)
        require_free_space(folder, needed // 10**6 + _OTHER_FILES_MB, "export the model")
        (folder / "onnx").mkdir()
        model.write_tokenizer(folder)
        _repeat_chat_template(folder)
        tokenizer = _read_tokenizer(folder, model)
        _require_fitting(tokenizer, model)
        write_json(folder / "config.json", model.hugging_face_config)
        planning = _planning(model, tokenizer, request, report)
        facts = {
            "format": FORMAT,
            "model": model.name,
            "source": model.source,
            "fingerprint": fingerprint(model.weights),
            "precisions": {name: _write_precision(planning, name, folder, report) for name in request.precisions},
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("onnx", "onnxruntime", "numpy", "tokenizers")},
            },
        }
        if is_uniform(model.hugging_face_config):  # genai knows one number of heads for all layers
            for_genai = GRAPH_FILES[request.genai_precision or preferred_precision(request.precisions)]
            settings = genai_config(model.config, model.hugging_face_config, end_ids(folder), for_genai)
            write_json(folder / "genai_config.json", settings)
        uniform = is_uniform(model.hugging_face_config)
        _write_report(folder, facts, model_card(facts, uniform))
        if request.check:
            facts["checks"] = _check(model, Artifact(folder), reference, report)
            _write_report(folder, facts, model_card(facts, uniform))
    return Artifact(out)


def _write_report(folder: Path, facts: dict, card: str) -> None:
    """The model card; report.json, which lists every other file."""
    (folder / "README.md").write_text(card, "utf-8")
    facts["files"] = list_files(folder)
    write_json(folder / REPORT_NAME, facts)


def list_files(folder: Path) -> dict[str, dict]:
    """Every file but the report, below the folder: bytes, sha256."""
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != REPORT_NAME
    }


def _repeat_chat_template(folder: Path) -> None:
    """transformers.js looks for the template of a chat in tokenizer_config.json alone."""
    template, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if template.is_file() and settings.is_file():
        write_json(settings, {**read_json(settings), "chat_template": template.read_text("utf-8")})


def _planning(model: Model, tokenizer: Tokenizer, request: Request, report: Report) -> Planning:
    steps = 0

    def calibrating() -> None:
        nonlocal steps
        steps += 1
        report(Progress("calibrating", steps, 0, "steps"))

    text = default_calibration_text() if request.calibration is None else request.calibration
    return Planning(model, tokenizer, text, request.settings, request.calibrated, calibrating)


def _write_precision(planning: Planning, precision: str, folder: Path, report: Report) -> dict:
    """Writes the graph and returns its entry in the report."""
    plan = plan_of(precision, planning)
    steps, done = 2 * planning.model.config.layers + 3, 0

    def step() -> None:
        nonlocal done
        done += 1
        report(Progress("exporting", done, steps, "layers", precision))

    path = folder / GRAPH_FILES[precision]
    metadata = {"precision": precision, "model": planning.model.name}
    encoder = folder / encoder_file(precision)
    with Graph(path) as graph:
        build_decoder_graph(graph, plan.weights, plan.number_format, step)
        graph.save(metadata)
        with Graph(encoder, shared=graph) as encoder_graph:
            build_encoder_graph(encoder_graph, plan.weights, plan.encoder_format or plan.number_format, step)
            encoder_graph.save(metadata)
    scales = getattr(plan.weights, "scales", {})
    if scales:
        # Not save_file, which would let nobody else read it.
        (folder / scales_file(encoder_file(precision))).write_bytes(save(dict(scales)))
    entry = {
        "file": GRAPH_FILES[precision],
        "description": PRECISIONS[precision].description,
        "size_mb": _megabytes(path),
        "ratio_limit": plan.ratio_limit or PRECISIONS[precision].ratio_limit,
    }
    return entry if plan.choice is None else {**entry, "choice": asdict(plan.choice)}


def _check(model: Model, artifact: Artifact, reference: Artifact | None, report: Report) -> dict[str, dict]:
    """Precision -> figures.

    Raises:
        UserError: a precision that passes its limit.
    """
    checks = {}
    for precision in artifact.precisions:
        report(Progress("checking", detail=precision))
        result = check_export(artifact, precision, model, reference)
        checks[precision] = asdict(result)
        if not result.passed:
            raise UserError(
                f"{precision} failed its check, and nothing was written: perplexity {result.perplexity:.3f} against "
                f"{result.reference_perplexity:.3f} is a ratio of {result.ratio:.4f}, over the limit of "
                f"{result.ratio_limit}. Take a precision with more bits, calibrate with a text of the model's own kind "
                "(--calibration), or export with --no-check if you want it all the same."
            )
    return checks


def _megabytes(path: Path) -> float:
    """A graph's file and its data, in 10^6 bytes."""
    data = path.with_name(f"{path.name}_data")
    return round(sum(file.stat().st_size for file in (path, data) if file.is_file()) / 10**6, 1)


def require_exportable(name: str, config: DecoderConfig) -> None:
    """
    Raises:
        UserError: the graph can't express this model.
    """
    if config.positions == "rotary" and config.head_size % _ROTARY_HEAD_STEP:
        raise UserError(
            f"{name} has heads of size {config.head_size}; onnxruntime's rotary attention wants a "
            f"multiple of {_ROTARY_HEAD_STEP}. This model can't be exported."
        )


def require_replaceable(out: Path) -> None:
    """
    Raises:
        UserError: there is something else than an exported model and its files, which would be lost.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        known = {REPORT_NAME, *read_report(out)["files"]}
    except UserError as error:
        raise UserError(f"{out} exists and is not an exported model: it is left alone. Name a new folder.") from error
    others = sorted(str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir())
    others = [name for name in others if name not in known]
    if others:
        raise UserError(
            f"{out} is an exported model, but holds other files too, such as {others[0]}: it is left alone. Move them, "
            "or name a new folder."
        )


def _read_tokenizer(folder: Path, model: Model) -> Tokenizer:
    try:
        return Tokenizer.from_file(folder / "tokenizer.json")
    except UserError as error:  # the folder it names is a passing one
        raise UserError(f"{model.name}: {str(error).replace(str(folder), 'its folder')}") from error


def _require_fitting(tokenizer: Tokenizer, model: Model) -> None:
    tokens, rows = tokenizer.vocabulary_size, model.config.vocabulary_size
    if tokens > rows or 2 * tokens < rows:  # many models have a few rows more than tokens, for alignment
        raise UserError(
            f"The tokenizer of {model.name} has {tokens} tokens, but the model has {rows} in its vocabulary: they "
            "don't belong together. Take the tokenizer.json that the model was trained with."
        )
