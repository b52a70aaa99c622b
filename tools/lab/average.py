"""The average of two sets of weights: of a round's result and of the weights that it started from.

Both lie in one basin of the loss, so their average is a network too. It is often better than either, because a short
round forgets a little of what longer rounds learned.
Source: Wortsman and others, "Model soups: averaging weights of multiple fine-tuned models" (2022).
"""

from __future__ import annotations

import numpy as np

from edge.errors import ModelError
from tools.lab.checkpoint import PROJECTION, Weights


def averaged(start: Weights, end: Weights, share: float) -> Weights:
    """Return (1 − share) · start + share · end for every tensor; raises ModelError for different networks.

    The length of an embedding has no meaning. The projection of `start` is therefore scaled to the norm of that of
    `end` first.
    """
    if {name: value.shape for name, value in start.items()} != {name: value.shape for name, value in end.items()}:
        raise ModelError("the weights are of different networks", "average the start and the result of one round")
    kernel = f"{PROJECTION}weight"
    scale = float(np.linalg.norm(end[kernel]) / np.linalg.norm(start[kernel])) if kernel in end else 1.0
    return {
        name: np.asarray(
            (1 - share) * (scale if name.startswith(PROJECTION) else 1.0) * start[name] + share * end[name], np.float32
        )
        for name in end
    }
