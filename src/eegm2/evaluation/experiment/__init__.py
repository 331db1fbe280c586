"""Whole experiments: data, splits, pretrainings, models and seeds from one TOML file, cell by cell.

`config` and `reading` are the file, `splits` divides the subjects, `weights` pretrains into the folders that
`pretrained` finds, `settings` says what decides a cell, `cells` keeps what is done, `state` says what is
left, `runners`, `choice` and `run` do it, `log` tells, `results` and `tables` sum it up.
"""
