"""The trade-off, to look at: one HTML file, its pictures as a PNG, its figures as JSON."""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from gpt_tasks.backbone.json_files import write_json
from gpt_tasks.errors import UserError

_PANELS = (
    ("size_mb", "size (MB)", False),
    ("decode_tokens_per_second", "decode (tokens/s)", True),
    ("prefill_tokens_per_second", "prefill (tokens/s)", True),
)
"""figure, its axis, and whether more is better"""
_SPEEDS = ("decode_tokens_per_second", "prefill_tokens_per_second")
_COLOURS = ("#4c4c4c", "#c2410c", "#0369a1", "#15803d", "#7e22ce", "#b45309", "#be123c")
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
        rows as `collect` makes them, and times: a speed -> how many times that of the run's own original in int8
    """
    originals: dict[str, list[dict]] = {}
    variants = []
    for run in runs:
        reference = next((row for row in run["variants"] if row["baseline"] and row["precision"] == "int8"), None)
        for row in run["variants"]:
            new = {**row, "times": {} if row is reference else _times(row, reference)}
            if row["baseline"]:
                originals.setdefault(run["name"], []).append({**new, "model": run["model"], "tasks": {}})
            else:
                variants.append({**new, "name": run["name"], "tasks": run["tasks"]})
    different = [
        name for index, name in enumerate(originals) if originals[name] not in list(originals.values())[:index]
    ]
    if len(different) > 1:
        originals = {name: [{**row, "name": f"original of {name}"} for row in originals[name]] for name in different}
    return [row for name in different for row in originals[name]] + variants


def _times(row: Mapping, reference: Mapping | None) -> dict[str, float]:
    if reference is None:
        return {}
    return {key: row[key] / reference[key] for key in _SPEEDS if row.get(key) and reference.get(key)}


def different_texts(runs: Sequence[Mapping]) -> dict[str, str]:
    """Run -> which text its perplexity is of; empty where all are of the same one."""
    measured = [run for run in runs if any(row.get("perplexity") is not None for row in run["variants"])]
    if all(run.get("text") == measured[0].get("text") for run in measured):
        return {}
    return {run["name"]: _described(run.get("text")) for run in measured}


def _described(text: Mapping | None) -> str:
    if text is None:
        return "a text that an older version didn't record"
    name = "the project's own text" if text["name"] is None else text["name"]
    return f"{name} ({text['tokens']} tokens in windows of {text['window']}, SHA-256 {text['sha256'][:8]})"


def draw_trade_off(variants: Sequence[Mapping], title: str = "") -> bytes:
    """Quality against size, decode and prefill speed, as a PNG. Those on the line are beaten by none in both."""
    from matplotlib.figure import Figure  # takes half a second to import

    measured = [row for row in variants if row.get("ratio") is not None]
    names = list(dict.fromkeys(row["name"] for row in variants))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    figure.suptitle(title, color=_INK, fontsize=10)
    for axes, (key, label, more_is_better) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        rows = [row for row in measured if row.get(key) is not None]
        axes.set_xlabel(label, color=_INK)
        axes.set_ylabel("perplexity, × original fp32", color=_INK)
        axes.grid(color=_GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if not rows:
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, color=_INK)
            continue
        best = sorted(pareto(rows, key, more_is_better), key=lambda row: row[key])
        axes.plot([row[key] for row in best], [row["ratio"] for row in best], color=_GRID, linewidth=3, zorder=1)
        for row in rows:
            axes.scatter(row[key], row["ratio"], color=colours[row["name"]], s=42, zorder=2)
            axes.annotate(
                f"{row['name']} {row['precision']}",
                (row[key], row["ratio"]),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=7,
                color=colours[row["name"]],
            )
        axes.margins(0.18)
        axes.set_ylim(bottom=min(0.95, axes.get_ylim()[0]))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def pareto(rows: Sequence[Mapping], key: str, more_is_better: bool) -> list[Mapping]:
    """Those that no other row beats in one of the two figures while being as good in the other."""

    def beaten(row: Mapping, other: Mapping) -> bool:
        sign = 1 if more_is_better else -1
        gain, loss = sign * (other[key] - row[key]), other["ratio"] - row["ratio"]
        return gain >= 0 and loss <= 0 and (gain > 0 or loss < 0)

    return [row for row in rows if not any(beaten(row, other) for other in rows)]


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
