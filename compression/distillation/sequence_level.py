"""Sequence-level distillation: the student learns from what the teacher writes (Kim and Rush 2016)."""

import hashlib
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from compression.export import Request, export
from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.backbone.generate import Generated
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.weights import Model, content_hash
from gpt_tasks.home import whole_folder, writable_home
from gpt_tasks.progress import Progress, Report, silent

_TEXT = "text.txt"
_PROMPT_TOKENS = 16
_SAMPLING = SamplingOptions(repetition_penalty=1.05, temperature=0.8)
_PRECISION = "int8_blocks"  # closest to fp32 of those that need no calibration


def written_by(
    teacher: Model, texts: Sequence[str], tokens: int, length: int, seed: int = 0, report: Report = silent
) -> list[str]:
    """Texts of the teacher's own, each begun with the first words of a line of `texts`: from the cache folder, or
    written and kept there, so that a run that goes on has the same ones.

    Args:
        texts: at least one that isn't empty
        tokens: so many in all, about
        length: the most of one text, in tokens

    Raises:
        UserError: a cache that can't be written.
    """
    asked = [content_hash(teacher), list(texts), tokens, length, seed, _PROMPT_TOKENS, asdict(_SAMPLING), _PRECISION]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]
    folder = writable_home() / "teachers" / f"written-{key}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        with whole_folder(folder) as part:
            (part / _TEXT).write_text(_write(teacher, texts, tokens, length, seed, report), "utf-8")
    return [(folder / _TEXT).read_text("utf-8")]


def _write(teacher: Model, texts: Sequence[str], tokens: int, length: int, seed: int, report: Report) -> str:
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
            report(Progress("writing", min(done, tokens), tokens, "tokens"))
    return "\n".join(written)
