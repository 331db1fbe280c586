"""Laws of what is refused: each kind of value takes what its name says, to its edges, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from eegm2 import config, records
from eegm2.config import conflicts, expect, non_defaults, one_of, option, pairs, split_commas
from eegm2.errors import ConfigError, DataError
from eegm2.records import Kind, Record, checked, each, maybe, sound_fields
from eegm2.words import count

NAN, INF = math.nan, math.inf
#: Kind → what it takes, and what it does not.
EDGES: dict[str, tuple[Kind, list[Any], list[Any]]] = {
    "0 or more": (config.NOT_NEGATIVE, [0, 0.0, 1e-9], [-1e-9, -1, NAN]),
    "above 0": (config.ABOVE_0, [1e-9, 1], [0, 0.0, -1, NAN]),
    "at least 1": (config.AT_LEAST_1, [1, 1.5], [0, 0.999]),
    "share": (config.SHARE, [0, 0.5, 1], [-0.01, 1.01, NAN]),
    "below 1": (config.BELOW_1, [0, 0.999], [-0.01, 1, 1.0]),
    "seconds": (config.SECONDS, [0.01], [0, -1]),
    "one of": (one_of("a", "b"), ["a", "b"], ["", "c", "ab"]),
    "text": (records.TEXT, ["", "x"], [1, None, ["x"]]),
    "whole": (records.WHOLE, [0, -3, 2**63 - 1], [1.0, True, "1", 2**63, None]),
    "count": (records.COUNT, [0, 7], [-1, 1.0, True]),
    "number": (records.NUMBER, [0, -1.5, 10**300], [True, NAN, INF, "1", None, 2**1000]),
    "real": (records.REAL, [0, -1.5, NAN, INF], [True, "1", None, 2**1000]),
    "length": (records.LENGTH, [1e-9, 1, 1e9], [0, -1, 1.1e9, NAN, True, "1"]),
    "flag": (records.FLAG, [True, False], [0, 1, "true", None]),
    "table": (records.TABLE, [{}, {"a": 1}], [[], None]),
    "names": (records.NAMES, [["a"], ["a", "b"]], [[], ["a", "a"], ["a", ""], ["a", 1], "a", None]),
    "texts": (records.TEXTS, [[], ["a", "a"]], [["a", 1], "a", None]),
    "numbers": (records.NUMBERS, [[1], [1.5, -2]], [[], [NAN], [True], ["1"], 1]),
    "maybe": (maybe(records.COUNT), [None, 0], [-1, "x"]),
    "each": (each(records.TEXT), [{}, {"a": "x"}], [{"a": 1}, ["x"], None]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_a_kind_takes_what_its_name_says_to_its_edges(name: str) -> None:
    kind, inside, outside = EDGES[name]
    for value in inside:
        assert kind.fits(value), value
        assert checked({"x": value}, Record({"x": kind}), "f", DataError) == {"x": value}
    for value in outside:
        assert not kind.fits(value), value
        with pytest.raises(DataError, match=r"f: damaged: x is .*, expected"):
            checked({"x": value}, Record({"x": kind}), "f", DataError)
        kept, problems = sound_fields({"x": value, "y": 1}, Record({"x": kind}))
        assert (kept, len(problems)) == ({"y": 1}, 1)


@dataclasses.dataclass(frozen=True)
class Options:
    """One number, a list and one that may be none."""

    share: float = option(0.5, "A share.")
    sizes: tuple[int, ...] = option((1,), "Sizes.")
    limit: float | None = option(None, "A limit.")

    def __post_init__(self) -> None:
        expect(self, config.SHARE, "share", "limit")
        expect(self, config.AT_LEAST_1, "sizes")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": -0.1}, "share: got -0.1, expected a share between 0 and 1"),
        ({"limit": 2.0}, "limit: got 2.0, expected a share"),
        ({"sizes": (3, 0)}, "sizes: got 0, expected at least 1"),
    ],
)
def test_every_value_of_an_option_is_looked_at_and_named(given: dict[str, Any], message: str) -> None:
    """Each of a list, and a zero as well; none is none."""
    assert Options(share=0.0, sizes=(), limit=0.0) == Options(0.0, (), 0.0)
    with pytest.raises(ConfigError, match=message):
        Options(**given)


def test_values_of_options_are_what_they_read_as() -> None:
    assert pairs(["a=1", "b=1.5", "c=true", "d=x y", "e=[1, 2]", "f='q'", "g="], "o") == {
        "a": 1, "b": 1.5, "c": True, "d": "x y", "e": [1, 2], "f": "q", "g": "",
    }  # fmt: skip
    assert pairs(["a=1=2"], "o") == {"a": "1=2"}
    for wrong, message in (
        (["a"], "expected name=value"),
        (["1a=2"], "expected name=value"),
        (["a=1", "a=2"], "twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            pairs(wrong, "o")
    assert split_commas(["a, b", "c", "", r"d\,e"]) == ("a", "b", "c", "d,e")


def test_what_is_missing_inside_is_named_by_its_place() -> None:
    """In tables in lists, by number; what is not declared is passed on."""
    row = Record({"n": records.COUNT, "who": Record({"name": records.TEXT}, ("name",))}, ("n",))
    record = Record({"rows": [row]}, ("rows",))
    good = {"n": 1, "who": {"name": "x", "more": 2}, "own": 3}
    assert checked({"rows": [good]}, record, "f", DataError) == {"rows": [good]}
    for value, problem in (
        ({}, "rows is missing"),
        ({"rows": {}}, "rows is {}, expected a list"),
        ({"rows": [good, {"who": {"name": "x"}}]}, r"rows\[1\].n is missing"),
        ({"rows": [good, {"n": 1, "who": {}}]}, r"rows\[1\].who.name is missing"),
        ({"rows": [{"n": -1}]}, r"rows\[0\].n is -1, expected a count"),
    ):
        with pytest.raises(DataError, match=problem):
            checked(value, record, "f", DataError)
    kept, problems = sound_fields({"rows": [good, 5, {"n": -1, "z": 1}]}, record)
    assert kept == {"rows": [good, {"z": 1}]}
    assert problems == ["rows is not a list of tables", "rows: n is -1, expected a count"]


@pytest.mark.parametrize(
    ("n", "said"), [(0, "0 windows"), (1, "1 window"), (2, "2 windows"), (1234, "1,234 windows")]
)
def test_only_one_is_singular(n: int, said: str) -> None:
    assert count(n, "window") == said


def test_what_differs_from_a_default_is_kept_though_it_be_nothing() -> None:
    """Zero, none and an empty list are choices; what is as usual is not told."""
    assert non_defaults(Options()) == {}
    assert non_defaults(Options(share=0.0, sizes=())) == {"share": 0.0, "sizes": []}
    assert non_defaults(Options(limit=0.0)) == {"limit": 0.0}
    assert non_defaults(Options(), Options(limit=0.5)) == {"limit": None}
    assert conflicts({"share": 0.5, "sizes": [1]}, Options(limit=0.0)) == ["limit"]
    assert conflicts({"share": 0.5, "gone": 1}, Options()) == ["gone"]
    assert conflicts({"share": 0.25}, Options(share=0.25)) == []
    assert conflicts(None, Options()) == ["share", "sizes", "limit"]


@pytest.mark.parametrize(("size", "read"), [(10, True), (11, False)])
def test_a_file_is_read_up_to_its_bound(
    size: int, read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 10)
    path = tmp_path / "a.json"
    path.write_text(" " * (size - 2) + "{}")
    if read:
        assert records.read_json(path) == {}
    else:
        with pytest.raises(ValueError, match="more than 10 bytes"):
            records.read_json(path)
