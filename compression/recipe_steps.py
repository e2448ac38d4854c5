"""What each step of a recipe does: a function of its options and its place in a run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from compression import benchmark
from compression.artifact_model import SOURCE_PRECISION, artifact_model
from compression.block_settings import BlockSettings
from compression.check import check_export, default_text
from compression.export import Request, export
from compression.graph_sizes import sizes_by_kind
from compression.measuring import evaluate_artifacts
from compression.model_or_artifact import open_model_or_artifact
from compression.recipe_options import Bench, Check, Distill, Evaluate, Export, Prune, Quantize, Recover, Step, Teaching
from compression.sizes import parameters
from compression.texts import read_text, read_texts
from compression.variants import apply_correction, shipped_correction
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.prepare import prepare
from gpt_tasks.backbone.threads import available_cores
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Report


@dataclass(frozen=True)
class Place:
    """Where a step stands."""

    original: Model
    original_key: str
    """another one for another model"""
    here: str
    """what the steps before it left: a model as `open_model_or_artifact` takes it"""
    out: Path
    """the folder to write, of a step that gives something"""
    run: Path
    """the whole run's folder"""
    text: str | None
    """stands in for the text that a step names"""
    report: Report
    checkpoint: str = ""
    """what was exported, after an export"""
    exported: Path | None = None
    """where to"""

    @property
    def artifact(self) -> Artifact:
        return Artifact(Path(self.here))


def _prune(step: Prune, place: Place) -> dict:
    # Here, as below: only the steps that prune or teach need PyTorch.
    from compression.pruning.prune import Pruning, prune, write_pruned

    pattern = tuple(map(int, step.pattern.split(":"))) if step.pattern else None
    layers = None if step.layers is None else tuple(step.layers)
    try:
        pruning = Pruning(
            step.method, step.sparsity, pattern, step.by_influence, layers, step.uniform, step.refit, step.tokens
        )
    except ValueError as error:
        raise UserError(f"{error}.") from error
    text = None if step.text is None else "\n".join(read_texts(Path(step.text).expanduser()))
    pruned, facts = prune(open_model_or_artifact(place.here, place.report), pruning, text, place.report)
    write_pruned(pruned, facts, place.out)
    return facts


def _distill(step: Distill, place: Place) -> dict:
    from compression.distillation.students import begin_student

    teacher = open_model_or_artifact(place.here, place.report)
    sizes = step.layers, step.hidden_size, step.feed_forward_size
    return _teach(step, place, teacher, begin_student(teacher, step.student, *sizes, step.seed))


def _recover(step: Recover, place: Place) -> dict:
    pruned = open_model_or_artifact(place.here, place.report)
    if step.adapter is not None and place.text is None and step.text is None:
        apply_correction(pruned, shipped_correction(step.adapter), place.out)
        return {"adapter": step.adapter}
    return _teach(step, place, place.original, pruned)


def _teach(step: Teaching, place: Place, teacher: Model, student: Model) -> dict:
    from compression.distillation.distil import Distillation, distil, teaching_options
    from compression.distillation.objective import Matching

    named = place.text or step.text
    matching = Matching(
        step.predictions, step.own_text, step.hidden, step.attention, step.temperature, step.top_k, step.reverse
    )
    options = teaching_options(
        step.method, step.epochs, step.learning_rate, step.tokens_per_batch, step.seed, compiled=step.compile
    )
    start = step.start if isinstance(step, Recover) else None
    return distil(
        teacher,
        student,
        read_texts(Path(named).expanduser()),
        place.out,
        Distillation(step.method, step.rank, step.window, step.tokens, matching, start),
        options,
        resume=True,
        report=place.report,
    )


def _export(step: Export, place: Place) -> dict:
    model = open_model_or_artifact(place.here, place.report)
    return _written(export(model, place.out, _request(step), place.report), model)


def _quantize(step: Quantize, place: Place) -> dict:
    source = place.artifact
    model = artifact_model(source)
    return _written(export(model, place.out, _request(step), place.report, reference=source), model)


def _request(step: Export) -> Request:
    calibration = None if step.calibration is None else read_text(Path(step.calibration).expanduser())
    settings = BlockSettings(step.method, step.symmetric, step.size_mb, step.mean_kl)
    return Request(tuple(dict.fromkeys(step.precision)), calibration, settings=settings)


def _written(artifact: Artifact, model: Model) -> dict:
    return {
        "parameters": parameters(model.config),
        "layers": model.config.layers,
        "precisions": {
            name: {"size_mb": entry["size_mb"], "sizes_by_kind": sizes_by_kind(artifact.graph_path(name))}
            for name, entry in artifact.report["precisions"].items()
        },
    }


def _check(step: Check, place: Place) -> dict:
    artifact, found = place.artifact, {}
    model = open_model_or_artifact(place.checkpoint, place.report)
    # What quantize leaves has no fp32: that of the export which it started from stands in.
    reference = None if place.exported == artifact.folder else Artifact(place.exported)
    for precision in artifact.precisions:
        check = check_export(artifact, precision, model, reference)
        if step.limit is not None and precision != SOURCE_PRECISION:
            check = replace(check, ratio_limit=step.limit, passed=check.ratio <= step.limit)
        found[precision] = asdict(check)
        if not check.passed:
            advice = "Take a precision with more bits, or allow more: check: {limit: ...}."
            if precision == SOURCE_PRECISION:
                advice = "The checkpoint was changed after its export, or the export is wrong: take a new --out."
            raise UserError(
                f"{precision} failed its check: perplexity {check.perplexity:.3f} against "
                f"{check.reference_perplexity:.3f} of the reference, a ratio of {check.ratio:.4f} over its limit of "
                f"{check.ratio_limit}. {advice}"
            )
    return found


def _bench(step: Bench, place: Place) -> dict:
    """{"model" or "baseline": {precision: row}}"""
    folders = {"baseline": baseline(place), "model": place.artifact}
    threads = available_cores()
    contestants = [
        benchmark.Contestant("ours", precision, str(artifact.folder), threads)
        for artifact in folders.values()
        for precision in artifact.precisions
    ]
    try:
        rows = benchmark.compare(contestants, step.rounds)
    except RuntimeError as error:
        raise UserError(str(error)) from error
    found: dict[str, dict] = {name: {} for name in folders}
    for contestant, row in zip(benchmark.in_order(contestants), rows, strict=True):
        name = next(name for name, artifact in folders.items() if str(artifact.folder) == contestant.path)
        found[name][row.precision] = asdict(row)
    return found


def _evaluate(step: Evaluate, place: Place) -> dict:
    text = None if step.text is None else read_text(Path(step.text).expanduser())
    tasks = [(Path(score.task).expanduser(), Path(score.data).expanduser()) for score in step.tasks]
    found = evaluate_artifacts(
        {"baseline": baseline(place), "model": place.artifact}, text, step.window, step.tokens, tasks, place.report
    )
    content = sha256((default_text() if text is None else text).encode()).hexdigest()
    name = None if step.text is None else Path(step.text).name
    measured = {"window": found["window"], "tokens": found["text_tokens"]}
    return {**found, "text": {"name": name, "sha256": content, **measured}}


def baseline(place: Place) -> Artifact:
    """The original model, exported in fp32 and int8: what comes with the project, or made in the run's folder."""
    if place.original.source["kind"] == "default":
        return prepare(place.report)
    folder, key = place.run / "baseline", place.run / "baseline.key"
    if not folder.is_dir() or not key.is_file() or key.read_text() != place.original_key:
        key.unlink(missing_ok=True)
        export(place.original, folder, Request(("fp32", "int8")), place.report)
        key.write_text(place.original_key)
    return Artifact(folder)


WORK: dict[type[Step], Callable[[Step, Place], dict]] = {
    Prune: _prune,
    Distill: _distill,
    Recover: _recover,
    Export: _export,
    Quantize: _quantize,
    Check: _check,
    Bench: _bench,
    Evaluate: _evaluate,
}
