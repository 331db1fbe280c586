"""The former place of `eegm2.data.files.readers`, kept for scripts that import it from here."""

from eegm2.data.files.readers import annotation_labels, read_raw

__all__ = ["annotation_labels", "read_raw"]
