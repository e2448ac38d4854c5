"""Classify one text or many.

python -m gpt_tasks classify --task sentiment --text "What a lovely day."
python -m gpt_tasks classify --task intent --file questions.csv --json
cat lines.txt | python -m gpt_tasks classify --task news_topic -
python -m gpt_tasks classify --labels sports,cooking,astronomy --text "Chop the onions."
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from gpt_tasks.backbone.backbone import load_backbone
from gpt_tasks.backbone.tokenizer import replace_surrogates
from gpt_tasks.commands.classification_options import add_task_arguments, make_classifier
from gpt_tasks.errors import UserError
from gpt_tasks.progress import Progress, Report
from gpt_tasks.progress_output import make_reporter
from gpt_tasks.tasks.classification import Classified, TextClassifier, require_texts
from gpt_tasks.tasks.taught import TaughtClassifier
from gpt_tasks.tasks.text_files import parse_texts, read_text_file
from gpt_tasks.tasks.zero_shot import TEMPLATE, ZeroShotClassifier

SUMMARY = "classify texts: sentiment, news topic, intent, or a task of your own"
_SHOWN = 3  # labels of a text on a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser, required=False)
    parser.add_argument("--labels", metavar="A,B,...", help="instead of a task: any labels, without training")
    parser.add_argument("--template", help=f"with --labels: a sentence with {{}} for the label ({TEMPLATE!r})")
    parser.add_argument("--text", help="a text")
    parser.add_argument("--file", type=Path, help="many: .csv or .jsonl with 'text', or one a line")
    parser.add_argument("stdin", nargs="?", choices=["-"], help="read texts from standard input, one a line")


def run(arguments: argparse.Namespace) -> None:
    if (arguments.task is None) == (arguments.labels is None):
        raise UserError("Give either --task TASK or --labels A,B,...")
    if arguments.template is not None and arguments.labels is None:
        raise UserError("--template belongs to --labels.")
    texts = _texts(arguments)
    require_texts(texts)
    with make_reporter(arguments.progress) as report:

        def done(count: int) -> None:
            if len(texts) > 1:
                report(Progress("classifying", count, len(texts), "texts"))

        if arguments.labels is not None:
            zero_shot = _zero_shot_classifier(arguments, report)
            results = []
            for count, text in enumerate(texts, 1):
                results.append(zero_shot.classify(text))
                done(count)
            record, line = _zero_shot_record, partial(_zero_shot_line, zero_shot.most_tokens)
        else:
            classifier = make_classifier(arguments, report)
            results = classifier.classify(texts, done)
            record, line = partial(_record, classifier), _line
    for text, result in zip(texts, results, strict=True):  # of many texts, one record at a time is in memory
        shown = json.dumps(record(text, result), ensure_ascii=False) if arguments.json else line(text, result)
        sys.stdout.write(shown + "\n")


def _zero_shot_classifier(arguments: argparse.Namespace, report: Report) -> ZeroShotClassifier:
    backbone = load_backbone(arguments.model, arguments.precision, report)
    return ZeroShotClassifier(
        backbone.engine,
        backbone.tokenizer,
        arguments.labels.split(","),
        TEMPLATE if arguments.template is None else arguments.template,
    )


def _zero_shot_record(text: str, result: Classified) -> dict:
    return {
        "text": text,
        "label": result.label,
        "tokens": result.tokens,
        "cut": result.cut,
        "probabilities": result.probabilities,
    }


def _zero_shot_line(most_tokens: int, text: str, result: Classified) -> str:
    cut = f"  [cut to {most_tokens} of {result.tokens} tokens]" if result.cut else ""
    return _line(text, result) + cut


def _texts(arguments: argparse.Namespace) -> list[str]:
    given = [arguments.text is not None, arguments.file is not None, arguments.stdin is not None]
    if sum(given) != 1:
        raise UserError("Give one of: --text TEXT, --file FILE, or - for standard input.")
    if arguments.text is not None:
        return [replace_surrogates(arguments.text)]
    if arguments.file is not None:
        return [row.text for row in read_text_file(arguments.file)]
    return [row.text for row in parse_texts(sys.stdin.buffer.read(), "standard input")]


def _record(classifier: TextClassifier | TaughtClassifier, text: str, result: Classified) -> dict:
    record = {"text": text, "label": result.label, "probability": result.confidence}
    if isinstance(classifier, TextClassifier) and classifier.task.out_of_scope is not None:
        record["out_of_scope"] = result.out_of_scope
        record["domain"] = classifier.task.domain_of(result.label)
    return {
        **record,
        "tokens": result.tokens,
        "windows": result.windows,
        "probabilities": dict(sorted(result.probabilities.items(), key=lambda item: -item[1])),
    }


def _line(text: str, result: Classified) -> str:
    short = " ".join(text.split())
    short = short if len(short) <= 60 else f"{short[:59]}…"
    others = sorted((item for item in result.probabilities.items() if item[0] != result.label), key=lambda i: -i[1])
    rest = ", ".join(f"{name} {100 * p:.1f} %" for name, p in others[: _SHOWN - 1])
    long = f"  [{result.tokens} tokens, read in {result.windows} windows]" if result.windows > 1 else ""
    if result.out_of_scope:
        return f"out of scope  (nearest: {rest}){long}  {short}"
    return f"{result.label}  {100 * result.confidence:.1f} %  ({rest}){long}  {short}"
