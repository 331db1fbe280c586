"""Where channels lie on the head, for maps seen from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def head_positions(ch_names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the positions of the channels that the international 10-05 system names.

    Parameters
    ----------
    ch_names : sequence of str
        Any case; a bipolar name such as ``FP1-F7`` gets the middle of its two electrodes.

    Returns
    -------
    dict of str to (right, forward)
        Azimuthal equidistant projection in head radii: 1 is the circle through Fpz, T7, T8 and Oz. Channels
        of other names are left out.
    """
    import mne

    montage = mne.channels.make_standard_montage("standard_1005").get_positions()["ch_pos"]
    names = [name.upper() for name in montage]
    points = np.array([montage[name] for name in montage])
    # centre of the best-fitting sphere: |p|² = 2 p·c + k is linear in c and k
    design = np.column_stack([2 * points, np.ones(len(points))])
    centre = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0][:3]
    x, y, z = (points - centre).T
    angle = np.arctan2(np.hypot(x, y), z)
    flat = (angle / np.maximum(np.hypot(x, y), 1e-12))[:, None] * np.column_stack([x, y])
    table = dict(zip(names, flat))
    radius = np.mean([np.hypot(*table[name]) for name in ("FPZ", "T7", "T8", "OZ")])
    found = {}
    for channel in ch_names:
        parts = [part.strip().upper() for part in channel.split("-")]
        if all(part in table for part in parts):
            right, forward = np.mean([table[part] for part in parts], axis=0) / radius
            found[channel] = (float(right), float(forward))
    return found
