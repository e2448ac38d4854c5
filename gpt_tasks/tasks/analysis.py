"""Everything about one text: what it says, what about, and who and what is in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.tasks.classification import Classified
from gpt_tasks.tasks.classifiers import Classifiers, available
from gpt_tasks.tasks.extraction.extractors import Extractors
from gpt_tasks.tasks.extraction.text_extraction import Extracted, Part, require_text

MOST_CHARACTERS = 100_000
"""of a text, which is read several times"""
ENTITIES, RELATIONS, EVENTS = "news", "conll04", "litbank"
"""The schemas that are taken where none is named: those for text of any kind."""


@dataclass(frozen=True)
class Analysis:
    classified: dict[str, Classified]
    """by task"""
    extracted: dict[str, Extracted]
    """entities, relations, events"""
    passes: int
    """how often the backbone read the text"""
    tokens: int
    """that it read in all of them"""


def analyse(
    text: str,
    backbone: Backbone,
    classifiers: Classifiers,
    extractors: Extractors,
    entities: str = ENTITIES,
    relations: str = RELATIONS,
    events: str = EVENTS,
    between: Callable[[], None] = lambda: None,
) -> Iterator[Part | Analysis]:
    """Extractions that read alike, and leave the backbone as it is, share a reading; each classification has its own
    adapter, and so its own.

    Args:
        entities, relations, events: schemas
        between: called after every batch of a classification; may raise to stop

    Yields:
        every piece of the text, as it is done, and in the end the analysis

    Raises:
        UserError: a text that is empty or too long, an unknown schema, another backbone than the tasks'.
    """
    require_text(text, MOST_CHARACTERS)
    tasks = [extractors.get(schema, backbone) for schema in (entities, relations, events)]
    extractor = extractors.extractor(backbone)
    extracted = {task.settings.task: Extracted(task.settings.task, task.settings.schema) for task in tasks}
    tokens = 0
    for part in extractor.parts(text, tasks):
        for found in part.found:
            extracted[found.task].extend(found)
        tokens += part.tokens
        yield part
    classified = {name: classifiers.get(name, backbone).classify([text], between=between)[0] for name in available()}
    yield Analysis(
        classified,
        extracted,
        extractor.passes(tasks) + len(classified),
        tokens + sum(result.tokens for result in classified.values()),
    )
