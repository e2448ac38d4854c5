"""The trade-off, to look at: one HTML file, its pictures as a PNG, its figures as JSON."""

import base64
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader

from gpt_tasks.backbone.artifact import preferred_precision
from gpt_tasks.backbone.json_files import write_json
from gpt_tasks.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("size_mb", "size (MB)", False),
    ("decode_tokens_per_second", "decode (tokens/s)", True),
    ("prefill_tokens_per_second", "prefill (tokens/s)", True),
)
"""figure, its axis, and whether more is better"""
_SPEEDS = ("decode_tokens_per_second", "prefill_tokens_per_second")
_COLOURS = ("#4c4c4c", "#c2410c", "#0369a1", "#15803d", "#7e22ce", "#db2777", "#854d0e")
_LABEL_HEIGHTS = (5, -13, 16, -24, 27)
"""of a label over its dot, in points, in the order in which they are tried"""
_INK, _GRID = "#1f2328", "#d0d7de"


def write_report(results: Sequence[Mapping], out: Path) -> Path:
    """<out>.html, <out>.json and <out>.png

    Args:
        results: of one or more runs, as `read_results` gives them

    Returns:
        the .html

    Raises:
        UserError: the same run twice, a folder that isn't there or can't be written.
    """
    runs = [{**run, "name": name} for name, run in zip(run_names(results), results, strict=True)]
    variants = merged_variants(runs)
    texts = different_texts(runs)
    picture = draw_trade_off(variants, "measured on different texts: see the report" if texts else "")
    html_file, picture_file, figures_file = (out.with_name(f"{out.name}.{end}") for end in ("html", "png", "json"))
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    html = environment.get_template("report.html.jinja").render(
        results=runs,
        variants=variants,
        texts=texts,
        picture=base64.b64encode(picture).decode(),
        kinds=list(sizes_table(variants)),
        prompts=_prompts(variants),
    )
    try:
        html_file.write_text(html, "utf-8")
        picture_file.write_bytes(picture)
        write_json(figures_file, {"variants": variants, "runs": runs})
    except OSError as error:
        raise UserError(f"The report can't be written to {out} ({error.strerror}).") from error
    return html_file


def run_names(results: Sequence[Mapping]) -> list[str]:
    """Of each run a name of its own: its recipe's; where runs share that, with their folders.

    Raises:
        UserError: the same run twice.
    """
    recipes = [run["recipe"] for run in results]
    folders = [Path(run.get("folder", "")) for run in results]
    for parts in ([""] * len(results), [folder.name for folder in folders], folders):
        names = [f"{recipe} ({part})" if str(part) else recipe for recipe, part in zip(recipes, parts, strict=True)]
        if len(set(names)) == len(names):
            return names
    raise UserError("The same run is named twice. Name each run once.")


def merged_variants(runs: Sequence[Mapping]) -> list[dict]:
    """The variants of all runs, those of the originals first. An original stands there once for each time that it was
    measured, since a run's ratios are to what was measured beside it.

    Args:
        runs: results with a name each

    Returns:
        rows as `collect` makes them, and times: a speed -> how many times that of the run's own original in int8;
        tasks: a task -> its score
    """
    originals: dict[str, list[dict]] = {}
    variants = []
    for run in runs:
        reference = next((row for row in run["variants"] if row["baseline"] and row["precision"] == "int8"), None)
        for row in run["variants"]:
            new = {
                **row,
                "times": {} if row is reference else _times(row, reference),
                "tasks": _scores(row, run),
            }
            if row["baseline"]:
                originals.setdefault(run["name"], []).append({**new, "model": run["model"]})
            else:
                variants.append({**new, "name": run["name"]})
    different = [
        name for index, name in enumerate(originals) if originals[name] not in list(originals.values())[:index]
    ]
    if len(different) > 1:
        originals = {name: [{**row, "name": f"original of {name}"} for row in originals[name]] for name in different}
    return [row for name in different for row in originals[name]] + variants


def _scores(row: Mapping, run: Mapping) -> dict[str, float]:
    """Tasks are measured in the precision that would be served."""
    precisions = [other["precision"] for other in run["variants"] if other["baseline"] == row["baseline"]]
    if row["precision"] != preferred_precision(precisions):
        return {}
    side = "baseline" if row["baseline"] else "model"
    return {task: score[side] for task, score in run["tasks"].items() if side in score}


def _times(row: Mapping, reference: Mapping | None) -> dict[str, float]:
    if reference is None:
        return {}
    return {key: row[key] / reference[key] for key in _SPEEDS if row.get(key) and reference.get(key)}


def different_texts(runs: Sequence[Mapping]) -> dict[str, str]:
    """Run -> which text its perplexity is of; empty where all are of the same one."""
    measured = [run for run in runs if any(row.get("perplexity") is not None for row in run["variants"])]
    if len({_content(run.get("text")) for run in measured}) < 2:
        return {}
    return {run["name"]: _described(run.get("text")) for run in measured}


def _content(text: Mapping | None) -> tuple | None:
    """What was read, whatever the file was called."""
    return None if text is None else tuple(text[name] for name in ("sha256", "window", "tokens"))


def _described(text: Mapping | None) -> str:
    if text is None:
        return "a text that an older version didn't record"
    name = "the project's own text" if text["name"] is None else text["name"]
    return f"{name} ({text['tokens']} tokens in windows of {text['window']}, SHA-256 {text['sha256'][:8]})"


@dataclass(frozen=True)
class _Quality:
    """What a variant is as good as."""

    label: str
    of: Callable[[Mapping], float | None]
    more_is_better: bool


_PERPLEXITY = _Quality("perplexity, × original fp32", lambda row: row.get("ratio"), False)


def draw_trade_off(variants: Sequence[Mapping], title: str = "") -> bytes:
    """Quality (perplexity, and the score of each task that was measured) against size, decode and prefill speed, as a
    PNG. Those on the line are beaten by none in both."""
    from matplotlib.figure import Figure  # takes half a second to import
    from matplotlib.lines import Line2D

    tasks = dict.fromkeys(task for row in variants for task in row["tasks"])
    qualities = [_PERPLEXITY, *(_Quality(f"{task}, accuracy", partial(_score, task), True) for task in tasks)]
    drawn = drawn_variants(variants)
    names = dict.fromkeys(row["name"] for row in drawn)
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    figure = Figure(figsize=(13, 0.5 + 4.2 * len(qualities)), layout="constrained")
    figure.suptitle(title, color=_INK, fontsize=10)
    grid = figure.subplots(len(qualities), len(_PANELS), squeeze=False)
    labels = []
    for quality, line in zip(qualities, grid, strict=True):
        for axes, panel in zip(line, _PANELS, strict=True):
            labels.append((axes, _draw_panel(axes, drawn, quality, *panel, colours)))
    dots = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=dots, loc="outside lower center", ncols=min(6, len(dots)), frameon=False)
    figure.draw_without_rendering()  # where things are is known from here on
    for axes, labelled in labels:
        label_dots(axes, labelled)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def drawn_variants(variants: Sequence[Mapping]) -> list[Mapping]:
    """Each original once, however often it was measured, and of the others what they were made for: fp32 is a stage,
    where there is more."""
    originals, drawn = {}, []
    for row in variants:
        others = {other["precision"] for other in variants if other["name"] == row["name"]}
        if row["baseline"]:
            originals.setdefault((row["model"], row["precision"]), {**row, "name": "original"})
        elif row["precision"] != "fp32" or others == {"fp32"}:
            drawn.append(row)
    return [*originals.values(), *drawn]


def _score(task: str, row: Mapping) -> float | None:
    return row["tasks"].get(task)


def _draw_panel(
    axes: "Axes",
    variants: Sequence[Mapping],
    quality: _Quality,
    key: str,
    label: str,
    more_is_better: bool,
    colours: Mapping[str, str],
) -> list[tuple[tuple[float, float], str, str]]:
    """
    Returns:
        of each dot its place, its label and its colour
    """
    axes.set_xlabel(label, color=_INK)
    axes.set_ylabel(quality.label, color=_INK)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    rows = [row for row in variants if row.get(key) is not None and quality.of(row) is not None]
    if not rows:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, color=_INK)
        return []
    places = [(row[key], quality.of(row)) for row in rows]
    best = sorted(pareto(places, more_is_better, quality.more_is_better))
    axes.plot(*zip(*best, strict=True), color=_GRID, linewidth=3, zorder=1)
    for row, place in zip(rows, places, strict=True):
        axes.scatter(*place, color=colours[row["name"]], s=42, zorder=2)
    axes.margins(0.18)
    if quality is _PERPLEXITY:
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=min(0.9, axes.get_ylim()[0]))
    return [(place, row["precision"], colours[row["name"]]) for row, place in zip(rows, places, strict=True)]


def label_dots(axes: "Axes", labels: Sequence[tuple[tuple[float, float], str, str]]) -> None:
    """Each label right above its dot, or where that would hide another one, below, or further above."""
    taken = []
    for place, text, colour in labels:
        label = axes.annotate(text, place, xytext=(5, 0), textcoords="offset points", fontsize=8, color=colour)
        for height in _LABEL_HEIGHTS:
            label.xyann = 5, height
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def pareto(
    places: Sequence[tuple[float, float]], more_is_better: bool, more_quality_is_better: bool
) -> list[tuple[float, float]]:
    """Those that no other one beats in one of the two figures while being as good in the other.

    Args:
        places: figure and quality
    """
    signs = (1 if more_is_better else -1, 1 if more_quality_is_better else -1)

    def beaten(place: tuple[float, float], other: tuple[float, float]) -> bool:
        gains = [sign * (theirs - ours) for sign, ours, theirs in zip(signs, place, other, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    return [place for place in places if not any(beaten(place, other) for other in places)]


def sizes_table(variants: Sequence[Mapping]) -> Iterator[tuple[str, list[float]]]:
    """A kind of tensor -> MB in each variant; codes, scales and zero points of a matrix are one kind."""
    sums = [{} for _ in variants]
    for row, total in zip(variants, sums, strict=True):
        for tensor, size in row["sizes_by_kind"].items():
            kind = re.sub(r"\.(weight|bias|codes|scales|zero_points|column_codes|column_scales)$", "", tensor)
            total[kind] = total.get(kind, 0) + size / 10**6
    kinds = sorted({kind for total in sums for kind in total}, key=lambda kind: -max(t.get(kind, 0) for t in sums))
    for kind in kinds:
        if max(total.get(kind, 0) for total in sums) >= 0.05:
            yield kind, [total.get(kind, 0.0) for total in sums]


def _prompts(variants: Sequence[Mapping]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A prompt -> (variant, what it wrote)"""
    prompts: dict[str, list[tuple[str, str]]] = {}
    for row in variants:
        for sample in row["samples"]:
            prompts.setdefault(sample["prompt"], []).append((f"{row['name']} {row['precision']}", sample["text"]))
    return list(prompts.items())
