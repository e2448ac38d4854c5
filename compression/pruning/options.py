"""What a pruning can be told, and which method takes which option. Needs no PyTorch."""

from typing import Literal, get_args

SparseMethod = Literal["magnitude", "wanda", "sparsegpt"]
Method = Literal[SparseMethod, "depth", "attention", "feed-forward", "vocabulary"]
SPARSE: tuple[SparseMethod, ...] = get_args(SparseMethod)
CALIBRATED: tuple[SparseMethod, ...] = tuple(method for method in SPARSE if method != "magnitude")
"""that run the model beside the pruned one"""
METHODS: tuple[Method, ...] = get_args(Method)


def require_options_fit(
    method: Method,
    *,
    pattern: bool = False,
    layers: bool = False,
    uniform: bool = False,
    text: bool = False,
    unrefitted: bool = False,
) -> None:
    """
    Args:
        pattern, layers, uniform, text, unrefitted: whether the option was given (layers: by their influence, or which
            to keep)

    Raises:
        ValueError: an option of another method, which would be ignored.
    """
    for given, option, methods in (
        (pattern, "a pattern", SPARSE),
        (layers, "a choice of layers", ("depth",)),
        (uniform, "uniform", ("attention", "feed-forward")),
        (unrefitted, "to go without a refit", CALIBRATED),
        (text, "a text to decide by", tuple(other for other in METHODS if other != "magnitude")),
    ):
        if given and method not in methods:
            raise ValueError(f"{option} is for {', '.join(methods)}, not for {method}: leave it out")
