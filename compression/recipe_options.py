"""What each step of a recipe can say: its options, their types and ranges, and what they mean."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from compression.block_settings import METHODS as ROUNDING_METHODS
from compression.distillation.student_sizes import every_of
from compression.precisions import PRECISIONS
from compression.pruning.options import METHODS, require_options_fit

Kind = Literal["checkpoint", "artifact"]


class Step(BaseModel):
    """One step's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: ClassVar[Kind]
    gives: ClassVar[Kind | None] = None
    """what the steps after it work on; None: what there was"""


class Prune(Step):
    """Takes a part of the model out; see `python -m compression prune --help`."""

    needs, gives = "checkpoint", "checkpoint"

    method: Literal[METHODS]
    sparsity: float = Field(0.5, gt=0, lt=1, description="the part that goes")
    pattern: Annotated[str, StringConstraints(pattern=r"^\d+:\d+$")] | None = Field(None, description="N:M, as 2:4")
    by_influence: bool = Field(False, description="depth: by the blocks' influence, without a search")
    layers: list[int] | None = Field(None, min_length=1, description="depth: keep these, without a search")
    uniform: bool = Field(False, description="attention, feed-forward: every layer loses the same")
    refit: bool = Field(True, description="wanda, sparsegpt: solve once more for what the zeros leave of a matrix")
    text: str | None = Field(None, description="a file or folder to decide by; None: the project's own")
    tokens: int = Field(8192, ge=256, description="of the text, at most")

    @model_validator(mode="after")
    def _options_fit(self) -> "Prune":
        require_options_fit(
            self.method,
            pattern=self.pattern is not None,
            layers=self.by_influence or self.layers is not None,
            uniform=self.uniform,
            unrefitted=not self.refit,
            text=self.text is not None,
        )
        if self.pattern is not None:
            gone, size = map(int, self.pattern.split(":"))
            if not 0 < gone < size:
                raise ValueError(
                    f"the pattern {self.pattern} must remove at least one weight of a group, and leave one"
                )
        if self.layers is not None and (self.layers != sorted(set(self.layers)) or self.layers[0] < 0):
            raise ValueError(f"the layers to keep, {self.layers}, must be different ones from 0 on, in order")
        return self


class Teaching(Step):
    """What distill and recover share."""

    needs, gives = "checkpoint", "checkpoint"

    text: str | None = Field(None, description="a text file or a folder of .txt; run's --text stands in for it")
    method: Literal["full", "lora"] = "full"
    rank: int = Field(32, ge=1, description="of LoRA")
    tokens: int | None = Field(None, ge=1, description="of the text, at most")
    window: int = Field(512, ge=2, description="tokens read together")
    epochs: float = Field(1.0, gt=0)
    learning_rate: float | None = Field(None, gt=0, description="None: 3e-4, with LoRA 2e-3")
    tokens_per_batch: int = Field(2048, ge=1)
    predictions: float = Field(0.9, ge=0, description="weight of the KL divergence to the teacher")
    own_text: float = Field(0.1, ge=0, description="weight of the text's own tokens")
    hidden: float = Field(0.0, ge=0, description="weight of hidden states")
    attention: float = Field(0.0, ge=0, description="weight of attention")
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(32, ge=1, description="of the teacher's tokens that are kept")
    reverse: bool = False
    compile: bool = Field(False, description="compile the layers first: steps take about 3/4 of the time")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _learns_something(self) -> "Teaching":
        if self.predictions + self.own_text + self.hidden + self.attention <= 0:
            raise ValueError("at least one of predictions, own_text, hidden and attention must be more than 0")
        return self


class Distill(Teaching):
    """A student that begins as layers of the model, or from nothing, learns from the model."""

    student: str = Field("every-2nd", description="every-2nd (3rd, ...) or fresh")
    layers: int | None = Field(None, ge=1, description="of a fresh student")
    hidden_size: int | None = Field(None, ge=1, description="of a fresh student")
    feed_forward_size: int | None = Field(None, ge=1, description="of a fresh student")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Distill":
        if every_of(self.student) is None:
            if self.layers is None:
                raise ValueError("a fresh student needs a number of layers")
        elif any(size is not None for size in (self.layers, self.hidden_size, self.feed_forward_size)):
            raise ValueError(
                f"layers, hidden_size and feed_forward_size are of a fresh student, not of {self.student}: leave them "
                "out, or say student: fresh"
            )
        return self


class Recover(Teaching):
    """The pruned model learns from the original what it lost."""

    adapter: str | None = Field(
        None,
        description="instead of training: a LoRA folder, or the name of a correction that comes with the project. "
        "With a text (run's --text) there is training",
    )
    start: str | None = Field(
        None, description="with a text, LoRA goes on from this correction, named as adapter; see distill's --start"
    )

    @model_validator(mode="after")
    def _start_fits(self) -> "Recover":
        if self.start is not None and self.method != "lora":
            raise ValueError(f"LoRA alone goes on from a correction, not {self.method}: say method: lora")
        return self


class Export(Step):
    """Writes the ONNX graphs; see `python -m compression export --help`."""

    needs, gives = "checkpoint", "artifact"

    precision: list[Literal[tuple(PRECISIONS)]] = Field(["fp32", "int8"], min_length=1)
    calibration: str | None = Field(None, description="a text to fit to; None: the project's own")
    method: Literal[ROUNDING_METHODS] = ROUNDING_METHODS[0]
    symmetric: bool = False
    size_mb: float | None = Field(None, gt=0, description="of int4's files, at most")
    mean_kl: float | None = Field(None, gt=0, description="of int4 to fp32, at most")

    @model_validator(mode="after")
    def _limits_fit(self) -> "Export":
        if any((self.size_mb, self.mean_kl)) and not any(name.startswith("int4") for name in self.precision):
            raise ValueError("size_mb and mean_kl are for int4 and int4_fast, and neither is to be made")
        return self


class Quantize(Export):
    """From the fp32 of an export to other precisions, which take its place; see `python -m compression quantize`."""

    needs, gives = "artifact", "artifact"

    precision: list[Literal[tuple(name for name in PRECISIONS if name != "fp32")]] = Field(["int8"], min_length=1)


class Check(Step):
    """Compares fp32 with the checkpoint in PyTorch, and every other precision with fp32. It fails where one is worse
    than its limit."""

    needs = "artifact"

    limit: float | None = Field(
        None, gt=1, description="of the quantized precisions' perplexity, times fp32's; None: each one's own limit"
    )


class Bench(Step):
    """Measures speed and memory, next to the original model in fp32 and int8, in turns."""

    needs = "artifact"

    rounds: int = Field(3, ge=1)


class TaskScore(BaseModel):
    """A task that was trained on this model, and what to score it on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(description="its folder")
    data: str = Field(description="labelled texts")


class Evaluate(Step):
    """Perplexity and sample texts, next to the original model's; scores of tasks where there are some."""

    needs = "artifact"

    text: str | None = Field(None, description="a file; None: one that comes with the project")
    tokens: int = Field(20_480, ge=2, description="of the text, at most")
    window: int = Field(1024, ge=2, description="tokens scored together")
    tasks: list[TaskScore] = []

    @model_validator(mode="after")
    def _tasks_differ(self) -> "Evaluate":
        names = [Path(score.task).expanduser().resolve().name for score in self.tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two tasks are named {twice}, and one score would replace the other: rename a folder")
        return self


STEPS: dict[str, type[Step]] = {
    kind.__name__.lower(): kind for kind in (Distill, Prune, Recover, Quantize, Export, Check, Bench, Evaluate)
}


def options_of(kind: type[Step]) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each option, for the help."""
    return [
        (name, "required" if field.is_required() else str(field.default), field.description or "")
        for name, field in kind.model_fields.items()
    ]


def explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """What is wrong, for people: one sentence a mistake."""
    said = []
    for mistake in error.errors():
        where = ".".join(map(str, mistake["loc"]))
        if mistake["type"] == "extra_forbidden":
            said.append(f"unknown option {where!r} (there are {', '.join(kind.model_fields)})")
        elif mistake["type"] == "missing":
            said.append(f"{where} is missing")
        elif mistake["type"] == "invalid_key":
            # YAML reads a bare no, off, yes or 1 so.
            said.append(f"{mistake['input']!r} is not the name of an option (there are {', '.join(kind.model_fields)})")
        elif mistake["type"] == "value_error" and not where:
            said.append(str(mistake["ctx"]["error"]))
        else:
            said.append(f"{where}: {mistake['msg'].lower()}, got {mistake['input']!r}")
    return "; ".join(said)
