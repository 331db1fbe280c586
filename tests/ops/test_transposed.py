"""States change their layout on the way into a kernel and out of it."""

from __future__ import annotations

import numpy as np
import pytest

from eegm2.ops.cpu.steps import transposed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (17, 35), (5, 3), (8, 8), (40, 16), (16, 7), (1, 1)])
def test_every_number_comes_to_its_place_and_no_other(shape: tuple[int, int], dtype: type) -> None:
    rows, columns = shape
    source = np.random.default_rng(0).standard_normal((rows, columns + 3)).astype(dtype)
    target = np.full((columns + 1, rows + 5), 7, dtype)
    arguments = (rows, columns, columns + 3, rows + 5, dtype(0.3))
    transposed(source.ravel(), 0, target.ravel(), 0, *arguments)
    np.testing.assert_array_equal(target[:columns, :rows], (dtype(0.3) * source[:, :columns]).T)
    target[:columns, :rows] = 7
    assert (target == 7).all()
