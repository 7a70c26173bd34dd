"""Shapes in signatures are checked while tests run, in every module that declares them."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import TypeCheckError


def test_an_array_of_another_shape_is_caught():
    from workbench.evaluation.intervals import area

    false, weights = np.array([True, False, False]), np.ones((5, 3))
    assert area(false, np.array([0.9, 0.4, 0.3]), weights)[0] == 1
    with pytest.raises(TypeCheckError, match="area"):
        area(false, np.array([0.1, 0.4]), weights)
