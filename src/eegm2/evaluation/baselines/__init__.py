"""What a user would otherwise do, in the same harness and on the same splits.

Every module declares what it has in ``BASELINES``; ``registry`` finds them by name and makes their runners.
``band_power``, ``slow`` and ``riemann`` compute features once per set of windows and learn a linear model of
them; ``networks`` trains braindecode's networks with the loop that trains ours
(`eegm2.evaluation.protocols.fitting.fit`).
"""

from eegm2.evaluation.baselines.declaration import Baseline
from eegm2.evaluation.baselines.registry import BASELINES, baseline_runner

__all__ = ["BASELINES", "Baseline", "baseline_runner"]
