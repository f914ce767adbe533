"""What the README points at is there, and about as long as it says."""
import re

from .ledger import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert len(links) > 80 and not [link for link in links if not (ROOT / link).exists()]


def test_the_readme_knows_how_long_files_are():
    counts = re.findall(r"\]\(([\w/]+\.py)\) (\d+)", TEXT)
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path, _ in counts}
    assert len(counts) > 70 and not [(p, n, lengths[p]) for p, n in counts if abs(int(n) - lengths[p]) > 5]


def test_the_reading_order_leaves_no_file_out():
    named = set(re.findall(r"\]\(([\w/]+\.py)\)", TEXT))
    paths = [path for package in ("autograd", "minivae") for path in ROOT.glob(f"{package}/**/*.py")]
    files = {str(path.relative_to(ROOT)) for path in paths}
    assert not {path for path in files - named if not path.endswith("__init__.py")}
