"""Text to token ids and back, by the `tokenizers` library."""

import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from gpt_tasks.backbone.chat_template import ChatTemplate, Message
from gpt_tasks.errors import UserError

_CONTROL_TOKEN = 3  # llama.cpp's token type for tokens such as <|im_end|>
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MOST_HELD_TOKENS = 8  # a character has at most 4 bytes, so at most 4 tokens: more than that is no character


def tokenizer_from_gguf(
    tokens: list[str], types: list[int], merges: list[str], pre_tokenizer: str
) -> tokenizers.Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2) from the lists in a GGUF file.

    Raises:
        UserError: a pre-tokenizer other than SmolLM's, which splits digits one by one.
    """
    if pre_tokenizer != "smollm":
        raise UserError(f"This GGUF file's pre-tokenizer {pre_tokenizer!r} is not supported; only 'smollm' is.")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    return tokenizer


class Tokenizer:
    """A model's tokenizer and chat template.

    A person's text never becomes a control token: a typed "<|im_end|>" is encoded as the
    characters it consists of, so that nobody can end their turn and speak as the system.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, chat_template: ChatTemplate | None = None) -> None:
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._lock = Lock()  # `encode_special_tokens` belongs to the library's object, which threads share
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")

    @classmethod
    def from_file(cls, path: Path, chat_template: ChatTemplate | None = None) -> "Tokenizer":
        """
        Raises:
            UserError: there is no tokenizer.json, or it can't be read.
        """
        if not path.is_file():
            raise UserError(
                f"{path.parent} has no {path.name}. A model's folder needs one (transformers' fast tokenizers "
                "write it with save_pretrained)."
            )
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)), chat_template)
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{path} can't be read as a tokenizer: {error}.") from error

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def vocabulary(self) -> dict[str, int]:
        """Token, as the tokenizer spells it -> its number."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    @property
    def has_chat_template(self) -> bool:
        return self._chat_template is not None

    def require_chat_template(self) -> None:
        """
        Raises:
            UserError: the model has none.
        """
        if self._chat_template is None:
            raise UserError(
                "This model has no chat template, so it can't hold a dialogue. Use open-ended writing, or a "
                "model that was tuned for chat (its tokenizer_config.json has a chat_template).",
                key="no_chat_template",
            )

    def encode(self, text: str, special: bool = False, begin: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
            special: read control tokens that are written in the text. Never for a person's text.
            begin: add what the model wants before a text, such as a token for its beginning
        """
        with self._lock:
            self._tokenizer.encode_special_tokens = not special
            return self._tokenizer.encode(replace_surrogates(text), add_special_tokens=begin).ids

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a whole chat by the model's template, up to where the answer begins.

        Raises:
            UserError: the model has no chat template, or the template refuses.
        """
        self.require_chat_template()
        # Control tokens written by a person are hidden from the encoder behind marks of their own.
        hidden: list[str] = []

        def hide(match: re.Match) -> str:
            hidden.append(match.group())
            return _mark(len(hidden) - 1)

        safe = [
            {**message, "content": self._special.sub(hide, replace_surrogates(message["content"]).replace("\0", " "))}
            for message in messages
        ]
        ids: list[int] = []
        for piece in re.split(f"({_MARK_PATTERN})", self._chat_template.render(safe)):
            if re.fullmatch(_MARK_PATTERN, piece):
                ids += self.encode(hidden[int(piece.strip("\0"))])
            elif piece:
                ids += self.encode(piece, special=True)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; control tokens have none."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def stream_decoder(self) -> "StreamDecoder":
        return StreamDecoder(self)


_MARK_PATTERN = r"\0\d+\0"  # NUL can't come from a message: it is taken out before


def _mark(index: int) -> str:
    return f"\0{index}\0"


def replace_surrogates(text: str) -> str:
    """Half a character (a lone surrogate, from a broken clipboard or file name) has no UTF-8: it becomes U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class StreamDecoder:
    """Turns ids that arrive one by one into text, never half a character.

    The pieces joined are what decoding all ids at once gives.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context = 0  # ids from here on are decoded together: some tokenizers treat a first token unlike the rest
        self._shown = 0  # ids up to here have been given out

    def push(self, token_id: int) -> str:
        """The text that is complete with this token, often empty inside an emoji or a Chinese character."""
        self._ids.append(token_id)
        text = self._text_of_the_rest()
        if text.endswith(_REPLACEMENT) and len(self._ids) - self._shown < _MOST_HELD_TOKENS:
            return ""
        self._context, self._shown = self._shown, len(self._ids)
        return text

    def finish(self) -> str:
        """What is left, a broken character as U+FFFD."""
        text = self._text_of_the_rest()
        self._context = self._shown = len(self._ids)
        return text

    def _text_of_the_rest(self) -> str:
        before = self._tokenizer.decode(self._ids[self._context : self._shown])
        return self._tokenizer.decode(self._ids[self._context :])[len(before) :]
