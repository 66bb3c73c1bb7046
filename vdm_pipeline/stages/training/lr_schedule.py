"""The learning rate as a function of the step."""

import math

from vdm_pipeline.settings import Training


def learning_rate(training: Training, step: int) -> float:
    """Linear warm-up, then constant, or a half cosine from the peak to a tenth of it at the last step."""
    peak, warmup = training.learning_rate, training.lr_warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if training.lr_scheduler == "constant":
        return peak
    progress = (step - warmup) / max(1, training.max_train_steps - 1 - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))
