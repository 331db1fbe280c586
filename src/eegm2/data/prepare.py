"""The former place of `eegm2.data.preparing.prepare`, kept for scripts that import it from here."""

from eegm2.data.preparing.prepare import prepare, resolve_preprocessing

__all__ = ["prepare", "resolve_preprocessing"]
