"""Find entities, relations or events in a text.

python -m gpt_tasks extract --task entities --text "Ada Lovelace was born in London."
python -m gpt_tasks extract --task relations --file article.txt --json
cat note.txt | python -m gpt_tasks extract --task events --schema phee -
"""

import argparse
import json
import sys
from pathlib import Path

from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.commands.classification_options import named_model
from gpt_tasks.commands.extraction_options import add_extraction_arguments, load_named_extraction, open_extractor
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.extraction.formats import as_conll, as_csv, as_record
from gpt_tasks.tasks.extraction.text_extraction import Extracted, Part, TextSpan, require_text

SUMMARY = "find entities, relations or events in a text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_extraction_arguments(parser)
    parser.add_argument("--text", help="a text")
    parser.add_argument("--file", type=Path, help="a text file (UTF-8)")
    parser.add_argument("stdin", nargs="?", choices=["-"], help="read the text from standard input")
    parser.add_argument("--threshold", type=float, default=0.0, help="leave out what is less sure than this, 0 to 1")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print JSON")
    formats.add_argument("--csv", action="store_true", help="print CSV")
    formats.add_argument(
        "--conll", action="store_true", help="print words with their BIO tags, and a column for each event or head"
    )
    parser.add_argument("--progress", choices=["bar", "json", "none"], default="bar")


def run(arguments: argparse.Namespace) -> None:
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold must be between 0 and 1, got {arguments.threshold}.")
    text = _text(arguments)
    require_text(text)
    with make_reporter(arguments.progress) as report:
        artifact = named_model(arguments.model, report)
        task = load_named_extraction(arguments.task, arguments.schema, artifact)
        extractor = open_extractor(artifact, arguments.precision)

        def done(part: Part) -> None:
            report(Progress("extracting", part.words_done, part.words, "words"))

        found = extractor.extract(text, [task], done)[0].above(arguments.threshold)
    if arguments.json:
        sys.stdout.write(json.dumps(as_record(found), ensure_ascii=False, indent=2) + "\n")
    elif arguments.csv:
        sys.stdout.write(as_csv(found))
    elif arguments.conll:
        sys.stdout.write(as_conll(text, found))
    else:
        sys.stdout.write(_lines(found))


def _text(arguments: argparse.Namespace) -> str:
    given = [arguments.text is not None, arguments.file is not None, arguments.stdin is not None]
    if sum(given) != 1:
        raise UserError("Give one of: --text TEXT, --file FILE, or - for standard input.")
    if arguments.text is not None:
        return replace_surrogates(arguments.text)
    name = "standard input" if arguments.file is None else str(arguments.file)
    try:
        content = sys.stdin.buffer.read() if arguments.file is None else arguments.file.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{name} can't be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error


def _lines(found: Extracted) -> str:
    lines = [_line(span) for span in found.entities]
    lines += [
        f"{_short(link.head.text)} -- {link.label} -> {_short(link.tail.text)}  {100 * link.confidence:.0f} %"
        for link in found.relations
    ]
    for event in found.events:
        lines.append(_line(event.trigger))
        lines += [
            f"    {link.label}: {_short(link.tail.text)}  {100 * link.confidence:.0f} %" for link in event.arguments
        ]
    return "".join(f"{line}\n" for line in lines) or f"no {found.task} found\n"


def _line(span: TextSpan) -> str:
    return f"{span.start}-{span.end}  {span.label}  {_short(span.text)}  {100 * span.confidence:.0f} %"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:59]}…"
