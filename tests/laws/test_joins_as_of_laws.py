"""As-of joins against a search through all records, however the records come in batches."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.join_models import Driver, JsonCodec, Record, arrivals, as_of_join

from streamapp.operators.join_asof import AsOfJoin

CUTS = (1, 7, 100)


def join(within: int | None, kind: Any) -> Driver:
    return Driver(
        lambda view: AsOfJoin(
            within,
            lambda left, right: (left, right),
            view,
            (JsonCodec(), JsonCodec()),
            kind,
        )
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Record], tuple[int | None, str]]:
    scale = draw(st.sampled_from([1, 50]))
    within = draw(st.none() | st.integers(0, 6).map(lambda ms: ms * scale))
    return draw(arrivals(scale=scale)), (within, draw(st.sampled_from(["inner", "left"])))


@given(cases(), st.sampled_from(CUTS), st.sampled_from(["", "drain", "trim", "restart"]))
def test_results_are_the_latest_known_of_all(case: Any, cut: int, after_batch: str) -> None:
    records, spec = case
    driver = join(*spec)
    results, late = as_of_join(records, *spec)
    assert driver.run(records, cut, after_batch) == results
    assert driver.late["dropped"] == late
    assert driver.most <= 2


@given(cases(), st.sampled_from(CUTS))
def test_what_nobody_can_need_goes(case: Any, cut: int) -> None:
    records, (within, kind) = case
    driver = join(within, kind)
    driver.run(records, cut, "drain")
    keys = {record.key for record in records if record.side == 1}
    assert driver.operator.size <= (len(keys) if within is None else 0)
