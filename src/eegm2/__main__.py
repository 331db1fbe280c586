"""``python -m eegm2`` is the ``eegm2`` command."""

from eegm2.cli.main import main

main()
