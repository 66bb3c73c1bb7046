"""Image metrics with one metric per arm."""


def same_in_both_spaces(key: str, group: str = "overall", **arms: dict) -> dict:
    """The metric of each arm, under ``group``, with equal values in both feature spaces."""
    return {arm: {group: {key: metric, "independent": {key: metric}}} for arm, metric in arms.items()}
