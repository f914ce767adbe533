"""The ledger checks itself: nothing is claimed without a test, and EQUATIONS.md says what the source says."""
import re

from . import ledger


def test_every_tag_in_the_source_has_a_test_and_every_mark_a_tag():
    assert {mark.id for mark, _ in ledger.marks()} == set(ledger.tags())


def test_every_equation_is_in_a_file_that_the_readme_puts_in_a_post_or_around_them():
    assert {where.partition(":")[0] for where in ledger.tags().values()} <= set(ledger.posts())


def test_equations_md_is_grouped_by_post():
    text = (ledger.ROOT / "EQUATIONS.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[0] == "The engine" and [h[:6] for h in headings[1:9]] == [f"Post {i}" for i in range(1, 9)]
    assert headings[9:] in ([], ["What surrounds them"])


def test_equations_md_is_current():
    assert not ledger.stale(), "run pytest --equations"
