"""The work of ``eegm2 prepare``: from a data set's files into a store."""
