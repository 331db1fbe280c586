"""The work of ``eegm2 probe``: a run judged on labelled recordings, as a folder."""
