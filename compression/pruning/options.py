"""What a pruning can be told, and which method takes which option. Needs no PyTorch."""

from typing import Literal, get_args

SparseMethod = Literal["magnitude", "wanda", "sparsegpt"]
Method = Literal[SparseMethod, "depth", "attention", "feed-forward", "vocabulary"]
SPARSE: tuple[SparseMethod, ...] = get_args(SparseMethod)
METHODS: tuple[Method, ...] = get_args(Method)
_WIDTH: tuple[Method, ...] = ("attention", "feed-forward")
_TAKEN_BY: dict[str, tuple[Method, ...]] = {
    "a pattern": SPARSE,
    "a choice of layers": ("depth",),
    "uniform": _WIDTH,
    "a text to decide by": tuple(method for method in METHODS if method != "magnitude"),
}


def require_options_fit(
    method: Method, *, pattern: bool = False, layers: bool = False, uniform: bool = False, text: bool = False
) -> None:
    """
    Args:
        pattern, layers, uniform, text: whether the option was given; layers: by their influence, or which to keep

    Raises:
        ValueError: an option of another method, which would be ignored.
    """
    given = dict(zip(_TAKEN_BY, (pattern, layers, uniform, text), strict=True))
    for option, methods in _TAKEN_BY.items():
        if given[option] and method not in methods:
            raise ValueError(f"{option} is for {', '.join(methods)}, not for {method}: leave it out")
