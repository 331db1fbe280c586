"""What data sets say of their codes, channels and scores, said again: a mistyped table runs as well."""

from __future__ import annotations

import itertools

import pytest

from eegm2.data.recipes import arrays, dreamer, stew, tuev
from tests.data.samples import EPOC


def test_codes_of_events_and_conditions() -> None:
    """Of the TUH events corpus (Harati et al. 2015) and of STEW (Lim et al. 2018)."""
    names = ("spsw", "gped", "pled", "eyem", "artf", "bckg")
    assert dict(enumerate(names, start=1)) == tuev.EVENTS
    assert stew.CONDITIONS == {"lo": "rest", "hi": "task"}


@pytest.mark.parametrize("name", ["valence", "arousal", "dominance"])
def test_a_score_is_the_one_of_its_name(name: str) -> None:
    """Of DREAMER (Katsigiannis & Ramzan 2018)."""
    assert dreamer.SCORES[name] == f"Score{name.title()}"


def test_channels_in_the_order_of_their_files() -> None:
    """Of the EPOC clockwise from the left forehead; of a double banana chain by chain, front to back."""
    assert arrays.EPOC14 == EPOC
    chains = ("FP1 F7 T3 T5 O1", "FP2 F8 T4 T6 O2", "FP1 F3 C3 P3 O1", "FP2 F4 C4 P4 O2")
    pairs = [pair for chain in chains for pair in itertools.pairwise(chain.split())]
    assert tuple("-".join(pair) for pair in pairs) == arrays.TCP16
