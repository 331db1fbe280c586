"""Files that headsets and their programs write: tables of samples, and XDF of LabRecorder."""
