"""Where channels lie on the head, for maps seen from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def head_positions(ch_names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the positions of channels with known names, seen from above.

    Parameters
    ----------
    ch_names : sequence of str
        A bipolar name such as ``FP1-F7`` gets the middle of its two electrodes.

    Returns
    -------
    dict of str to (right, forward)
        Azimuthal equidistant projection in head radii: 1 is the circle through Fpz, T7, T8 and Oz. Channels
        of other names are left out.
    """
    from eegm2.data.positions import positions

    around = ("Fpz", "T7", "T8", "Oz")
    points = positions([*around, "Cz", *ch_names])
    # the sphere nearest to five electrodes that span it: |p|² = 2 p·c + k is linear in centre c and k
    anchors = points[: len(around) + 1]
    design = np.column_stack([2 * anchors, np.ones(len(anchors))])
    centre = np.linalg.lstsq(design, (anchors**2).sum(axis=1), rcond=None)[0][:3]
    x, y, z = (points - centre).T
    away = np.hypot(x, y)
    flat = (np.arctan2(away, z) / np.maximum(away, 1e-12))[:, None] * np.column_stack([x, y])
    flat /= np.hypot(*flat[: len(around)].T).mean()
    found = zip(ch_names, flat[len(around) + 1 :].tolist())
    return {name: (right, forward) for name, (right, forward) in found if np.isfinite(right)}
