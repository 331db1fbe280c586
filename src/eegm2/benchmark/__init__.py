"""Time and memory of the networks on this machine, each measurement in a process of its own.

``eegm2 benchmark`` and the tables in the documentation come from here: `suites` says what is measured, `run`
starts the processes, `measure` is what each of them does, `aims` and `tables` and `plots` read the results.
"""
