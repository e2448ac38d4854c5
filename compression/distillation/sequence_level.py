"""Sequence-level distillation: the student learns from what the teacher writes (Kim and Rush 2016)."""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compression.export import Request, export
from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.backbone.generate import Generated
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.weights import Model
from gpt_tasks.progress import Progress, Report, silent

_PROMPT_TOKENS = 16
_SAMPLING = SamplingOptions(repetition_penalty=1.05, temperature=0.8)
_PRECISION = "int8_blocks"  # closest to fp32 of those that need no calibration


def written_by(
    teacher: Model, texts: Sequence[str], tokens: int, length: int, seed: int = 0, report: Report = silent
) -> list[str]:
    """Texts of the teacher's own, each begun with a few words of one of `texts`.

    Args:
        texts: at least one that isn't empty
        tokens: so many in all, about
        length: the most of one text, in tokens
    """
    with tempfile.TemporaryDirectory() as folder:
        backbone = Backbone(export(teacher, Path(folder) / "teacher", Request([_PRECISION]), report), _PRECISION)
        lines = [line for text in texts for line in text.split("\n") if line.strip()]
        chosen = random.Random(seed)
        written, done = [], 0
        while done < tokens:
            prompt = backbone.tokenizer.encode(chosen.choice(lines))[:_PROMPT_TOKENS]
            sampling = SamplingOptions(_SAMPLING.repetition_penalty, _SAMPLING.temperature, seed=seed + len(written))
            for event in backbone.write(prompt, sampling, max(1, length - len(prompt))):
                if isinstance(event, Generated):
                    written.append(backbone.tokenizer.decode(prompt) + event.text)
                    done += len(prompt) + event.new_tokens
            report(Progress("teaching", min(done, tokens), tokens, "tokens"))
    return ["\n".join(written)]
