"""A smaller vocabulary: tokens that a corpus never uses go, with their rows of the embedding and the head.

Any text can still be written and read: the 256 bytes stay, and a word whose token is gone is spelt in smaller pieces.
On the corpus itself the tokens are the same as before.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel

from compression.derived_model import derived
from gpt_tasks.backbone.json_files import read_json, write_json
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.backbone.weights import Model
from gpt_tasks.errors import UserError

_IDS_IN_CONFIG = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "decoder_start_token_id")
_PIECE = 1_000_000  # characters encoded at once


def used_tokens(tokenizer: Tokenizer, text: str) -> set[int]:
    """Ids that occur in a text."""
    used: set[int] = set()
    for begin in range(0, len(text), _PIECE):
        used.update(tokenizer.encode(text[begin : begin + _PIECE]))
    return used


def keep_tokens(model: Model, used: Collection[int], specification: Mapping) -> tuple[Model, list[int]]:
    """The model with a smaller vocabulary, and the old id of each new one.

    Tokens stay that are used, that others which stay are merged from, that stand for single bytes, and all that were
    added to the tokenizer, control tokens among them. Their order stays.

    Args:
        specification: the content of tokenizer.json

    Raises:
        UserError: not a byte-level BPE tokenizer, or one that would lose nothing.
    """
    if specification["model"].get("type") != "BPE" or not _is_byte_level(specification):
        raise UserError(
            "Only the vocabulary of a byte-level BPE tokenizer can be pruned: others could not spell what is gone."
        )
    ids: dict[str, int] = specification["model"]["vocab"]
    tokens = {index: token for token, index in ids.items()}
    added = {entry["id"] for entry in specification["added_tokens"]}
    wanted = {index for index in used if index in tokens} | {ids[byte] for byte in ByteLevel.alphabet() if byte in ids}
    stay = _with_what_they_are_made_of(wanted, ids, tokens, _pairs(specification)) | added
    if len(stay) >= model.config.vocabulary_size:
        raise UserError("The corpus uses every token: there is nothing to take out. Take a smaller corpus.")
    kept = sorted(stay)
    new_ids = {old: new for new, old in enumerate(kept)}
    tables = ("embedding.weight", "head.weight")
    tensors = {name: model.weights[name][kept] if name in tables else model.weights[name] for name in model.weights}
    pruned = derived(model, f"{len(kept)}-tokens", replace(model.config, vocabulary_size=len(kept)), tensors)
    renumbered = _renumbered_config(pruned.hugging_face_config, new_ids)
    smaller = _renumbered_tokenizer(specification, new_ids)
    write = _writer(model.write_tokenizer, smaller, new_ids)
    return replace(pruned, hugging_face_config=renumbered, write_tokenizer=write), kept


def _is_byte_level(specification: Mapping) -> bool:
    return "ByteLevel" in json.dumps(specification.get("pre_tokenizer")) and not specification["model"].get(
        "byte_fallback"
    )


def _pairs(specification: Mapping) -> list[tuple[str, str]]:
    """The merges; older files write a pair as one string."""
    return [
        tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in specification["model"]["merges"]
    ]


def _with_what_they_are_made_of(
    wanted: set[int], ids: Mapping[str, int], tokens: Mapping[int, str], pairs: Sequence[tuple[str, str]]
) -> set[int]:
    """BPE builds a token step by step: without a step in between it would never come to it."""
    made_of: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        made_of.setdefault("".join(pair), []).append(pair)
    stay: set[int] = set()
    waiting = [tokens[index] for index in wanted]
    while waiting:
        token = waiting.pop()
        if ids[token] not in stay:
            stay.add(ids[token])
            waiting += [part for pair in made_of.get(token, ()) for part in pair]
    return stay


def _renumbered_config(config: Mapping, new_ids: Mapping[int, int]) -> dict:
    """config.json or generation_config.json with the ids that it names renumbered."""
    written = dict(config)
    for key in _IDS_IN_CONFIG:
        value = written.get(key)
        if isinstance(value, list):
            written[key] = [new_ids[index] for index in value if index in new_ids]
        elif value is not None:
            written[key] = new_ids.get(value)
    return written


def _renumbered_tokenizer(specification: Mapping, new_ids: Mapping[int, int]) -> dict:
    model = specification["model"]
    vocabulary = {token: new_ids[index] for token, index in model["vocab"].items() if index in new_ids}
    pairs = [pair for pair in _pairs(specification) if {*pair, "".join(pair)} <= vocabulary.keys()]
    added = [{**entry, "id": new_ids[entry["id"]]} for entry in specification["added_tokens"]]
    processor = specification.get("post_processor")
    if processor is not None:
        processor = _renumbered_processor(processor, new_ids)
    return {
        **specification,
        "added_tokens": added,
        "post_processor": processor,
        "model": {**model, "vocab": vocabulary, "merges": [list(pair) for pair in pairs]},
    }


def _renumbered_processor(processor: Mapping, new_ids: Mapping[int, int]) -> dict:
    """A template that puts control tokens before and after a text names them by their ids."""
    written = dict(processor)
    if "processors" in written:
        written["processors"] = [_renumbered_processor(part, new_ids) for part in written["processors"]]
    if "special_tokens" in written:
        written["special_tokens"] = {
            name: {**entry, "ids": [new_ids[index] for index in entry["ids"]]}
            for name, entry in written["special_tokens"].items()
        }
    return written


def _writer(write: Callable[[Path], None], tokenizer: dict, new_ids: Mapping[int, int]) -> Callable[[Path], None]:
    def write_renumbered(folder: Path) -> None:
        write(folder)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1), "utf-8")
        generation = folder / "generation_config.json"
        if generation.is_file():
            write_json(generation, _renumbered_config(read_json(generation), new_ids))

    return write_renumbered
