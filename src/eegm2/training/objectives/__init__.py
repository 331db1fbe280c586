"""What pretraining minimises: each task a module here, its name and options in ``options``.

To add one: its options and its line in ``TASKS`` in ``options``, a subclass of ``base.Objective`` in a module
of its own, a test, and a paragraph in docs/pretraining.md.
"""
