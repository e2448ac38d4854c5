"""A picture of a training's log."""

import json
from pathlib import Path


def draw_loss(log: Path, picture: Path) -> None:
    """The loss of the batches and the main figure on dev over the steps, as a PNG."""
    from matplotlib.figure import Figure  # takes half a second to import, and serving never draws

    entries = [json.loads(line) for line in log.read_text("utf-8").split("\n") if line]
    losses = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    scores = [(entry["step"], entry["shown"]) for entry in entries if "dev" in entry]
    figure = Figure(figsize=(6, 3), layout="constrained")
    left = figure.subplots()
    left.plot(*zip(*losses, strict=True), color="tab:blue", linewidth=1)
    left.set(xlabel="step", ylabel="loss of a batch", ylim=(0, None))
    left.yaxis.label.set_color("tab:blue")
    right = left.twinx()
    right.plot(*zip(*scores, strict=True), color="tab:orange", marker="o")
    right.set(ylabel=f"on dev: {entries[0]['figure']}")
    right.yaxis.label.set_color("tab:orange")
    figure.savefig(picture, dpi=90)
