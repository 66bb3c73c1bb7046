"""Learning rates as functions of the step."""

import math

from vdm_pipeline.settings import Training


def learning_rate(training: Training, step: int) -> float:
    """Linear warm-up, then constant, or a half cosine from the peak to a tenth of it at the last step."""
    if step < training.lr_warmup_steps:
        return training.learning_rate * (step + 1) / training.lr_warmup_steps
    if training.lr_scheduler == "constant":
        return training.learning_rate
    share = (step - training.lr_warmup_steps) / max(
        1, training.max_train_steps - 1 - training.lr_warmup_steps
    )
    return training.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))
