"""Whole experiments: data, splits, pretrainings, models and seeds from one TOML file, cell by cell.

`config` reads the file, `splits` divides the subjects, `weights` pretrains, `cells` keeps what is done, `run`
does the rest, `results` makes the tables.
"""
