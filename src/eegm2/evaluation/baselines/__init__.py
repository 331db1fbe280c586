"""What a user would otherwise do, in the same harness and on the same splits.

``registry`` names the baselines and makes their runners; ``options`` is what each can be told. ``band_power``
and ``riemann`` compute features once per set of windows and learn a linear model of them; ``networks``
trains braindecode's networks with the loop that trains ours (`eegm2.evaluation.protocols.fitting.fit`).
"""

from eegm2.evaluation.baselines.registry import BASELINES, Baseline, baseline_runner

__all__ = ["BASELINES", "Baseline", "baseline_runner"]
