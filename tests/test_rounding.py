"""Figures are rounded in one place, to what left-out images support."""

from __future__ import annotations

import pytest

from covid_mm.formats import bound_probability, format_percent, round_probability


@pytest.mark.parametrize(
    ("value", "supported", "shown", "number"),
    [
        (0.5049, 1.0, ("", 50), 0.5),
        (0.973, 0.97, ("over", 97), 0.97),
        (0.97 - 1e-9, 0.97, ("over", 97), 0.97),  # clipped to the cap
        (0.02, 0.97, ("under", 3), 0.03),
        (0.9999, 1.0, ("over", 99), 0.99),
        (0.0, 1.0, ("under", 1), 0.01),
        (0.96, 0.975, ("", 96), 0.96),
        (0.98, 0.975, ("over", 97), 0.97),  # never rounded up
    ],
)
def test_a_probability_is_a_whole_percent_within_what_is_supported(value, supported, shown, number):
    assert bound_probability(value, supported) == shown
    assert round_probability(value, supported) == number


def test_a_share_has_a_decimal_only_where_it_has_one():
    assert [format_percent(value) for value in (0.5, 0.437, 0.05)] == ["50 %", "43.7 %", "5 %"]
