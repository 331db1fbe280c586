"""What a pretrained model is worth: representations, probes, downstream protocols and metrics.

``windows`` is what all of it takes, and only ``windows.from_store`` knows recordings and splits on disk.
``protocols`` has the paper's four modes, ``scores`` says how good a result is and how sure, ``baselines``
what a user would do instead, ``estimators`` is the same for other libraries; ``probing``, ``reconstruct``,
``features.embedding`` and ``experiment`` do the work of the commands.
"""
