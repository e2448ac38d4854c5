"""The report: which variants are in it, and what their figures are compared with."""

import json
import struct
from argparse import Namespace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from compression.commands import report as command
from compression.report import (
    different_texts,
    draw_trade_off,
    drawn_variants,
    label_dots,
    merged_variants,
    pareto,
    run_names,
    write_report,
)
from compression.results import read_results
from gpt_tasks.errors import UserError

TEXT = {"name": "valid.txt", "sha256": "1" * 64, "window": 64, "tokens": 300}


def row(name, baseline, decode):
    return {
        "name": name,
        "baseline": baseline,
        "precision": "int8",
        "parameters": 1000,
        "layers": 2,
        "size_mb": 1.0,
        "sizes_by_kind": {"embedding": 10**6},
        "perplexity": 20.0,
        "ratio": 1.5,
        "samples": [],
        "decode_tokens_per_second": decode,
        "prefill_tokens_per_second": decode,
        "time_to_first_token_ms": None,
        "load_seconds": None,
        "peak_memory_mb": None,
    }


def results(recipe="x", decode=20.0, original=10.0, text=TEXT, **others):
    return {
        "recipe": recipe,
        "summary": "",
        "model": "default",
        "command": "run",
        "hardware": {"processor": "p", "cores": 2, "memory_gb": 8},
        "versions": {},
        "steps": [],
        "variants": [row("original", True, original), row(recipe, False, decode)],
        "checks": {},
        "tasks": {},
        "text": text,
        **others,
    }


def merged(*runs):
    return merged_variants([{**run, "name": name} for name, run in zip(run_names(runs), runs, strict=True)])


@pytest.fixture
def folder(tmp_path):
    """A function: a path -> a folder there, with what a run leaves."""

    def make(name, **changes):
        out = tmp_path / name
        out.mkdir(parents=True)
        (out / "results.json").write_text(json.dumps(results(**changes)))
        return out

    return make


def test_pareto():
    a, b, c, d = (10, 1.0), (5, 1.2), (6, 1.3), (5, 1.2)  # b is smaller and better than c, and as d
    assert pareto([a, b, c, d], more_is_better=False, more_quality_is_better=False) == [a, b, d]
    assert pareto([a, b, c, d], more_is_better=True, more_quality_is_better=False) == [a]
    assert pareto([a, b, c, d], more_is_better=False, more_quality_is_better=True) == [b, c, d]


def test_a_tasks_scores_are_drawn_for_what_is_served():
    run = results(tasks={"intent": {"baseline": 0.96, "model": 0.93}})
    run["variants"] += [{**row("x", False, 5.0), "precision": "fp32"}]
    original, served, exact = merged(run)
    assert original["tasks"] == {"intent": 0.96} and served["tasks"] == {"intent": 0.93} and exact["tasks"] == {}
    without = merged(results())
    heights = [struct.unpack(">I", draw_trade_off(rows)[20:24])[0] for rows in (without, [original, served, exact])]
    assert heights[1] > 1.8 * heights[0]  # a line of pictures more


def test_an_original_is_drawn_once_and_stages_are_not():
    runs = [results(name, original=speed) for name, speed in (("a", 10.0), ("b", 12.0))]
    runs[0]["variants"] += [{**row("a", False, 5.0), "precision": "fp32"}]
    runs[1]["variants"][1] = {**row("b", False, 5.0), "precision": "fp32"}  # all that there is of it
    variants = merged(*runs)
    assert len([found for found in variants if found["baseline"]]) == 2
    drawn = [(found["name"], found["precision"]) for found in drawn_variants(variants)]
    assert drawn == [("original", "int8"), ("a", "int8"), ("b", "fp32")]


def test_an_original_that_was_measured_once_is_there_once():
    assert [row["name"] for row in merged(results("x"), results("y"))] == ["original", "x", "y"]


def test_a_ratio_is_to_the_original_of_its_own_run():
    rows = merged(results("x", decode=20.0, original=10.0), results("y", decode=90.0, original=30.0))
    assert [row["name"] for row in rows] == ["original of x", "original of y", "x", "y"]
    assert [row["times"].get("decode_tokens_per_second") for row in rows] == [None, None, 2.0, 3.0]


def test_runs_of_one_recipe_are_told_apart(folder, tmp_path):
    found = [read_results(folder(name, decode=decode)) for name, decode in (("one", 20.0), ("two", 30.0))]
    assert [row["name"] for row in merged(*found)] == ["original", "x (one)", "x (two)"]
    write_report(found, tmp_path / "both")
    html = (tmp_path / "both.html").read_text()
    assert "x (one) int8" in html and "x (two) int8" in html
    namesakes = [read_results(folder(name)) for name in ("a/half", "b/half")]
    assert run_names(namesakes) == [f"x ({tmp_path / name})" for name in ("a/half", "b/half")]
    with pytest.raises(UserError, match="named twice"):
        run_names([found[0], found[0]])


def test_different_texts_are_named(tmp_path):
    others = {**TEXT, "name": None, "sha256": "2" * 64}
    runs = [{**results(name, text=text), "name": name} for name, text in (("x", TEXT), ("y", others), ("z", None))]
    copy = {**results("w", text={**TEXT, "name": "a-copy.txt"}), "name": "w"}
    assert different_texts([runs[0], copy]) == {}
    said = different_texts(runs)
    assert "valid.txt (300 tokens" in said["x"] and "project's own" in said["y"] and "didn't record" in said["z"]
    write_report(runs, tmp_path / "mixed")
    assert "The perplexities are of different texts" in (tmp_path / "mixed.html").read_text()
    write_report(runs[:1], tmp_path / "single")
    assert "of different texts" not in (tmp_path / "single.html").read_text()


def test_no_label_hides_another():
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    places = [(1.0, 1.0), (1.0, 1.0), (1.01, 1.0), (3.0, 2.0)]
    axes.scatter(*zip(*places, strict=True))
    figure.draw_without_rendering()
    label_dots(axes, [(place, "int8_fastest", "black") for place in places])
    boxes = [label.get_window_extent() for label in axes.texts]
    assert len(boxes) == 4 and not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_a_name_with_a_dot_is_kept(tmp_path):
    assert write_report([results()], tmp_path / "v1.5") == tmp_path / "v1.5.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1.5.html", "v1.5.json", "v1.5.png"]


def test_a_report_without_a_name(folder):
    with pytest.raises(UserError, match="names no file"):
        command.run(Namespace(runs=[folder("one")], out=Path(".")))


def test_results_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"results\.json"):
        read_results(tmp_path)
