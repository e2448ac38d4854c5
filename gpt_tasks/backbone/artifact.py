"""The artifact: an exported model's folder, as `python -m compression export` writes it and every engine reads it.

config.json  generation_config.json  genai_config.json  tokenizer.json  tokenizer_config.json  chat_template.jinja
README.md                       a model card
report.json                     what was exported, from what, with which versions; every file with its SHA-256
onnx/<precision's file>.onnx    the graph, and its weights beside it in <file>.onnx_data
onnx/encoder*.onnx              the same layers as an encoder (`encoder_interface`), over the same weights; where
                                channels were scaled, their scales beside it in <file>.scales.safetensors
"""

import hashlib
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from gpt_tasks.backbone.architectures import read_config
from gpt_tasks.backbone.chat_template import ChatTemplate
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.transformer.config import DecoderConfig

REPORT_NAME = "report.json"
OPTIMUM = "optimum"
"""the route, in report.json, of a folder with other graphs than ours"""
FORMAT = 6
"""Counts up when the exporter's output changes so that cached folders must be made again."""
GRAPH_FILES = {
    "fp32": "onnx/model.onnx",
    "int8_blocks": "onnx/model_quantized.onnx",
    "int8": "onnx/model_int8.onnx",
    "int8_fastest": "onnx/model_int8_fastest.onnx",
    "int4": "onnx/model_q4.onnx",
    "int4_fast": "onnx/model_q4_fast.onnx",
}
"""Precision -> file; the names are those that transformers.js looks for by its `dtype`."""


def encoder_file(precision: str) -> str:
    """The encoding graph's file."""
    return GRAPH_FILES[precision].replace("/model", "/encoder")


def scales_file(encoder: str) -> str:
    return f"{encoder.removesuffix('.onnx')}.scales.safetensors"


_PREFERENCE = ("int8", "int8_fastest", "int8_blocks", "int4", "int4_fast", "fp32")


def preferred_precision(precisions: Collection[str]) -> str:
    """The one that is run where none is named: good and fast, int8 first."""
    return min(precisions, key=_PREFERENCE.index)


class Artifact:
    """A folder with at least one exported precision.

    Raises:
        UserError: no such folder, not an artifact of this version, files that are missing or cut off.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.report = read_report(folder)
        if self.report.get("route") == OPTIMUM:
            raise UserError(
                f"{folder} was exported by optimum for {self.report.get('task')}: this project's engine runs its own "
                "graphs alone, those of Llama, Mistral, Qwen2 and GPT-2. The folder's README.md says what runs it; its "
                "checks are in report.json."
            )
        if self.report.get("format") != FORMAT:
            raise UserError(
                f"{folder} was written by another version of this project (format {self.report.get('format')}; this "
                f"one reads {FORMAT}). Export the model again."
            )
        for name, facts in self.report["files"].items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != facts["bytes"]:
                raise UserError(f"{path} is missing or cut off. Export the model again.")

    def verify(self) -> None:
        """Reads every file and compares its SHA-256 with the report's.

        Raises:
            UserError: a file was changed or damaged.
        """
        for name, facts in self.report["files"].items():
            if sha256(self.folder / name) != facts["sha256"]:
                raise UserError(
                    f"{self.folder / name} is not the file that was exported (its SHA-256 differs). "
                    "Export the model again."
                )

    @property
    def precisions(self) -> list[str]:
        return list(self.report["precisions"])

    def graph_path(self, precision: str) -> Path:
        """
        Raises:
            UserError: the folder hasn't got this precision.
        """
        if precision not in self.report["precisions"]:
            raise UserError(f"{self.folder} has no precision {precision!r}; it has: {', '.join(self.precisions)}.")
        return self.folder / self.report["precisions"][precision]["file"]

    def encoder_path(self, precision: str) -> Path:
        """The encoding graph; see `graph_path`."""
        self.graph_path(precision)
        return self.folder / encoder_file(precision)

    @property
    def fingerprint(self) -> str:
        """Of the weights that were exported, whatever their precision (see `weights.fingerprint`)."""
        return self.report["fingerprint"]

    @cached_property
    def hugging_face_config(self) -> dict:
        return read_json(self.folder / "config.json")

    @cached_property
    def config(self) -> DecoderConfig:
        return read_config(self.hugging_face_config)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end a text."""
        return end_ids(self.folder)

    def load_tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(self.folder / "tokenizer.json", self._chat_template())

    def _chat_template(self) -> ChatTemplate | None:
        path = self.folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {}
        template_path = self.folder / "chat_template.jinja"
        source = template_path.read_text("utf-8") if template_path.is_file() else settings.get("chat_template")
        if isinstance(source, list):  # several templates by name
            source = next((entry["template"] for entry in source if entry["name"] == "default"), None)
        if source is None:
            return None
        named = {
            key: value["content"] if isinstance(value, dict) else value
            for key, value in settings.items()
            if key.endswith("_token") and isinstance(value, (str, dict))
        }
        return ChatTemplate(source, named)


def read_report(folder: Path) -> dict:
    """
    Raises:
        UserError: no such folder, or no report of an export in it.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}, so it is not an exported model.")
    if not (folder / REPORT_NAME).is_file():
        raise UserError(
            f"{folder} is not an exported model (it has no {REPORT_NAME}). "
            "Make one with: python -m compression export MODEL OUT"
        )
    report = read_json(folder / REPORT_NAME)
    if not isinstance(report.get("files"), dict) or not isinstance(report.get("precisions"), dict):
        raise UserError(f"{folder / REPORT_NAME} is not a report of this project's export. Export the model again.")
    return report


def end_ids(folder: Path) -> frozenset[int]:
    """The tokens that end a text, from generation_config.json or config.json."""
    path = folder / "generation_config.json"
    ids = read_json(path).get("eos_token_id") if path.is_file() else None
    if ids is None:
        ids = read_json(folder / "config.json").get("eos_token_id")
    return frozenset([ids] if isinstance(ids, int) else ids or [])


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
