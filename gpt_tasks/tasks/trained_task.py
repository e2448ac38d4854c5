"""A task that the backbone was taught: its folder on disk, and what is in it.

adapter_model.safetensors  adapter_config.json   LoRA in PEFT's format (absent where the head alone was trained)
head.safetensors  head.json                      the head, and everything about the task
README.md  log.jsonl  loss.png                   a model card, the training's log and its picture
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from gpt_tasks.backbone.adapter import ADAPTER_FILE, CONFIG_FILE, Adapter, read_adapter
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.heads import LinearHead
from gpt_tasks.tasks.out_of_scope import OutOfScopeRule

HEAD_FILE, SETTINGS_FILE = "head.safetensors", "head.json"
TAUGHT_FILE = "classifier.safetensors"
"""What makes a folder one of `tasks.taught`."""
PARAMETERS_FILE = "parameters.safetensors"
"""What a method trained that the encoding graph doesn't serve (full, soft_prompt, prefix)."""
WRITTEN_FILES = frozenset(
    {SETTINGS_FILE, HEAD_FILE, ADAPTER_FILE, CONFIG_FILE, PARAMETERS_FILE, "README.md", "log.jsonl", "loss.png"}
)
"""that the folder of a trained task may have"""
SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "tasks"
CLASSIFICATION = ("sentiment", "news_topic", "intent")
"""The classification tasks that come with the project."""
OUT_OF_SCOPE = "oos"
"""The label of texts that no other label fits, as CLINC150 calls it."""


@dataclass(frozen=True)
class TaskSettings:
    """head.json"""

    task: str
    labels: list[str]
    method: str
    """see `training.methods`; lora and head are served"""
    attention: str
    """causal or full"""
    pooling: str
    temperature: float
    backbone: dict[str, str]
    """name and fingerprint of the model that it was trained on"""
    domains: dict[str, list[str]] | None = None
    """a name -> the labels in it"""
    out_of_scope: dict | None = None
    """see `OutOfScopeRule.settings`"""
    dev: dict | None = None
    """figures on dev, of the model in PyTorch as it was trained"""


@dataclass(frozen=True)
class TrainedTask:
    settings: TaskSettings
    head: LinearHead
    adapter: Adapter | None
    out_of_scope: OutOfScopeRule | None

    @property
    def labels(self) -> list[str]:
        return self.settings.labels

    def domain_of(self, label: str) -> str | None:
        for domain, labels in (self.settings.domains or {}).items():
            if label in labels:
                return domain
        return None


def read_head(folder: Path) -> tuple[TaskSettings, LinearHead, OutOfScopeRule | None]:
    """What a task's folder says, whatever it was trained on.

    Raises:
        UserError: not such a folder.
    """
    if not (folder / SETTINGS_FILE).is_file():
        raise UserError(
            f"{folder} is not a trained task (it has no {SETTINGS_FILE}). There are {', '.join(CLASSIFICATION)}; make "
            "one of your own with: python -m gpt_tasks train --task TASK --data DIR --out DIR"
        )
    if "layers" in read_json(folder / SETTINGS_FILE):
        raise UserError(f"{folder} is an extraction. Use it with: python -m gpt_tasks extract --task {folder}")
    try:
        settings = TaskSettings(**read_json(folder / SETTINGS_FILE))
        tensors = load_file(folder / HEAD_FILE)
        head = LinearHead.from_tensors(settings.pooling, tensors)
        rule = settings.out_of_scope and OutOfScopeRule.restore(settings.out_of_scope, tensors)
    except (TypeError, KeyError, SafetensorError, OSError) as error:
        raise UserError(f"{folder} is damaged, or of another version ({error}). Train the task again.") from error
    return settings, head, rule


def load_task(folder: Path, artifact: Artifact) -> TrainedTask:
    """
    Raises:
        UserError: not such a folder, a method that the encoding graph can't serve, another backbone.
    """
    settings, head, rule = read_head(folder)
    if head.weight.shape != (len(settings.labels), artifact.config.hidden_size):
        raise UserError(
            f"{folder} has a head of {head.weight.shape} for {len(settings.labels)} labels and a backbone with "
            f"{artifact.config.hidden_size} features: they don't belong together."
        )
    require_backbone(folder, settings.task, settings.backbone, artifact)
    if settings.method not in ("lora", "head") or settings.attention != "causal":
        raise UserError(
            f"{folder} was trained with method {settings.method} and {settings.attention} attention. The encoding "
            "graph serves lora and head with causal attention; train so to use it here."
        )
    adapter = read_adapter(folder, artifact.hugging_face_config) if settings.method == "lora" else None
    return TrainedTask(settings, head, adapter, rule)


def require_backbone(folder: Path, task: str, backbone: Mapping[str, str], artifact: Artifact) -> None:
    """
    Args:
        backbone: name and fingerprint, as the settings of a task or an extraction have them

    Raises:
        UserError: the artifact is of another model.
    """
    if backbone.get("fingerprint") != artifact.fingerprint:
        raise UserError(
            f"{folder} was trained on another backbone ({backbone.get('name')}) than {artifact.folder}. Take that one, "
            "or train the task on this one.",
            key="other_backbone",
            task=task,
            model=backbone.get("name"),
        )


def write_head(folder: Path, settings: TaskSettings, head: LinearHead, rule: OutOfScopeRule | None) -> None:
    tensors = {**head.tensors(), **({} if rule is None else rule.tensors())}
    (folder / HEAD_FILE).write_bytes(save(tensors))  # save_file would let nobody else read it
    write_settings(folder, settings)


def write_settings(folder: Path, settings: TaskSettings) -> None:
    write_json(folder / SETTINGS_FILE, {key: value for key, value in asdict(settings).items() if value is not None})


def shipped_task(name: str, artifact: Artifact) -> TrainedTask:
    """
    Raises:
        UserError: none of that name comes with the project, or the backbone is another than it was trained on.
    """
    if not (SHIPPED / name).is_dir():
        raise UserError(f"No task {name!r} comes with the project. Name the folder of one that you trained.")
    return load_task(SHIPPED / name, artifact)
