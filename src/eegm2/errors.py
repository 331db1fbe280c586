"""Errors a user can mend.

Every message is one line that names the file or option, the value found and the remedy. The command line
prints it after ``error:`` and leaves with a non-zero exit status; the Python API raises it.
"""

from __future__ import annotations


class EEGM2Error(Exception):
    """A problem that the user can mend; the message says where, what was found and what to do."""


class ConfigError(EEGM2Error, ValueError):
    """An option or configuration file that cannot be used."""


class DataError(EEGM2Error, ValueError):
    """A recording, store, window or split that cannot be used."""


class CheckpointError(EEGM2Error, ValueError):
    """A checkpoint that cannot be read or belongs to another configuration."""
