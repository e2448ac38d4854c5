"""The README.md of a trained task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_tasks.backbone.weights import DEFAULT_NAME
from gpt_tasks.tasks.extraction.extraction_task import ExtractionSettings
from gpt_tasks.tasks.trained_task import TaskSettings
from gpt_tasks.training.options import MATRICES, TrainingOptions

if TYPE_CHECKING:
    from gpt_tasks.training.classification_data import TaskTraining
    from gpt_tasks.training.extraction import ExtractionTraining

_FULL_ATTENTION = """
Trained under full attention: every token sees all others. transformers runs this model with causal attention, so
that PEFT loads the adapter there, but its results are not these.
"""


def model_card(
    settings: TaskSettings,
    training: "TaskTraining",
    options: TrainingOptions,
    data: Mapping[str, str],
    train_rows: int,
    dev_rows: int,
) -> str:
    """Data, licence, method, command and figures, as Markdown.

    Args:
        data: of every task that was trained in the same run, this one among them: its data's name
    """
    labels = ", ".join(settings.labels[:12]) + (
        f" ... ({len(settings.labels)} in all)" if len(settings.labels) > 12 else ""
    )
    command = [
        f"python -m gpt_tasks train --task {' '.join(data)} --data {' '.join(data.values())} "
        f"--out {training.task if len(data) == 1 else 'OUT'}",
        f"--method {training.method} --pooling {training.pooling} --attention {settings.attention}",
    ]
    command += _model_lines(settings.backbone)
    command += _lora_lines(training)
    command += _option_lines(options)
    if training.balanced:
        command.append("--balanced")
    if training.label_smoothing:
        command.append(f"--label-smoothing {training.label_smoothing}")
    if training.start is not None:
        command.append(f"--start {Path(training.start).name}")
    if training.teacher is not None:
        command.append(
            f"--teacher {training.teacher} --teacher-weight {training.teacher_weight} "
            f"--teacher-temperature {training.teacher_temperature} --teacher-features {training.teacher_features}"
        )
    if training.teacher_model is not None:
        command.append(f"--teacher-model {training.teacher_model}")
    shell = " \\\n    ".join(command)
    return f"""# {training.task}

Labels: {labels}

| | |
| --- | --- |
| backbone | {settings.backbone["name"]} (fingerprint {settings.backbone["fingerprint"][:12]}) |
| data | {data[training.task]}: {train_rows} texts trained on, {dev_rows} in dev |
| licence of the data | {training.licence} |
| method | {training.method}, {settings.attention} attention, {settings.pooling} pooling{_together(training, data)} |
| accuracy on dev, before any rule | {100 * settings.dev["accuracy"]:.2f} % |
| temperature | {settings.temperature:.3f} |
{_FULL_ATTENTION if settings.attention == "full" else ""}
```
{shell}
```

`log.jsonl` has every tenth loss and every evaluation; `loss.png` shows them.
"""


def _together(training: "TaskTraining", data: Mapping[str, str]) -> str:
    others = [task for task in data if task != training.task]
    return f", together with {' and '.join(others)}" if others else ""


def _model_lines(backbone: Mapping[str, str]) -> list[str]:
    return [] if backbone["name"] == DEFAULT_NAME else [f"--model {backbone['name']}"]


def _lora_lines(training: "TaskTraining | ExtractionTraining") -> list[str]:
    if training.method != "lora":
        return []
    lines = [f"--rank {training.rank} --first-layer {training.first_layer}"]
    return lines if training.matrices == MATRICES else [*lines, f"--matrices {' '.join(training.matrices)}"]


def _option_lines(options: TrainingOptions) -> list[str]:
    more = [f"--average {options.average}"] if options.average else []
    if options.compiled:
        more.append("--compile")
    return [
        f"--epochs {options.epochs} --learning-rate {options.learning_rate} --seed {options.seed}",
        f"--tokens-per-batch {options.tokens_per_batch} --accumulation {options.accumulation} "
        f"--evaluations-per-epoch {options.evaluations_per_epoch} --patience {options.patience}",
        *more,
    ]


def soup_card(settings: TaskSettings, names: Sequence[str], cards: Sequence[str]) -> str:
    """Of an average: what it is, and the cards of what was averaged.

    Args:
        names: of the averaged folders
    """
    parts = "\n".join(f"## {name}\n{card.partition(chr(10))[2]}" for name, card in zip(names, cards, strict=True))
    dev = settings.dev
    return f"""# {settings.task}

The mean of the parameters of {len(names)} trainings that began alike (a model soup, Wortsman et al. 2022), calibrated
anew.

| | |
| --- | --- |
| accuracy on dev ({dev["texts"]} texts, {dev["precision"]}) | {100 * dev["accuracy"]:.2f} % |
| temperature | {settings.temperature:.3f} |

```
python -m gpt_tasks average {" ".join(names)} --data dev.jsonl \\
    --precision {dev["precision"]} --out {settings.task}
```

`log.jsonl` and `loss.png` are those of {names[0]}.

{parts}"""


_FIGURES = {
    "f1": "F1 of entities",
    "macro_f1": "macro F1",
    "end_to_end_f1": "F1 of relations, end to end",
    "trigger_f1": "F1 of triggers",
    "argument_f1": "F1 of arguments",
}


def extraction_card(
    settings: ExtractionSettings,
    training: "ExtractionTraining",
    options: TrainingOptions,
    data: str,
    train_rows: int,
    dev_rows: int,
) -> str:
    """As `model_card`, for an extraction."""
    layers = "\n".join(f"- {layer}: {', '.join(labels)}" for layer, labels in settings.layers.items())
    links = f"- links: {', '.join(settings.links['labels'][1:])}\n" if settings.links else ""
    command = [
        f"python -m gpt_tasks train --task {training.task} --schema {training.schema} --data {data} --out OUT",
        f"--method {training.method} --attention {settings.attention} --reading {settings.reading}",
    ]
    command += _model_lines(settings.backbone)
    command += _lora_lines(training)
    if training.start is not None:
        command.append(f"--start {Path(training.start).name}")
    if training.sentences is not None:
        command.append(f"--sentences {training.sentences}")
    command += _option_lines(options)
    shell = " \\\n    ".join(command)
    figures = "\n".join(
        f"| {name} on dev | {100 * settings.dev[key]:.2f} |" for key, name in _FIGURES.items() if key in settings.dev
    )
    return f"""# {settings.task}: {settings.schema}

{layers}
{links}
| | |
| --- | --- |
| backbone | {settings.backbone["name"]} (fingerprint {settings.backbone["fingerprint"][:12]}) |
| data | {data}: {train_rows} sentences trained on, {dev_rows} in dev |
| licence of the data | {training.licence} |
| method | {training.method}, {settings.attention} attention, the text read {settings.reading} |
{figures}
{_FULL_ATTENTION if settings.attention == "full" else ""}
```
{shell}
```

`log.jsonl` has every tenth loss and every evaluation; `loss.png` shows them.
"""
