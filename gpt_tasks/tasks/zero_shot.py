"""Any labels, no training: the language model says which one it would write after the text.

    score(label) = log p(label | text, template) - mean of log p(label | content-free text, template)

The second part is contextual calibration (Zhao et al. 2021): some labels are likely whatever the text is, since they
are frequent words or short ones, and what they get from a text that says nothing is taken off.
"""

from collections.abc import Sequence

import numpy as np

from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.classification import Classified, require_texts
from gpt_tasks.tasks.heads import softmax

TEMPLATE = "This text is about {}."
MOST_LABELS = 50
_MOST_TOKENS = 1024
_CONTENT_FREE = ("N/A", "[MASK]", "...")
_LONGEST_LABEL, _LONGEST_TEMPLATE = 100, 300  # characters


class ZeroShotClassifier:
    """Labels and template on a language model. Texts are scored one by one.

    Args:
        template: has one "{}", where a label goes; what stands after it is not scored

    Raises:
        UserError: fewer than two labels, too many, an empty one, the same twice, a template without its place or
            too long.
    """

    def __init__(
        self, engine: OrtEngine, tokenizer: Tokenizer, labels: Sequence[str], template: str = TEMPLATE
    ) -> None:
        self.labels = check_labels(labels)
        if template.count("{}") != 1:
            raise UserError(
                f'The template must have "{{}}" once, where the label goes, such as "{TEMPLATE}"',
                key="template_wrong",
            )
        if len(template) > _LONGEST_TEMPLATE:
            raise UserError(
                f"The template has {len(template)} characters; at most {_LONGEST_TEMPLATE} are taken.",
                key="template_long",
                most=_LONGEST_TEMPLATE,
            )
        self._engine, self._tokenizer = engine, tokenizer
        self.most_tokens = min(_MOST_TOKENS, engine.config.context_length // 2)
        """of a text; what comes after them isn't read"""
        self._before = template.split("{}")[0].rstrip()
        # A space before a word is part of its token: it belongs to the label, not to what stands before.
        self._label_ids = [tokenizer.encode(f" {label}") for label in self.labels]
        self._bias = np.mean([self._likelihoods(tokenizer.encode(text)) for text in _CONTENT_FREE], axis=0)

    def classify(self, text: str) -> Classified:
        """
        Raises:
            UserError: an empty text.
        """
        require_texts([text])
        ids = self._tokenizer.encode(text)
        scores = self._likelihoods(ids[: self.most_tokens]) - self._bias
        probabilities = softmax(scores).astype(np.float32)
        cut = len(ids) > self.most_tokens
        return Classified(self.labels[int(scores.argmax())], self.labels, probabilities, False, len(ids), 1, cut=cut)

    def _likelihoods(self, text: list[int]) -> np.ndarray:
        """log p(label | text and the template's beginning) of each label: [labels]"""
        prompt = [*text, *self._tokenizer.encode(f"\n{self._before}")]
        cache = self._engine.new_cache()
        first = _log_softmax(self._engine.read(prompt, cache))[0]  # [vocabulary], after the prompt
        result = []
        for label in self._label_ids:
            likelihood = first[label[0]]
            if len(label) > 1:
                after = _log_softmax(self._engine.read(label[:-1], cache, all_logits=True))  # [tokens, vocabulary]
                likelihood += after[np.arange(len(label) - 1), label[1:]].sum()
                del cache.ids[len(prompt) :]  # the next label reads the same prompt
            result.append(likelihood)
        return np.array(result)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def check_labels(labels: Sequence[str]) -> list[str]:
    """The labels without white space around them.

    Raises:
        UserError: see `ZeroShotClassifier`.
    """
    stripped = [label.strip() for label in labels]
    if len(stripped) > MOST_LABELS or any(len(label) > _LONGEST_LABEL for label in stripped):
        raise UserError(
            f"At most {MOST_LABELS} labels of {_LONGEST_LABEL} characters each can be compared.",
            key="labels_too_many",
            most=MOST_LABELS,
            longest=_LONGEST_LABEL,
        )
    if any(not label for label in stripped):
        raise UserError("A label is empty. Give every label a name.", key="label_empty")
    twice = next((label for label in stripped if [other.lower() for other in stripped].count(label.lower()) > 1), None)
    if twice is not None:
        raise UserError(f"The label {twice!r} is there twice. Leave one of them out.", key="label_twice", label=twice)
    if len(stripped) < 2:
        raise UserError("At least two labels are needed, separated by commas.", key="labels_too_few")
    return stripped
