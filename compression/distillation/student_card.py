"""The README.md of a distilled student."""

from typing import TYPE_CHECKING

from compression.sizes import parameters
from gpt_tasks.backbone.weights import Model
from gpt_tasks.training.options import TrainingOptions

if TYPE_CHECKING:
    from compression.distillation.distil import Distillation

_NOT_ELSEWHERE = """
**Only this project loads this folder**: its layers have sizes of their own, which `config.json` lists. transformers
refuses its model type.
"""


def student_card(
    teacher: Model,
    student: Model,
    distillation: "Distillation",
    options: TrainingOptions,
    figures: dict[str, float],
    uniform: bool,
) -> str:
    """Teacher, method and figures, as Markdown."""
    matching = distillation.matching
    matched = ", ".join(
        f"{name} {weight}"
        for name, weight in (
            ("predictions", matching.predictions),
            ("text", matching.text),
            ("hidden states", matching.hidden),
            ("attention", matching.attention),
        )
        if weight
    )
    if matching.reverse:
        matched += "; the KL divergence the other way round"
    text = "all" if distillation.tokens is None else f"{distillation.tokens} tokens"
    if distillation.written:
        text += " that the teacher wrote"
    method = f"LoRA of rank {distillation.rank}" if distillation.method == "lora" else "every weight"
    return f"""# {student.name}, taught by {teacher.name}
{"" if uniform else _NOT_ELSEWHERE}
| | |
| --- | --- |
| teacher | {teacher.name}, {parameters(teacher.config) / 10**6:.1f} million weights |
| student | {student.name}, {parameters(student.config) / 10**6:.1f} million weights in {student.config.layers} layers |
| trained | {method}{"" if distillation.start is None else f", from the correction {distillation.start} on"} |
| matched | {matched}; temperature {matching.temperature}, the teacher's {matching.top_k} likeliest tokens |
| text | {text} in windows of {distillation.window}, {options.epochs} times |
| perplexity on held-out windows of it | {figures["perplexity"]:.2f} |
| learning rate, seed | {options.learning_rate}, {options.seed} |

`log.jsonl` has every tenth loss and every evaluation; `loss.png` shows them.
"""
