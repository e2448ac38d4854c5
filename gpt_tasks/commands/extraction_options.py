"""What `extract` and `evaluate` share: which extraction, on which model."""

import argparse
from pathlib import Path

from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.extraction.extraction_task import (
    SCHEMAS,
    SHIPPED,
    ExtractionTask,
    available_schemas,
    load_extraction,
)
from gpt_tasks.tasks.extraction.text_extraction import TextExtractor

SCHEMA_HELP = "; ".join(f"{task}: {', '.join(names)}" for task, names in SCHEMAS.items())


def add_extraction_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task", required=True, metavar="TASK", help=f"{', '.join(SCHEMAS)}, or the folder of a trained extraction"
    )
    parser.add_argument("--schema", help=f"which labels ({SCHEMA_HELP}; default: the first)")
    parser.add_argument("--model", metavar="ARTIFACT", help="an exported model (default: the default model)")
    parser.add_argument("--precision", help="one of the model's (default: int8)")


def load_named_extraction(task: str, schema: str | None, artifact: Artifact) -> ExtractionTask:
    """
    Args:
        task: a task's name or a folder; the name comes before a folder that happens to be called so

    Raises:
        UserError: no such task or schema, or it doesn't belong to the model.
    """
    if task not in SCHEMAS:
        if schema is not None:
            raise UserError("--schema belongs to a task that comes with the project; a folder has one schema.")
        return load_extraction(Path(task).expanduser(), artifact)
    available = available_schemas().get(task, [])
    chosen = schema or next(iter(available), SCHEMAS[task][0])
    if chosen not in available:
        raise UserError(f"The task {task} has no schema {chosen!r}; it has: {', '.join(available) or 'none here'}.")
    return load_extraction(SHIPPED / chosen, artifact)


def open_extractor(artifact: Artifact, precision: str | None) -> TextExtractor:
    engine = EncoderEngine(artifact, precision)
    return TextExtractor(engine, artifact, artifact.load_tokenizer())
