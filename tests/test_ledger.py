"""The ledger checks itself: nothing is claimed without a test, and EQUATIONS.md says what the source says."""
from . import ledger


def test_every_tag_in_the_source_has_a_test_and_every_mark_a_tag():
    assert {mark.id for mark, _ in ledger.marks()} == set(ledger.tags())


def test_equations_md_is_current():
    assert not ledger.stale(), "run pytest --equations"
