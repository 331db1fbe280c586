"""The former place of `eegm2.data.windows.splits`, kept for scripts that import it from here."""

from eegm2.data.windows.splits import SplitManifest, split_subjects

__all__ = ["SplitManifest", "split_subjects"]
