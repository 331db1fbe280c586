"""What a pretrained model is worth: representations, probes, downstream protocols and metrics.

``labelled`` is what all of them take; only ``stores`` knows recordings and splits on disk. ``protocols`` has
the paper's four modes, ``crossval`` and ``resampling`` say how sure a result is, ``sklearn`` and ``module``
are the same for other libraries, ``probe``, ``embedding`` and ``reconstruction`` do the work of the commands.
"""
