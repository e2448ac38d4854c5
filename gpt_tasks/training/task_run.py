"""What every training of a task does around the trainer: the run's folder, the task's, and what both start from."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from gpt_tasks.backbone.architectures import adapter_modules
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model, content_hash, fingerprint
from gpt_tasks.errors import UserError
from gpt_tasks.home import whole_folder
from gpt_tasks.progress import Report
from gpt_tasks.training.compiled_layers import compile_layers
from gpt_tasks.training.loss_picture import draw_loss
from gpt_tasks.training.objectives import Objective
from gpt_tasks.training.options import TrainingOptions
from gpt_tasks.training.trainer import LOG_NAME, Trainer


def run_training(
    objective: Objective,
    model: Model,
    training: object,
    options: TrainingOptions,
    data: str,
    out: Path,
    *,
    resume: bool,
    report: Report,
) -> dict[str, float]:
    """Trains in `<out>.training`.

    Args:
        model: what is trained
        training: a dataclass; with model, data and options it must be the same in a resumed run
        data: a hash of what is trained on

    Returns:
        the figures on dev

    Raises:
        UserError: see `compile_layers`, where the options ask for it, and `Trainer`.
    """
    if options.compiled:
        compile_layers(objective.model, one_length=len(set(objective.lengths)) == 1)
    run = training_folder(out)
    run.mkdir(parents=True, exist_ok=True)
    identity = {**asdict(training), "data": data, "model": content_hash(model)}
    return Trainer(objective, options, run, resume=resume, identity=identity, report=report).run()


def write_trained(out: Path, tasks: Mapping[Path, Callable[[Path], str]]) -> None:
    """The folders of what was trained, each whole or not at all, with the log and its picture; then the run's goes.

    Args:
        out: as in `run_training`
        tasks: a task's folder -> what writes the task's own files there and returns its model card
    """
    run = training_folder(out)
    for target, write in tasks.items():
        with whole_folder(target) as folder:
            (folder / "README.md").write_text(write(folder), "utf-8")
            shutil.copyfile(run / LOG_NAME, folder / LOG_NAME)
            draw_loss(run / LOG_NAME, folder / "loss.png")
    shutil.rmtree(run)


def training_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.training")


def data_fingerprint(data: Path) -> str:
    """Of train.jsonl and dev.jsonl."""
    return hashlib.sha256(b"".join((data / f"{split}.jsonl").read_bytes() for split in ("train", "dev"))).hexdigest()


def require_same_backbone(folder: Path, backbone: Mapping[str, str], model: Model) -> None:
    """
    Args:
        folder: of a task that a training begins with
        backbone: name and fingerprint of what it was trained on

    Raises:
        UserError: the model is another one.
    """
    if backbone["fingerprint"] != fingerprint(model.weights):
        raise UserError(f"{folder} was trained on another backbone, {backbone['name']}. Name that one in --model.")


def load_tokenizer(model: Model) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        model.write_tokenizer(Path(folder))
        return Tokenizer.from_file(Path(folder) / "tokenizer.json")


def chosen_modules(
    model: Model, method: str, matrices: Sequence[str], first_layer: int, end_layer: int | None = None
) -> dict[str, tuple[str, ...]]:
    """The modules that LoRA corrects, as `adapter_modules` gives them.

    Args:
        end_layer: the first one above those that are of use; None: all are

    Raises:
        UserError: no such layer, or none of the matrices in it.
    """
    end = model.config.layers if end_layer is None else end_layer
    if not 0 <= first_layer < end:
        raise UserError(f"There is no layer {first_layer} to correct: they are 0 to {end - 1}.")
    modules = {
        theirs: ours
        for theirs, ours in adapter_modules(model.hugging_face_config).items()
        if first_layer <= int(ours[0].split(".")[1]) < end and all(name.rsplit(".", 1)[1] in matrices for name in ours)
    }
    if method == "lora" and not modules:
        raise UserError(f"This model has none of the matrices {', '.join(matrices)} on their own.")
    return modules
