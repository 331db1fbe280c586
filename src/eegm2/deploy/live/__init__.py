"""Live EEG: sources, sinks, the pipeline between them, a terminal view and a local web page."""
