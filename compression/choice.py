"""What a mixed precision chose for each matrix, and why: for the report and `--explain`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    chosen: dict[str, str]
    """joined matrix -> how it is stored; the most sensitive first"""
    errors: dict[str, dict[str, float]]
    """joined matrix -> way to store it -> relative change of its block's output when it alone is stored so"""
    mean_kl: float
    """to fp32 on the calibration text, as chosen"""
    rule: str
    """the budget, in words"""


def explain(choice: Mapping) -> list[str]:
    """Lines for people, from the report's entry."""
    ways = list(dict.fromkeys(way for errors in choice["errors"].values() for way in errors))
    counts = {way: sum(chosen == way for chosen in choice["chosen"].values()) for way in choice["chosen"].values()}
    lines = [
        choice["rule"],
        f"mean KL to fp32 on the calibration text: {choice['mean_kl']:.5f}",
        f"of {len(choice['chosen'])} matrices: {', '.join(f'{count} {way}' for way, count in counts.items())}",
        "relative change of a block's output when one matrix alone is stored so (bits / weights in a block; +: in",
        "blocks of 32 with an offset each; nothing where it wasn't measured):",
        "  ".join(f"{way:>12}" for way in ways) + "  chosen        matrix",
    ]
    for name, chosen in choice["chosen"].items():
        errors = choice["errors"][name]
        cells = "  ".join(f"{errors[way]:12.6f}" if way in errors else " " * 12 for way in ways)
        lines.append(f"{cells}  {chosen:12}  {name}")
    return lines
