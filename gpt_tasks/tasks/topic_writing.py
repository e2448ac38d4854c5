"""Writing on a topic: topic, form and keywords become an instruction that one can see."""

from collections.abc import Sequence

from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.tokenizer import Tokenizer
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.prompt import Prompt, require_encodable, require_text, too_long

NAME = "topic_writing"
SAMPLING = SamplingOptions(repetition_penalty=1.1, temperature=0.7, top_k=50, top_p=0.95)

FORMS = {
    "story": "a short story",
    "news_item": "a news item with a headline",
    "poem": "a poem",
    "product_description": "a product description",
    "email": "an e-mail with a subject line",
}
_SYSTEM = "You are a skilled writer. You write exactly the text that you are asked for, and nothing else."


def instruction(topic: str, form: str, keywords: Sequence[str] = ()) -> str:
    """What the model is asked for, in words.

    Raises:
        UserError: an empty topic, an unknown form.
    """
    require_text(topic, "The topic", key="empty_topic")
    if form not in FORMS:
        raise UserError(f"The form {form!r} is unknown; there are: {', '.join(FORMS)}.", key="unknown_form", form=form)
    words = [keyword.strip() for keyword in keywords if keyword.strip()]
    include = f" Include these words: {', '.join(words)}." if words else ""
    return f"Write {FORMS[form]} about {topic.strip()}.{include}"


def make_prompt(tokenizer: Tokenizer, request: str, room: int) -> Prompt:
    """An instruction as the model reads it: in its chat template, or, where it has none, as a plain line.

    Args:
        request: from `instruction`, perhaps edited
        room: the most tokens that the prompt may have

    Raises:
        UserError: an empty request, or one that doesn't fit.
    """
    require_text(request, "The prompt", key="empty_text")
    require_encodable(len(request), room, "The prompt", key="prompt_too_long")
    if tokenizer.has_chat_template:
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": request}]
        ids = tokenizer.encode_chat(messages)
    else:
        ids = tokenizer.encode(f"{request}\n\n", begin=True)
    if len(ids) > room:
        raise too_long("The prompt", len(request), room, key="prompt_too_long")
    return Prompt(ids, request)
