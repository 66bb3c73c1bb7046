"""Position and size of lung opacities on films with pneumonia: statistics of published bounding boxes.

Source: the 6,012 positive films of the RSNA Pneumonia Detection Challenge (2018). All values are fractions of
the image.
"""

import numpy as np
from numpy.typing import NDArray

COUNT_PROBABILITY = np.array([2614, 3266, 119, 13]) / 6012
"""Share of the positive films with 1, 2, 3 and 4 opacities."""

LEVELS = np.array([0.0, 0.05, 0.25, 0.50, 0.75, 0.95, 1.0])
"""Quantile levels of the tables below. The values at 0 and 1 are extrapolated by half a step."""

WIDTH = np.array([0.09, 0.121, 0.173, 0.212, 0.253, 0.310, 0.34])
HEIGHT = np.array([0.09, 0.118, 0.198, 0.291, 0.428, 0.608, 0.68])
CENTRE_Y = np.array([0.29, 0.334, 0.444, 0.519, 0.595, 0.703, 0.75])
CENTRE_X_LEFT = np.array([0.18, 0.215, 0.275, 0.312, 0.352, 0.415, 0.44])
CENTRE_X_RIGHT = np.array([0.57, 0.600, 0.659, 0.697, 0.735, 0.792, 0.82])
SHARE_LEFT = 0.535
"""Share of the opacities on the image's left half."""

MAX_LESIONS = len(COUNT_PROBABILITY)
_COUNTS = np.arange(1, MAX_LESIONS + 1)
FIRST_LEFT = (
    SHARE_LEFT * (COUNT_PROBABILITY @ _COUNTS) - COUNT_PROBABILITY @ (_COUNTS // 2)
) / COUNT_PROBABILITY[::2].sum()
"""Probability that a film's first opacity is left. With it `SHARE_LEFT` of all are, as sides alternate."""


def draw_lesions(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the opacities of one film, as rows ``(centre x, centre y, width, height)``, shape ``[count, 4]``.

    The side alternates, because two boxes on one film are mostly in different lungs.
    """
    count = 1 + int(rng.choice(MAX_LESIONS, p=COUNT_PROBABILITY))
    left = rng.random() < FIRST_LEFT
    rows = []
    for index in range(count):
        on_left = left if index % 2 == 0 else not left
        centre_x = CENTRE_X_LEFT if on_left else CENTRE_X_RIGHT
        tables = (centre_x, CENTRE_Y, WIDTH, HEIGHT)
        rows.append([np.interp(rng.random(), LEVELS, table) for table in tables])
    return np.array(rows)
