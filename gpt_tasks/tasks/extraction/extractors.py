"""The shipped extractions on one backbone, each loaded when it is first asked for."""

from threading import Lock

from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.errors import UserError
from gpt_tasks.tasks.extraction.extraction_task import SHIPPED, ExtractionTask, available_schemas, load_extraction
from gpt_tasks.tasks.extraction.text_extraction import TextExtractor


class Extractors:
    """Schema -> task, and the extractor that they share; many threads may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._extractor: TextExtractor | None = None
        self._tasks: dict[str, ExtractionTask] = {}

    def get(self, schema: str, backbone: Backbone) -> ExtractionTask:
        """
        Raises:
            UserError: no such schema, or the backbone is another than it was trained on.
        """
        names = [name for schemas in available_schemas().values() for name in schemas]
        if schema not in names:
            raise UserError(
                f"The schema {schema!r} is unknown; there are: {', '.join(names)}.", key="unknown_schema", schema=schema
            )
        with self._lock:
            if schema not in self._tasks:
                self._tasks[schema] = load_extraction(SHIPPED / schema, backbone.artifact)
            return self._tasks[schema]

    def extractor(self, backbone: Backbone) -> TextExtractor:
        with self._lock:
            if self._extractor is None:
                self._extractor = TextExtractor(backbone.encoder, backbone.artifact, backbone.tokenizer)
            return self._extractor
