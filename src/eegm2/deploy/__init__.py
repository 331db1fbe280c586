"""Models at work: on live streams, on whole recordings, and in the formats of other runtimes."""
