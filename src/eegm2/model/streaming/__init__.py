"""The networks on a stream: in blocks of any length, and in steps of fixed size for export."""
