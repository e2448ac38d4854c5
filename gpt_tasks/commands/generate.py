"""Write a text with the shared GPT.

  python -m gpt_tasks generate "Once upon a time"
  python -m gpt_tasks generate --task topic_writing --form poem --keywords "sea, lamp" "an old lighthouse"
  python -m gpt_tasks generate --task dialogue "What is the capital of France?"
  cat story.txt | python -m gpt_tasks generate - --json

The text streams to the terminal. A dialogue without a prompt goes on turn by turn, until end of file.
The first run prepares the model, as `python -m gpt_tasks prepare` does.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator

from gpt_tasks.backbone.backbone import MODEL_VARIABLE, Backbone, load_backbone
from gpt_tasks.backbone.chat_template import Message
from gpt_tasks.backbone.generate import Event, Generated, Piece, Reading
from gpt_tasks.backbone.ort_engine import PREFILL_CHUNK
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks import dialogue, open_ended, topic_writing
from gpt_tasks.tasks.prompt import Prompt, room_for_prompt
from gpt_tasks.tasks.registry import WRITING, writing_task

_DEFAULT_LENGTH = 256

SUMMARY = "write a text: continue one, write on a topic, or chat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompt", nargs="?", help="the text to continue, the topic, or the message; - reads standard input"
    )
    parser.add_argument(
        "--task", default=open_ended.NAME, metavar="TASK", help=f"{', '.join(WRITING)} (default: %(default)s)"
    )
    parser.add_argument(
        "--form", default="story", help=f"topic_writing: {', '.join(topic_writing.FORMS)} (default: story)"
    )
    parser.add_argument("--keywords", default="", help="topic_writing: words to include, separated by commas")
    parser.add_argument("--system", default=dialogue.SYSTEM, help="dialogue: the system prompt")
    parser.add_argument(
        "--model", metavar="DIR", help=f"an exported model's folder (default: ${MODEL_VARIABLE}, or the default model)"
    )
    parser.add_argument("--precision", help="which of the folder's precisions to run, such as fp32")
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help=f"the most tokens to write (default: {_DEFAULT_LENGTH}, or half of a shorter context)",
    )
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="0: always the likeliest token; higher: more varied"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="choose among the K likeliest tokens (0: all)")
    parser.add_argument(
        "--top-p", type=float, metavar="P", help="choose among the likeliest tokens of total probability P"
    )
    parser.add_argument(
        "--min-p", type=float, metavar="P", help="leave out tokens below P times the likeliest one's probability"
    )
    parser.add_argument(
        "--repetition-penalty", type=float, metavar="R", help="above 1: discourage words that were there (1: off)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed writes the same text")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text (may be given several times)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of streaming")


def run(arguments: argparse.Namespace) -> None:
    task = writing_task(arguments.task)
    given = {
        field.name: value
        for field in dataclasses.fields(SamplingOptions)
        if (value := getattr(arguments, field.name)) is not None
    }
    sampling = dataclasses.replace(task.SAMPLING, **given)
    interactive = arguments.prompt is None and task is dialogue and not arguments.json
    if arguments.prompt is None and not interactive:
        raise UserError("There is no prompt. Give it as the last argument, or - to read standard input.")
    text = sys.stdin.buffer.read().decode("utf-8", "replace") if arguments.prompt == "-" else arguments.prompt
    if text is not None:
        text = replace_surrogates(text)  # bytes of an argument that are no UTF-8
        if not text.strip():
            raise UserError("The prompt is empty. Write something first.")
    if arguments.max_new_tokens is not None and arguments.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens must be at least 1, not {arguments.max_new_tokens}.")
    with make_reporter("bar" if sys.stderr.isatty() else "none") as report:
        backbone = load_backbone(arguments.model, arguments.precision, report)
    length = arguments.max_new_tokens or min(_DEFAULT_LENGTH, backbone.context_length // 2)
    room = room_for_prompt(backbone.context_length, length)

    def write(prompt: Prompt) -> Iterator[Event]:
        for notice in prompt.notices:
            sys.stderr.write(f"note: {notice.message}\n")
        return backbone.write(prompt.ids, sampling, length, arguments.stop, conversation="this one")

    if interactive:
        _chat(backbone, write, room, arguments.system)
        return
    if task is dialogue:
        messages = [Message(role="user", content=text)]
        prompt = dialogue.make_prompt(backbone.tokenizer, messages, room, arguments.system)
    elif task is topic_writing:
        request = topic_writing.instruction(text, arguments.form, arguments.keywords.split(","))
        prompt = topic_writing.make_prompt(backbone.tokenizer, request, room)
    else:
        prompt = open_ended.make_prompt(backbone.tokenizer, text, room)
    if arguments.json:
        *_, result = write(prompt)
        print(
            json.dumps(
                {
                    **dataclasses.asdict(result),
                    "prompt": prompt.text,
                    "notices": [notice.message for notice in prompt.notices],
                },
                ensure_ascii=False,
            )
        )
    else:
        _stream(write(prompt))


def _stream(events: Iterator[Event]) -> Generated:
    """Prints the text as it comes, then the figures on standard error."""
    for event in _after_reading(events):
        if isinstance(event, Piece):
            print(event.text, end="", flush=True)
    print()
    sys.stderr.write(
        f"[{event.prompt_tokens} prompt tokens ({event.reused_tokens} reused), {event.new_tokens} new; first after "
        f"{event.time_to_first_token_ms:.0f} ms, then {event.tokens_per_second:.0f} tokens/s; "
        f"ended by {event.stop_reason.replace('_', ' ')}]\n"
    )
    return event


def _after_reading(events: Iterator[Event]) -> Iterator[Event]:
    """Tells how far the prompt is read, and passes on what comes then."""
    with make_reporter("bar" if sys.stderr.isatty() else "none") as report:
        for event in events:
            if not isinstance(event, Reading):
                break
            if event.total > PREFILL_CHUNK:  # a shorter prompt is read at once
                report(Progress("reading", event.done, event.total, "tokens"))
    yield event
    yield from events


def _chat(backbone: Backbone, write, room: int, system: str) -> None:
    """Reads messages line by line from standard input and answers each, until its end."""
    messages: list[Message] = []
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if not line.strip():
            continue
        messages.append(Message(role="user", content=line.strip()))
        answer = _stream(write(dialogue.make_prompt(backbone.tokenizer, messages, room, system)))
        messages.append(Message(role="assistant", content=answer.text))
