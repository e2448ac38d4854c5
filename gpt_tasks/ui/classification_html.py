"""A classified text as HTML: bars of probabilities, words coloured by their weight."""

from collections.abc import Sequence
from html import escape

import gradio as gr

from gpt_tasks.tasks.attribution import WordWeight
from gpt_tasks.tasks.classification import Classified
from gpt_tasks.tasks.trained_task import OUT_OF_SCOPE, TrainedTask
from gpt_tasks.ui.texts import say

_BARS = 5
_FAINTEST = 0.08  # of the strongest word's weight: words under it stay plain


def decision(result: Classified, task: TrainedTask | None, request: gr.Request | None) -> str:
    """The label in words, and the likeliest labels as bars.

    Args:
        task: tells the label's domain; None: labels of the visitor's own
    """
    if result.out_of_scope:
        headline = f'<div class="decision outside">{escape(say(request, "out_of_scope"))}</div>'
    else:
        domain = task.domain_of(result.label) if task is not None else None
        place = f'<span class="domain">{escape(name_of(domain))}</span>' if domain else ""
        headline = f'<div class="decision">{escape(name_of(result.label))}{place}</div>'
    likeliest = sorted(result.probabilities.items(), key=lambda item: -item[1])[:_BARS]
    names = {OUT_OF_SCOPE: say(request, "out_of_scope_short")} if task is not None else {}
    bars = "".join(
        _bar(names.get(label, name_of(label)), probability, label == result.label) for label, probability in likeliest
    )
    return f'<div role="status">{headline}<div class="bars">{bars}</div></div>'


def name_of(label: str) -> str:
    """A label as people read it."""
    return label.replace("_", " ")


def _bar(name: str, probability: float, chosen: bool) -> str:
    percent = f"{100 * probability:.1f}"
    kind = "bar chosen" if chosen else "bar"
    return (
        f'<div class="{kind}"><span class="bar-name">{escape(name)}</span>'
        f'<span class="bar-track"><span class="bar-fill" style="width:{percent}%"></span></span>'
        f'<span class="bar-value">{percent} %</span></div>'
    )


def words(text: str, weights: Sequence[WordWeight], request: gr.Request | None) -> str:
    """The text, what speaks for the label in one colour and what speaks against it in another."""
    strongest = max((abs(word.weight) for word in weights), default=0)
    if strongest == 0:
        return ""
    pieces, position = [], 0
    for word in weights:
        pieces.append(escape(text[position : word.start]))
        share = abs(word.weight) / strongest
        inner = escape(text[word.start : word.end])
        if share >= _FAINTEST:
            kind = "for" if word.weight > 0 else "against"
            title = say(request, f"word_{kind}", weight=f"{abs(word.weight):.2f}")
            inner = f'<mark class="{kind}" style="--share:{share:.2f}" title="{escape(title)}">{inner}</mark>'
        pieces.append(inner)
        position = word.end
    pieces.append(escape(text[position:]))
    legend = (
        f'<div class="legend"><mark class="for" style="--share:1">{escape(say(request, "legend_for"))}</mark> '
        f'<mark class="against" style="--share:1">{escape(say(request, "legend_against"))}</mark></div>'
    )
    return f'<div class="words">{"".join(pieces)}</div>{legend}'
