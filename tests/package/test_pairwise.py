"""The rows of `pairwise`: all pairs, no row too many, always the same."""

from itertools import combinations, product

import pytest
from pairwise import case, pairwise, rows_of

OPTIONS = [
    ([0, 1], "ab"),
    ([0, 1], "ab", [False, True]),
    (range(37), range(9), [False, True], [False, True]),
    (range(3), range(4), range(5), range(2), range(3)),
    ([None], "abc", [None], [1.5, 2.5]),
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "×".join(str(len(option)) for option in options))
def test_every_two_values_meet(options):
    rows = pairwise(*options)
    assert len(set(rows)) == len(rows)
    for i, j in combinations(range(len(options)), 2):
        assert {(row[i], row[j]) for row in rows} == set(product(options[i], options[j]))
    sizes = sorted(len(option) for option in options)
    assert sizes[-1] * sizes[-2] <= len(rows) <= 1.5 * sizes[-1] * sizes[-2]
    assert rows == pairwise(*options)


def test_values_that_are_equal_or_cannot_be_hashed_keep_their_places():
    assert len(pairwise([{}, {}], [[], []], [1, 1])) == 4


def test_no_pairs():
    assert pairwise() == [()]
    assert pairwise("ab") == [("a",), ("b",)]
    assert pairwise("ab", []) == []


def test_cases_of_one_test():
    rows = pairwise("ab", [0, 1], [False, True])
    assert rows_of("a", rows) + rows_of("b", rows) == [row[1:] for row in rows]
    assert {number for number, _ in rows_of("a", rows)} == {flag for _, flag in rows_of("a", rows)} == {0, 1}


def test_a_failure_names_its_case():
    with pytest.raises(ZeroDivisionError) as error, case("flat", 3):
        raise ZeroDivisionError
    assert error.value.__notes__ == ["case: flat, 3"]
