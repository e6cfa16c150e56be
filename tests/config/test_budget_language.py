import pytest

from archtool.budget.language import Limit, parse_budget
from archtool.errors import UsageError

PARENT = {"parameters": 1_000_000.0, "size_bytes": 4e6, "latency_ms": 10.0, "macs": 2e9}


def test_every_kind_and_unit():
    budget = parse_budget("params=0.5x, size=12MB,latency=5ms,macs=1.2G,bits=4.25,memory=1GiB")
    assert budget.terms == (
        Limit("params", 0.5, relative=True),
        Limit("size", 12e6),
        Limit("latency", 5.0),
        Limit("macs", 1.2e9),
        Limit("bits", 4.25),
        Limit("memory", 2.0**30),
    )


@pytest.mark.parametrize(
    "text", ["params=0.5x", "params=20M", "size=1.5MB", "latency=5ms", "latency=2s", "macs=3k", "bits=4"]
)
def test_text_round_trip(text):
    assert str(parse_budget(text)) == text and parse_budget(str(parse_budget(text))) == parse_budget(text)


def test_resolve_and_check():
    budget = parse_budget("params=0.5x,latency=5ms").resolve(PARENT)
    assert budget.terms[0] == Limit("params", 500_000.0)
    assert budget.check({"parameters": 500_000, "latency_ms": 5.0}) == ()
    [excess] = budget.check({"parameters": 500_001, "latency_ms": 4.0})
    assert excess.limit.kind == "params" and "parameters is 500001" in str(excess)


def test_relative_limits_must_be_resolved_and_costs_known():
    with pytest.raises(ValueError, match="resolve params"):
        parse_budget("params=0.5x").check(PARENT)
    with pytest.raises(UsageError, match="memory_bytes"):
        parse_budget("memory=0.5x").resolve(PARENT)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("parms=0.5x", "unknown budget `parms`", 1),
        ("params=0.5x,size=12", "needs a unit", 18),
        ("size=12MB, params=0", "must be above 0", 19),
        ("params=-1M", "must be above 0", 8),
        ("params=2x", "asks for growth", 8),
        ("size=1GB,size=2GB", "limited twice", 10),
        ("latency=5minutes", "unknown unit `minutes`", 9),
        ("params=1.2.3M", "is not a number", 8),
        ("0.5x", "is not a budget term", 1),
        ("", "is not a budget term", 1),
        ("size=1MB,", "is not a budget term", 10),
    ],
)
def test_mistakes_point_at_the_term(text, message, column):
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert message in caught.value.what and caught.value.where.column == column
