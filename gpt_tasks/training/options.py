"""How a training goes: plain data, written into its log."""

from dataclasses import dataclass

MATRICES = ("query", "key", "value", "output", "gate", "up", "down")
"""that LoRA can correct in a layer; some models have no gate"""


@dataclass(frozen=True)
class TrainingOptions:
    """
    Raises:
        ValueError: a number out of its range, named.
    """

    epochs: float = 3
    """Times that each example is seen."""
    learning_rate: float = 1e-3
    """The highest; reached after the warm-up."""
    tokens_per_batch: int = 1024
    """Padding counted. One step of the optimizer sees this times `accumulation`."""
    accumulation: int = 1
    """Batches whose gradients are added up before a step."""
    warmup: float = 0.06
    """The part of all steps in which the learning rate rises; after it, it falls in a straight line to 0."""
    weight_decay: float = 0.01
    gradient_norm: float = 1.0
    """Longer gradients are cut to this length."""
    evaluations_per_epoch: float = 2
    patience: int = 4
    """Evaluations on dev without a better score, after which training stops."""
    seed: int = 0
    average: float = 0.0
    """What is evaluated and kept is a moving average of the parameters over the steps, of this decay (Polyak and
    Juditsky 1992); 0: the parameters themselves."""
    compiled: bool = False
    """The decoder's layers are compiled first (`torch.compile`): a minute, and a C++ compiler is needed; then a step
    takes about three quarters of the time."""

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "tokens_per_batch", "accumulation", "gradient_norm", "patience"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)}")
        if self.evaluations_per_epoch <= 0:
            raise ValueError(f"evaluations_per_epoch must be more than 0, got {self.evaluations_per_epoch}")
        for name in ("warmup", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {getattr(self, name)}")
