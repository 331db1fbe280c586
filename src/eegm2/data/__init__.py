"""From EEG files to scaled windows: readers, preprocessing, the recording store, windows and splits."""
