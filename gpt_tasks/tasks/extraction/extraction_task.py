"""A trained extraction: its folder on disk, and what is in it.

head.safetensors  head.json                      see `ExtractionHead`, and everything about the task
adapter_model.safetensors  adapter_config.json   LoRA in PEFT's format, where the backbone was trained too
README.md  log.jsonl  loss.png                   a model card, the training's log and its picture
"""

from collections.abc import Set
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from gpt_tasks.backbone.adapter import Adapter, read_adapter
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_interface import feature_layers
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.extraction.annotations import NO_RELATION
from gpt_tasks.tasks.extraction.head import ExtractionHead, LinkLabels
from gpt_tasks.tasks.extraction.reading import Reading
from gpt_tasks.tasks.trained_task import HEAD_FILE, SETTINGS_FILE, require_backbone

SHIPPED = Path(__file__).resolve().parents[3] / "assets" / "extraction"
SCHEMAS = {
    "entities": ("news", "social"),
    "relations": ("conll04", "semeval"),
    "events": ("litbank", "phee", "casie"),
}
"""Task -> the schemas that come with the project; the first is taken where none is named."""


@dataclass(frozen=True)
class ExtractionSettings:
    """head.json"""

    task: str
    """entities, relations or events"""
    schema: str
    layers: dict[str, list[str]]
    split_hyphens: bool
    """whether words with hyphens are several words; see `find_words`"""
    method: str
    """head (the backbone as it is) or lora"""
    attention: str
    """causal or full"""
    reading: Reading
    backbone: dict[str, str]
    """name and fingerprint of the model that it was trained on"""
    touching: dict[str, list[str]] | None = None
    """of each layer, the labels whose spans may touch, see `legal_transitions`; None: all"""
    links: dict | None = None
    """see `LinkLabels`; None: spans alone"""
    dev: dict | None = None
    """figures on dev, of the model in PyTorch as it was trained"""


@dataclass(frozen=True)
class ExtractionTask:
    settings: ExtractionSettings
    head: ExtractionHead
    adapter: Adapter | None


def read_extraction(folder: Path) -> tuple[ExtractionSettings, ExtractionHead]:
    """What a folder says, on whatever backbone; without the adapter.

    Raises:
        UserError: not such a folder, or a damaged one.
    """
    if not (folder / SETTINGS_FILE).is_file():
        raise UserError(
            f"{folder} is not a trained extraction (it has no {SETTINGS_FILE}). Make one with: "
            "python -m gpt_tasks train --task entities --data DIR --out DIR"
        )
    if not is_extraction(folder):
        raise UserError(f"{folder} is a classification. Use it with: python -m gpt_tasks classify --task {folder}")
    try:
        settings = ExtractionSettings(**read_json(folder / SETTINGS_FILE))
        links = settings.links and LinkLabels(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in settings.links.items()}
        )
        return settings, ExtractionHead(settings.layers, links, load_file(folder / HEAD_FILE), settings.touching)
    except (TypeError, KeyError, ValueError, AttributeError, SafetensorError, OSError) as error:
        raise UserError(f"{folder} is damaged, or of another version ({error}). Train it again.") from error


def load_extraction(folder: Path, artifact: Artifact) -> ExtractionTask:
    """
    Raises:
        UserError: not such a folder, attention that the encoding graph hasn't got, another backbone.
    """
    settings, head = read_extraction(folder)
    require_backbone(folder, settings.task, settings.backbone, artifact)
    if settings.attention != "causal":
        raise UserError(f"{folder} was trained with full attention. The encoding graph has causal attention alone.")
    if (head.depth, head.hidden_size) != (len(feature_layers(artifact.config)), artifact.config.hidden_size):
        raise UserError(f"{folder} reads {head.depth} layers of {head.hidden_size}: this backbone has others.")
    adapter = read_adapter(folder, artifact.hugging_face_config) if settings.method == "lora" else None
    return ExtractionTask(settings, head, adapter)


def write_extraction(folder: Path, settings: ExtractionSettings, head: ExtractionHead) -> None:
    """Without the adapter."""
    tensors = {name: value.astype(np.float16) for name, value in head.tensors.items()}
    for name in ("center", "deviation"):  # the backbone's own numbers may be larger than fp16 has
        tensors[name] = head.tensors[name]
    (folder / HEAD_FILE).write_bytes(save(tensors))  # save_file would let nobody else read it
    write_json(folder / SETTINGS_FILE, {key: value for key, value in asdict(settings).items() if value is not None})


def available_schemas() -> dict[str, list[str]]:
    """Task -> the schemas that come with the project."""
    found = {task: [name for name in names if (SHIPPED / name).is_dir()] for task, names in SCHEMAS.items()}
    return {task: names for task, names in found.items() if names}


def is_extraction(folder: Path) -> bool:
    """Whether a folder holds one (and not a classification task)."""
    path = folder / SETTINGS_FILE
    return path.is_file() and "layers" in read_json(path)


def schema_for(task: str, labels: Set[str], artifact: Artifact) -> str:
    """The shipped schema of a task that has the labels of a corpus.

    Raises:
        UserError: none has them all.
    """
    lacking = {}
    for name in available_schemas().get(task, []):
        known = load_extraction(SHIPPED / name, artifact).head.labels
        lacking[name] = sorted(labels - known - NO_RELATION)
        if not lacking[name]:
            return name
    if not lacking:
        raise UserError(f"No schema of the task {task} comes with this copy of the project.")
    nearest = min(lacking, key=lambda name: len(lacking[name]))
    raise UserError(
        f"No schema of the task {task} has all labels of the file. The nearest, {nearest}, lacks: "
        f"{', '.join(lacking[nearest][:8])}."
    )
