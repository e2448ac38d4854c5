"""The training loop of every task: AdamW, with a log, checkpoints and early stopping."""

import dataclasses
import json
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from gpt_tasks.errors import UserError, first_line
from gpt_tasks.progress import Progress, Report, silent
from gpt_tasks.training.batches import shuffled_batches
from gpt_tasks.training.objectives import Objective
from gpt_tasks.training.options import TrainingOptions

LOG_NAME = "log.jsonl"
CHECKPOINT_NAME = "checkpoint.pt"
CHECKPOINT_COPIES = 4
"""that a checkpoint has of what is trained: the parameters, the best ones, and AdamW's two moments"""
_CHECKPOINT_SECONDS = 300
_LOG_EVERY = 10  # steps


class Trainer:
    """Trains an objective and leaves its model with the parameters that did best on dev.

    Weights that are trained are fp32 (the arithmetic is the methods' matter: bf16), gradients are clipped; the
    learning rate rises, then falls to 0 in a straight line.

    Args:
        folder: gets `log.jsonl` and `checkpoint.pt`, from which a stopped run goes on; the caller removes it when
            what was trained is written
        resume: go on from the checkpoint, where there is one
        identity: what else must be the same in a resumed run: the task's settings, the data

    Raises:
        UserError: a checkpoint of another run.
    """

    def __init__(
        self,
        objective: Objective,
        options: TrainingOptions,
        folder: Path,
        *,
        resume: bool = False,
        identity: Mapping[str, object] = MappingProxyType({}),
        report: Report = silent,
    ) -> None:
        self._objective, self._options, self._folder, self._report = objective, options, folder, report
        self._trained = {name: p for name, p in objective.model.named_parameters() if p.requires_grad}
        decayed = [p for p in self._trained.values() if p.dim() > 1]
        others = [p for p in self._trained.values() if p.dim() <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=options.learning_rate,
            betas=(0.9, 0.98),
        )
        self._identity = {**dataclasses.asdict(options), **identity}
        self._plan = self._make_plan()
        self._step = self._without_gain = 0
        self._best: dict[str, float] = {}
        self._best_parameters = self._copy()
        self._average = self._copy() if options.average else None
        self._seconds = 0.0
        self._tokens = 0  # read so far
        torch.manual_seed(options.seed)
        if resume and (folder / CHECKPOINT_NAME).is_file():
            self._load()
        else:
            # One of an earlier run would not fit the new log, if this run were stopped before its first.
            (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
            (folder / LOG_NAME).write_text("")
            self._log({"options": dataclasses.asdict(options), "steps": len(self._plan), "figure": objective.figure})

    def _make_plan(self) -> list[list[list[int]]]:
        """The batches of every step, decided by the seed alone, so that a resumed run sees what is left."""
        options, shuffle = self._options, random.Random(self._options.seed)
        batches: list[list[int]] = []
        epoch = shuffled_batches(self._objective.lengths, options.tokens_per_batch, shuffle)
        wanted = max(1, round(options.epochs * len(epoch)))
        while len(batches) < wanted:
            batches += epoch
            epoch = shuffled_batches(self._objective.lengths, options.tokens_per_batch, shuffle)
        batches = batches[:wanted]
        self._evaluate_every = max(1, round(len(epoch) / options.accumulation / options.evaluations_per_epoch))
        return [batches[i : i + options.accumulation] for i in range(0, len(batches), options.accumulation)]

    def run(self) -> dict[str, float]:
        """Trains to the end and returns the figures of the best evaluation."""
        model, steps = self._objective.model, len(self._plan)
        begin, saved = time.monotonic() - self._seconds, time.monotonic()
        while self._step < steps and self._without_gain < self._options.patience:
            model.train()
            loss = self._take_step(self._plan[self._step])
            self._tokens += self._tokens_of(self._plan[self._step])
            self._step += 1
            self._seconds = time.monotonic() - begin
            self._report(Progress("training", self._step, steps, "steps", note=self._note(loss)))
            if self._step % _LOG_EVERY == 0 or self._step == steps:
                self._log({"loss": round(loss, 4), "learning_rate": self._rate()})
            if self._step % self._evaluate_every == 0 or self._step == steps:
                self._evaluate()
                self._save()
                saved = time.monotonic()
            elif time.monotonic() - saved > _CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
        self._put(self._best_parameters)
        model.eval()
        return self._best

    def _tokens_of(self, step: list[list[int]]) -> int:
        return sum(self._objective.lengths[index] for batch in step for index in batch)

    def _note(self, loss: float) -> str:
        """What is shown beside the progress: loss, speed, the best so far."""
        said = [f"loss {loss:.3f}", f"{self._tokens / self._seconds:.0f} tokens/s"]
        if self._best:
            said.append(f"dev {self._objective.shown(self._best['score']):.2f}")
        return ", ".join(said)

    def _rate(self) -> float:
        warmup = max(1, round(self._options.warmup * len(self._plan)))
        rise = (self._step + 1) / warmup
        fall = (len(self._plan) - self._step) / max(1, len(self._plan) - warmup)
        return self._options.learning_rate * min(rise, fall, 1.0)

    def _take_step(self, batches: list[list[int]]) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        examples = sum(map(len, batches))
        total = 0.0
        for batch in batches:
            loss = self._objective.loss(batch) * (len(batch) / examples)
            loss.backward()
            total += loss.item()
        if not torch.isfinite(torch.tensor(total)):
            raise UserError(f"The loss became {total} at step {self._step}. Train with a smaller learning rate.")
        torch.nn.utils.clip_grad_norm_(self._trained.values(), self._options.gradient_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._move_average(self._average)
        return total

    def _move_average(self, average: dict[str, torch.Tensor]) -> None:
        """a <- d·a + (1 - d)·p, where the decay d is smaller at first, so that the beginning is soon forgotten."""
        decay = min(self._options.average, (1 + self._step) / (10 + self._step))
        with torch.no_grad():
            for name, parameter in self._trained.items():
                average[name].lerp_(parameter, 1 - decay)

    def _evaluate(self) -> None:
        """On dev, of the averaged parameters where there are any."""
        if self._average is None:
            self._evaluate_parameters()
            return
        parameters = self._copy()
        self._put(self._average)
        self._evaluate_parameters()
        self._put(parameters)

    def _evaluate_parameters(self) -> None:
        self._objective.model.eval()
        with torch.inference_mode():
            figures = self._objective.evaluate()
        self._log({"dev": figures, "shown": self._objective.shown(figures["score"])})
        if not self._best or figures["score"] > self._best["score"]:
            self._best, self._best_parameters, self._without_gain = figures, self._copy(), 0
        else:
            self._without_gain += 1

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._trained.items()}

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(values[name])

    def _log(self, entry: dict) -> None:
        entry = {"step": self._step, "seconds": round(self._seconds, 1), **entry}
        with (self._folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")

    def _save(self) -> None:
        """Beside the old one, then in its place: a run that is killed while it saves loses nothing.

        Raises:
            UserError: it can't be written, as a rule since the disk is full; the old one stays.
        """
        part = self._folder / f".{CHECKPOINT_NAME}.part"
        state = {
            "identity": self._identity,
            "log_size": (self._folder / LOG_NAME).stat().st_size,
            "parameters": self._copy(),
            "optimizer": self._optimizer.state_dict(),
            "best": self._best,
            "best_parameters": self._best_parameters,
            "average": self._average,
            "step": self._step,
            "without_gain": self._without_gain,
            "seconds": self._seconds,
            "random": torch.get_rng_state(),
        }
        try:
            torch.save(state, part)
        except (OSError, RuntimeError) as error:  # PyTorch's writer says RuntimeError where the disk is full
            part.unlink(missing_ok=True)
            raise UserError(
                f"The checkpoint in {self._folder} can't be written ({first_line(error)}). Make room on its disk, and "
                "go on with --resume: the checkpoint before this one is kept, if there was one."
            ) from error
        os.replace(part, self._folder / CHECKPOINT_NAME)

    def _load(self) -> None:
        path = self._folder / CHECKPOINT_NAME
        state = torch.load(path, weights_only=True)
        changed = [name for name, value in self._identity.items() if state["identity"].get(name) != value]
        if changed:
            raise UserError(
                f"{path} is of another run: {', '.join(changed)} differed. Give the same to go on, or leave --resume "
                "out to begin again."
            )
        # What was logged after the checkpoint will be logged again.
        os.truncate(self._folder / LOG_NAME, state["log_size"])
        self._put(state["parameters"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best, self._best_parameters = state["best"], state["best_parameters"]
        self._average = state["average"]
        self._step, self._without_gain, self._seconds = state["step"], state["without_gain"], state["seconds"]
        self._tokens = sum(map(self._tokens_of, self._plan[: self._step]))
        torch.set_rng_state(state["random"])
