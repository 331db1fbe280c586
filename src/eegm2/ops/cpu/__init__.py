"""Compiled CPU kernels (Numba) behind torch custom operators; imported only where they are used."""
