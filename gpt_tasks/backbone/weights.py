"""Weights of a GPT from wherever they are: the default model, a local folder, a hub."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpt_tasks.backbone.architectures import family_of, read_config
from gpt_tasks.backbone.default_model import GGUF_SHA256, default_gguf
from gpt_tasks.backbone.hub import fetch, fetch_config, find_repository, is_hub_id
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.backbone.safetensors_reader import SafetensorsFolder
from gpt_tasks.backbone.tokenizer import tokenizer_from_gguf
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Report, silent
from gpt_tasks.transformer.config import DecoderConfig
from gpt_tasks.transformer.shapes import tensor_shape

if TYPE_CHECKING:
    from gpt_tasks.backbone.gguf_reader import GgufFile

DEFAULT = "default"
DEFAULT_NAME = "SmolLM2-135M-Instruct"
CHECKPOINT_FILES = ("*.json", "*.jinja", "*.safetensors")
"""what is fetched from a hub, as patterns"""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


class DecoderWeights(Mapping[str, np.ndarray]):
    """A checkpoint's tensors under our own names (those of `Decoder`'s parameters), in fp32.

    A tensor is read, dequantized and transformed when it is asked for, so that a model never
    has to be in memory as a whole.

    Raises:
        UserError: tensors that are missing from the checkpoint, or, when they are read, not finite or of another shape.
    """

    def __init__(
        self, config: DecoderConfig, checkpoint: Mapping[str, np.ndarray], hugging_face_config: Mapping
    ) -> None:
        self.config = config
        self.checkpoint = checkpoint
        family = family_of(hugging_face_config)
        self._sources = family.sources(config)
        self._prefix = family.prefix
        missing = [source.name for source in self._sources.values() if self._find(source.name) is None]
        if missing:
            raise UserError(
                f"The checkpoint lacks {len(missing)} tensors of a {family.name} model, such as {missing[0]}. "
                "Does its config.json belong to it?"
            )

    def _find(self, name: str) -> str | None:
        """Some checkpoints leave out the name of the module that holds everything but the head."""
        return next((n for n in (name, name.removeprefix(self._prefix)) if n in self.checkpoint), None)

    def __getitem__(self, name: str) -> np.ndarray:
        source = self._sources[name]
        tensor = self.checkpoint[self._find(source.name)]
        if not np.isfinite(tensor).all():
            raise UserError(
                f"The tensor {source.name} has NaN or infinite weights: the checkpoint is damaged, or its training "
                "failed. Fetch it again, or take an earlier one."
            )
        tensor = np.ascontiguousarray(source.transform(tensor), dtype=np.float32)
        expected = tensor_shape(self.config, name)
        if tensor.shape != expected:
            raise UserError(f"{name} has the shape {tensor.shape}; its config.json says {expected}.")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


class HeldWeights(dict[str, np.ndarray]):
    """Weights in memory under our own names: of a model that was changed here, or that is read again and again."""

    def __init__(self, config: DecoderConfig, tensors: Mapping[str, np.ndarray]) -> None:
        super().__init__(tensors)
        self.config = config


def fingerprint(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the norms: quick, and no two pretrainings share them.

    It tells which backbone a task's folder was made for. It doesn't tell a model from what was made of it: a LoRA
    correction, pruned heads, neurons or tokens and zeros leave the norms alone, and fresh models have the same ones.
    `content_hash` does.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if "norm" in name):
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Model:
    """A model as it was found: everything that an export needs."""

    name: str
    source: dict[str, str]
    """where it came from, for the records: kind and, as known, sha256, repository, revision"""
    hugging_face_config: dict
    config: DecoderConfig
    weights: DecoderWeights | HeldWeights
    write_tokenizer: Callable[[Path], None]
    """writes tokenizer.json and its companions (TOKENIZER_FILES, as far as there are) into a folder"""


def content_hash(model: Model) -> str:
    """BLAKE2b of the configuration and of every tensor: another one for whatever was changed in a model.

    Reads all weights, a tensor at a time.
    """
    digest = hashlib.blake2b(digest_size=32)
    digest.update(json.dumps(model.hugging_face_config, sort_keys=True).encode())
    for name in sorted(model.weights):
        tensor = np.ascontiguousarray(model.weights[name])
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def open_model(name: str, report: Report = silent, revision: str | None = None) -> Model:
    """Finds a model by name: `default`, a local folder, a .gguf file or a hub id such as `openai-community/gpt2`.

    Args:
        revision: a branch, tag or commit: the name is a hub's then, whatever is on the disk

    Raises:
        UserError: nothing of that name, a family that isn't supported, weights that can't be read.
    """
    path = Path(name).expanduser()
    if not name.strip():
        raise UserError(f"MODEL is empty. Name a folder, a hub id, or '{DEFAULT}'.")
    if revision is not None:
        return _open_hub(name, revision)
    if name == DEFAULT:
        return _open_gguf(default_gguf(report), DEFAULT_NAME, {"kind": "default", "sha256": GGUF_SHA256})
    if path.suffix == ".gguf" and path.is_file():
        return _open_gguf(path, path.stem, {"kind": "gguf"})
    if path.is_dir():
        return _open_folder(path, path.resolve().name, {"kind": "folder"})
    if not is_hub_id(name):
        raise UserError(
            f"{name} is not a model's folder. Name a folder with config.json, tokenizer.json and "
            f"safetensors, a hub id, or '{DEFAULT}'."
        )
    return _open_hub(name, None)


def read_model_config(name: str, report: Report = silent, revision: str | None = None) -> DecoderConfig:
    """What `open_model` would open, as far as its sizes go: of a hub's model only config.json is fetched.

    Raises:
        UserError: see `open_model`.
    """
    if revision is not None or (name != DEFAULT and is_hub_id(name)):
        return read_config(fetch_config(find_repository(name, revision)))
    return open_model(name, report).config


def _open_gguf(path: Path, name: str, source: dict[str, str]) -> Model:
    from gpt_tasks.backbone.gguf_reader import GgufFile  # brings gguf, which a page on a prepared model needn't have

    file = GgufFile(path)
    hugging_face_config = file.config()
    config = read_config(hugging_face_config)
    return Model(
        name,
        source,
        hugging_face_config,
        config,
        DecoderWeights(config, file, hugging_face_config),
        write_tokenizer=lambda folder: _write_gguf_tokenizer(file, hugging_face_config, folder),
    )


def _write_gguf_tokenizer(file: "GgufFile", config: Mapping, folder: Path) -> None:
    tokens = file.field("tokenizer.ggml.tokens")
    tokenizer = tokenizer_from_gguf(
        tokens,
        file.field("tokenizer.ggml.token_type"),
        file.field("tokenizer.ggml.merges"),
        file.field("tokenizer.ggml.pre"),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {
        f"{part}_token": tokens[config[f"{part}_token_id"]]
        for part in ("bos", "eos", "pad")
        if config[f"{part}_token_id"] is not None
    }
    unknown = file.field("tokenizer.ggml.unknown_token_id")
    if unknown is not None:
        named["unk_token"] = tokens[unknown]
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"],
            "padding_side": "left",
            "model_input_names": ["input_ids", "attention_mask"],
            **named,
        },
    )
    write_json(folder / "special_tokens_map.json", named)
    template = file.field("tokenizer.chat_template")
    if template:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    # A chat ends with eos, a plain text with <|endoftext|>, which this file calls its unknown token.
    ends = [index for index in (config["eos_token_id"], unknown) if index is not None]
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": config["bos_token_id"], "eos_token_id": ends, "pad_token_id": config["pad_token_id"]},
    )


def _open_folder(folder: Path, name: str, source: dict[str, str]) -> Model:
    hugging_face_config = read_json(folder / "config.json")
    config = read_config(hugging_face_config)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"{folder} has no tokenizer.json. Write one with transformers' fast tokenizer: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    weights = DecoderWeights(config, SafetensorsFolder(folder), hugging_face_config)
    return Model(
        name,
        source,
        hugging_face_config,
        config,
        weights,
        write_tokenizer=lambda target: copy_tokenizer(folder, target),
    )


def copy_tokenizer(folder: Path, target: Path) -> None:
    """tokenizer.json and its companions, as far as there are."""
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _open_hub(name: str, revision: str | None) -> Model:
    repository = find_repository(name, revision)
    read_config(fetch_config(repository))  # first: a model that isn't supported is refused before it is downloaded
    return _open_folder(fetch(repository, CHECKPOINT_FILES), name.split("/")[-1], repository.record)
