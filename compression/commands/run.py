"""Run a recipe: a chain of steps in a YAML file.

  python -m compression run int8-fast --out fast
  python -m compression run half-depth-distilled-int8 --out half --dry-run
  python -m compression run my-recipe.yaml --out mine --text texts/ --resume

A step whose inputs and options haven't changed is not done again, so that a stopped run goes on with --resume and
loses at most the step that was running (training goes on from its last checkpoint). OUT/model is the exported model;
OUT/report.html shows what it cost and gained.

A recipe lists its steps with their options:

  name: half-depth
  model: default
  steps:
    - prune: {method: depth, sparsity: 0.5}
    - recover: {method: lora, text: texts/, tokens: 500000}
    - export: {precision: [fp32, int8]}
    - check:
    - bench:
    - evaluate:
"""

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from compression.model_or_artifact import read_config_of
from compression.recipe import Recipe, evaluated_on, read_recipe, recipe_names, require_training
from compression.recipe_inputs import input_hashes
from compression.recipe_options import STEPS, options_of
from compression.recipe_plan import plan
from compression.recipe_run import RecipeRun
from compression.report import write_report
from gpt_tasks.errors import UserError
from gpt_tasks.progress_output import make_reporter

SUMMARY = "run a recipe: prune, distill, recover, export, check, bench, evaluate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help=f"a YAML file, or one of {', '.join(recipe_names())}"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder")
    parser.add_argument("--model", help="instead of the recipe's model")
    parser.add_argument(
        "--text",
        metavar="PATH",
        help="a text file or a folder of .txt that distill and recover learn from; the shipped recipes go on from the "
        "correction that comes with the project then",
    )
    parser.add_argument(
        "--evaluate-on",
        metavar="FILE",
        help="a text for the perplexity, instead of what the recipe's evaluate names",
    )
    parser.add_argument("--resume", action="store_true", help="go on in a folder that holds an earlier run")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, with sizes, time and memory")
    parser.add_argument("--options", action="store_true", help="list all steps with their options, and do nothing")
    parser.add_argument("--progress", choices=["bar", "json", "none"], default="bar")
    parser.add_argument("--json", action="store_true", help="print the results (or the plan) as one JSON object")


def run(arguments: argparse.Namespace) -> None:
    if arguments.options:
        _show_options()
        return
    if arguments.recipe is None or arguments.out is None:
        raise UserError("Name a RECIPE and a folder with --out. (--options lists what a recipe can say.)")
    recipe = read_recipe(arguments.recipe)
    if arguments.model is not None:
        recipe = recipe.model_copy(update={"model": arguments.model})
    if arguments.text is not None:
        require_training(recipe)
    if arguments.evaluate_on is not None:
        recipe = evaluated_on(recipe, arguments.evaluate_on)
    with make_reporter(arguments.progress) as report:
        recipe_run = RecipeRun(recipe, arguments.out, arguments.text, arguments.resume, report)
        if arguments.dry_run:
            input_hashes(recipe, arguments.text)  # refuses what the run would refuse
            _show_plan(recipe, arguments)
            return

        def began(number: int, name: str, skipped: bool) -> None:
            done = " (unchanged)" if skipped else ""
            sys.stderr.write(f"step {number} of {len(recipe.steps)}: {name}{done}\n")

        results = recipe_run.run(f"python -m compression {shlex.join(sys.argv[1:])}", began)
    write_report([results], arguments.out / "report")
    if arguments.json:
        print(json.dumps(results, ensure_ascii=False))
        return
    print(f"{arguments.out / 'model'}")
    for row in results["variants"]:
        print("  " + _line(row))
    print(f"Report: {arguments.out / 'report.html'}")


def _line(row: dict) -> str:
    said = [f"{row['name']} {row['precision']}:", f"{row['size_mb']:.1f} MB"]
    if row["ratio"] is not None:
        said.append(f"perplexity x {row['ratio']:.3f}")
    if row["decode_tokens_per_second"] is not None:
        speeds = (round(row[f"{phase}_tokens_per_second"]) for phase in ("decode", "prefill"))
        said.append("decode {}, prefill {} tokens/s".format(*speeds))
    return "  ".join(said)


def _show_plan(recipe: Recipe, arguments: argparse.Namespace) -> None:
    steps = list(plan(recipe, read_config_of(recipe.model), arguments.text))
    if arguments.json:
        print(json.dumps({"recipe": recipe.name, "steps": [asdict(step) for step in steps]}))
        return
    print(f"{recipe.name} on {recipe.model}, into {arguments.out}. All figures are estimates.")
    for step in steps:
        size = "" if step.size_mb is None else f"{step.size_mb:9.1f} MB on disk"
        print(
            f"  {step.title:14} {step.parameters / 10**6:8.1f} million weights  about {step.minutes:6.1f} min "
            f"{step.memory_mb:7.0f} MB memory {size}"
        )
    print("Nothing was done.")


def _show_options() -> None:
    for name, kind in STEPS.items():
        print(f"{name}: {(kind.__doc__ or '').strip()}")
        for option, default, meaning in options_of(kind):
            print(f"  {option:18} {default:12} {meaning}")
