"""What a classification is trained on, and how."""

from dataclasses import dataclass
from pathlib import Path

from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.text_files import LabelledText, read_text_file
from gpt_tasks.tasks.windows import WindowReader
from gpt_tasks.training.options import MATRICES
from gpt_tasks.training.pooling import PoolingName


@dataclass(frozen=True)
class TaskTraining:
    """What to train, and how."""

    task: str
    method: str = "lora"
    pooling: PoolingName = "attention"
    causal: bool = True
    rank: int = 8
    first_layer: int = 0
    """LoRA corrects this layer and those above it"""
    matrices: tuple[str, ...] = MATRICES
    """which ones LoRA corrects in a layer"""
    label_smoothing: float = 0.0
    balanced: bool = False
    """see `Classification`"""
    teacher: str | None = None
    """a task on a larger model whose answers are learned too (task distillation)"""
    teacher_model: str | None = None
    """None: the default model"""
    teacher_weight: float = 0.5
    teacher_temperature: float = 2.0
    teacher_features: float = 0.0
    """the weight of its features; all three: see `TaskTeacher`"""
    start: str | None = None
    """a folder of the same task, trained on the same model, whose head and correction it begins with"""
    licence: str = "not stated"
    """of the data"""


@dataclass(frozen=True)
class TaskData:
    """The texts as they are in the files."""

    train: list[LabelledText]
    dev: list[LabelledText]
    labels: list[str]
    domains: dict[str, list[str]] | None
    """a name -> the labels in it"""


@dataclass(frozen=True)
class TaskRows:
    """Token ids and the label's number, each."""

    train: list[tuple[list[int], int]]
    dev: list[tuple[list[int], int]]


def read_task_data(data: Path) -> TaskData:
    """train.jsonl and dev.jsonl, and domains.json where there is one.

    Raises:
        UserError: a file that can't be read, one label only, a label in dev that train hasn't got.
    """
    train, dev = (read_text_file(data / f"{split}.jsonl", labelled=True) for split in ("train", "dev"))
    labels = sorted({row.label for row in train})
    if len(labels) < 2:
        raise UserError(f"{data / 'train.jsonl'} has one label only ({labels[0]}). A classifier needs at least two.")
    unknown = next((row for row in dev if row.label not in labels), None)
    if unknown is not None:
        raise UserError(f"{data / 'dev.jsonl'}, line {unknown.line}: the label {unknown.label!r} isn't in train.jsonl.")
    domains = data / "domains.json"
    return TaskData(train, dev, labels, read_json(domains) if domains.is_file() else None)


def encode_rows(data: TaskData, reader: WindowReader) -> TaskRows:
    """A text's first window."""
    numbers = {label: index for index, label in enumerate(data.labels)}

    def encoded(rows: list[LabelledText]) -> list[tuple[list[int], int]]:
        return [(reader.first(row.text), numbers[row.label]) for row in rows]

    return TaskRows(encoded(data.train), encoded(data.dev))
