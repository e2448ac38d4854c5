"""What was found in a text, as HTML: marked words, a table and a picture of relations, cards of events."""

import math
from collections.abc import Sequence
from html import escape

import gradio as gr

from gpt_tasks.tasks.extraction.text_extraction import Extracted, TextEvent, TextLink, TextSpan
from gpt_tasks.ui.streaming import notice_line
from gpt_tasks.ui.texts import has_text, say

_MOST_SHOWN = 30_000  # characters of a text
_MOST_ROWS = 100
_MOST_EDGES = 14
_COLOURS = 8  # that the style sheet has
_WIDTH, _HEIGHT, _LETTER, _LONGEST_NODE = 640, 380, 7.2, 24


def marked(text: str, spans: Sequence[TextSpan], labels: Sequence[str], request: gr.Request | None) -> str:
    """The text with its spans in the labels' colours, and what each colour means.

    Args:
        spans: in the order of the text; of two that overlap the first is marked
        labels: all that there may be
    """
    numbers = {label: number % _COLOURS for number, label in enumerate(labels)}
    parts, position = [], 0
    for span in spans:
        if span.start < position:
            continue
        if span.end > _MOST_SHOWN:
            break
        title = f"{span.label}, {100 * span.confidence:.0f} %"
        parts.append(escape(text[position : span.start]))
        parts.append(
            f'<mark class="span colour-{numbers[span.label]}" title="{escape(title)}">'
            f"{escape(text[span.start : span.end])}<small>{escape(name_of(span.label, request))}</small></mark>"
        )
        position = span.end
    parts.append(escape(text[position : max(position, _MOST_SHOWN)]))
    used = {span.label for span in spans}
    legend = "".join(
        f'<mark class="span colour-{numbers[label]}">{escape(name_of(label, request))}</mark>'
        for label in labels
        if label in used
    )
    return f'<div class="words" dir="auto">{"".join(parts)}</div><div class="legend">{legend}</div>'


def relations(links: Sequence[TextLink], request: gr.Request | None) -> str:
    """A picture and a table."""
    if not links:
        return ""
    rows = "".join(
        f"<tr><td>{escape(link.head.text)}</td><td>{escape(name_of(link.label, request))}</td>"
        f"<td>{escape(link.tail.text)}</td><td>{100 * link.confidence:.0f} %</td></tr>"
        for link in links[:_MOST_ROWS]
    )
    names = "".join(
        f"<th>{escape(say(request, f'relation_{part}'))}</th>" for part in ("head", "label", "tail", "sure")
    )
    picture = _first("surest_shown", _MOST_EDGES, len(links), request) + graph(links, request)
    more = _first("first_shown", _MOST_ROWS, len(links), request)
    return f'{picture}<table class="relations"><tr>{names}</tr>{rows}</table>{more}'


def _first(key: str, most: int, count: int, request: gr.Request | None) -> str:
    """That not all is shown, where it isn't."""
    return notice_line(say(request, key, most=most, all=count)) if count > most else ""


def graph(links: Sequence[TextLink], request: gr.Request | None) -> str:
    """Entities on an ellipse, arrows between them: the surest relations, as SVG."""
    chosen = sorted(links, key=lambda link: -link.confidence)[:_MOST_EDGES]
    nodes = list(dict.fromkeys(_node(span) for link in chosen for span in (link.head, link.tail)))
    height = min(_HEIGHT, 50 * len(nodes))
    places = {
        node: (
            _WIDTH / 2 + 0.36 * _WIDTH * math.cos(2 * math.pi * number / len(nodes) - math.pi),
            height / 2 + 0.4 * height * math.sin(2 * math.pi * number / len(nodes) - math.pi),
        )
        for number, node in enumerate(nodes)
    }
    edges = "".join(
        _edge(places[_node(link.head)], places[_node(link.tail)], name_of(link.label, request)) for link in chosen
    )
    boxes = "".join(_box(node, *place) for node, place in places.items())
    title = escape(say(request, "graph_title", relations=len(chosen)))
    return (
        f'<div class="graph-box"><svg class="graph" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">'
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="5" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 10 5 0 10z" fill="currentColor"/></marker></defs>{edges}{boxes}</svg></div>'
    )


def _node(span: TextSpan) -> str:
    """What is the same entity wherever it stands."""
    return " ".join(span.text.split())


def _edge(begin: tuple[float, float], end: tuple[float, float], name: str) -> str:
    """The arrow's head at two thirds, where no box hides it, and the name before it."""
    x, y = (a + 0.62 * (b - a) for a, b in zip(begin, end, strict=True))
    name_x, name_y = (a + 0.45 * (b - a) for a, b in zip(begin, end, strict=True))
    points = " ".join(f"{a:.0f},{b:.0f}" for a, b in (begin, (x, y), end))
    return (
        f'<polyline points="{points}" marker-mid="url(#arrow)"/>'
        f'<text x="{name_x:.0f}" y="{name_y - 6:.0f}" class="edge">{escape(name)}</text>'
    )


def _box(text: str, x: float, y: float) -> str:
    text = text if len(text) <= _LONGEST_NODE else f"{text[: _LONGEST_NODE - 1]}…"
    width = _LETTER * len(text) + 18
    x = min(max(x, width / 2 + 2), _WIDTH - width / 2 - 2)
    return (
        f'<rect x="{x - width / 2:.0f}" y="{y - 14:.0f}" width="{width:.0f}" height="28" rx="8"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}" class="node">{escape(text)}</text>'
    )


def events(found: Sequence[TextEvent], request: gr.Request | None) -> str:
    """A card each."""
    cards = "".join(_card(event, request) for event in found[:_MOST_ROWS])
    more = _first("first_shown", _MOST_ROWS, len(found), request)
    return f'<div class="cards">{cards}</div>{more}' if cards else ""


def _card(event: TextEvent, request: gr.Request | None) -> str:
    arguments = "".join(
        f"<dt>{escape(name_of(link.label, request))}</dt><dd>{escape(link.tail.text)} "
        f"<small>{100 * link.confidence:.0f} %</small></dd>"
        for link in sorted(event.arguments, key=lambda link: link.label)
    )
    return (
        f'<div class="card"><div class="card-type">{escape(name_of(event.trigger.label, request))}</div>'
        f'<div class="card-trigger">“{escape(event.trigger.text)}” '
        f"<small>{100 * event.trigger.confidence:.0f} %</small></div><dl>{arguments}</dl></div>"
    )


def shown(text: str, found: Extracted, labels: Sequence[str], request: gr.Request | None) -> str:
    """Everything that one task found.

    Args:
        labels: of its entities or triggers
    """
    spans = found.entities or [event.trigger for event in found.events]
    if not spans:
        return f'<div role="status" class="nothing">{escape(say(request, f"no_{found.task}"))}</div>'
    details = relations(found.relations, request) + events(found.events, request)
    more = _first("text_shown", _MOST_SHOWN, len(text), request)
    return f'<div role="status">{more}{marked(text, spans, labels, request)}{details}</div>'


def name_of(label: str, request: gr.Request | None) -> str:
    """A label as people read it; corpora's abbreviations have texts of their own."""
    key = f"type_{label}"
    return say(request, key) if has_text(key) else label.replace("_", " ").replace(".", ": ")
