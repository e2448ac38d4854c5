"""Open-ended writing: the model continues a text."""

from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.tasks.prompt import Prompt, last_tokens, require_text

NAME = "open_ended"
SAMPLING = SamplingOptions(repetition_penalty=1.15, temperature=0.8, top_k=50, top_p=0.95)


def make_prompt(tokenizer: Tokenizer, text: str, room: int) -> Prompt:
    """The text itself. Of one that is too long the end is kept, since that is what is continued.

    Args:
        room: the most tokens that the prompt may have

    Raises:
        UserError: an empty text.
    """
    require_text(text, "The text", key="empty_text")
    return Prompt(*last_tokens(tokenizer, text, room))
