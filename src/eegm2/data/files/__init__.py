"""Files of EEG by format: opened, checked before a parser trusts them, and written."""
