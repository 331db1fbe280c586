"""Whole experiments: data, splits, pretrainings, models and seeds from one TOML file, cell by cell.

`config` and `reading` are the file, `splits` divides the subjects, `weights` pretrains, `cells` keeps what is
done, `state` says what is left, `runners` and `run` do it, `results` and `tables` sum it up.
"""
