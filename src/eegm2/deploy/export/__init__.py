"""Files for other runtimes, checked against torch before they appear."""
