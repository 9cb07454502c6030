"""Between the state of the process and what a person has and sees: 8-bit images, colours of a layout, pictures.

The state of the image is float32 in [-1, 1]; today the codec is the identity on it.
"""

from __future__ import annotations

import numpy as np


def to_state(image: np.ndarray) -> np.ndarray:
    """uint8 (..., C) -> float32 in [-1, 1]."""
    return image.astype(np.float32) / 127.5 - 1.0


def to_uint8(state: np.ndarray) -> np.ndarray:
    """float in [-1, 1] -> uint8, rounded to the nearest value."""
    return np.clip(np.rint((np.asarray(state) + 1.0) * 127.5), 0, 255).astype(np.uint8)
