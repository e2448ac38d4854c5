"""What a user names as the model to start from: a checkpoint, or an artifact that was exported from one."""

from pathlib import Path

from gpt_tasks.backbone.artifact import REPORT_NAME, Artifact
from gpt_tasks.backbone.weights import Model, open_model, read_model_config
from gpt_tasks.progress import Report, silent
from gpt_tasks.transformer.config import DecoderConfig


def open_model_or_artifact(name: str, report: Report = silent, revision: str | None = None) -> Model:
    """As `open_model`, and an exported artifact with fp32 too.

    Raises:
        UserError: see `open_model` and `artifact_model`.
    """
    folder = Path(name).expanduser()
    if revision is not None or not (folder / REPORT_NAME).is_file():
        return open_model(name, report, revision)
    from compression.artifact_model import artifact_model  # brings onnx, which the page, for a config, needn't have

    return artifact_model(Artifact(folder))


def read_config_of(name: str, report: Report = silent, revision: str | None = None) -> DecoderConfig:
    """As `read_model_config`, and of an artifact too."""
    folder = Path(name).expanduser()
    if revision is None and (folder / REPORT_NAME).is_file():
        return Artifact(folder).config
    return read_model_config(name, report, revision)
