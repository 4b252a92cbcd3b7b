"""The comparison that the other tests trust: it must see every kind of difference."""

import pytest

from harness import canonical_bound, differences, same_number


def vector(*elements):
    return {"resultType": "vector", "result": [{"metric": m, "value": [10, v]} for m, v in elements]}


def matrix(*elements):
    return {"resultType": "matrix", "result": [{"metric": m, "values": v} for m, v in elements]}


A, B = {"a": "1"}, {"a": "2"}


@pytest.mark.parametrize("got, want", [
    (vector((A, "1")), vector((A, "2"))),
    (vector((A, "1")), vector((A, "1"), (B, "1"))),
    (vector((A, "1"), (B, "1")), vector((A, "1"))),
    (vector((A, "NaN")), vector((A, "0"))),
    (vector((A, "1.000001")), vector((A, "1"))),
    (vector((A, "+Inf")), vector((A, "-Inf"))),
    (vector((A, "1"), (A, "1")), vector((A, "1"))),
    (matrix((A, [[1, "1"]])), matrix((A, [[1, "1"], [2, "1"]]))),
    (matrix((A, [[1, "1"]])), matrix((A, [[1.5, "1"]]))),
    (vector((A, "1")), matrix((A, [[10, "1"]]))),
    ({"resultType": "scalar", "result": [1, "1"]}, {"resultType": "scalar", "result": [1, "2"]}),
    ({"resultType": "scalar", "result": [1, "1"]}, {"resultType": "scalar", "result": [2, "1"]}),
])
def test_differences_are_seen(got, want):
    assert differences(got, want)


def test_order_counts_when_it_should():
    got, want = vector((A, "1"), (B, "1")), vector((B, "1"), (A, "1"))
    assert not differences(got, want)
    assert differences(got, want, ordered=True)


def test_equal_answers_have_no_differences():
    assert not differences(vector((A, "NaN"), (B, "0.1")), vector((A, "NaN"), (B, "0.10000000000000001")))
    assert not differences(vector(({"le": "1"}, "1")), vector(({"le": "1.0"}, "1")))
    assert canonical_bound("+Inf") == canonical_bound("inf")
    assert not same_number("1", "1.0000001")
