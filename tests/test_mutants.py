"""The planted bugs can be planted, and whoever hunts them knows a survivor from a catch."""
import ast

import pytest

from . import mutants
from .ledger import ROOT
from .mutants import MUTANTS, Mutant


def test_every_mutant_has_a_name_of_its_own():
    assert len({m.name for m in MUTANTS}) == len(MUTANTS) >= 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_its_line_is_there_once_and_the_bug_is_no_mere_typing_error(mutant, tmp_path):
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    before = (ROOT / mutant.file).read_text()
    copy.write_text(before)
    mutants.plant(mutant, tmp_path)
    assert copy.read_text() != before and "\n" not in mutant.old + mutant.new
    ast.parse(copy.read_text())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_test_that_should_notice_it_is_there(mutant):
    path, _, name = mutant.test.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


HERE = "minivae/data/batches.py", "", "rng.permutation(len(self.data))"
ORDER = "minivae/test_data.py::test_an_epoch_visits_every_example_once_in_a_new_order"


@pytest.mark.parametrize("new, test, verdict", [
    ("np.arange(len(self.data))", ORDER, "caught by"), ("rng.permutation(self.data.shape[0])", ORDER, "SURVIVED"),
    ("np.arange(len(self.data)", ORDER, "BROKEN"), ("np.arange(1)", "minivae/test_data.py::test_of_nothing", "BROKEN")])
def test_only_a_test_that_fails_has_caught_a_mutant(monkeypatch, capsys, new, test, verdict):
    monkeypatch.setattr(mutants, "MUTANTS", [Mutant("order", *HERE, new, test)])
    assert mutants.main([]) == (verdict != "caught by")
    assert verdict in capsys.readouterr().out


def test_a_test_that_does_not_end_has_caught_nothing(monkeypatch, capsys):
    monkeypatch.setattr(mutants, "PATIENCE", 0.01)
    monkeypatch.setattr(mutants, "MUTANTS", [Mutant("order", *HERE, "np.arange(len(self.data))", ORDER)])
    assert mutants.main([]) == 1 and "STUCK" in capsys.readouterr().out


def test_a_line_that_is_no_longer_there_is_an_error(monkeypatch, capsys):
    stale = Mutant("order", "minivae/data/batches.py", "", "rng.shuffle(", "rng.sort(", ORDER)
    monkeypatch.setattr(mutants, "MUTANTS", [stale])
    assert mutants.main([]) == 1 and "STALE" in capsys.readouterr().out


def test_the_list_plants_nothing_and_an_unknown_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(mutants, "hunt", None)
    assert mutants.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{m.file}: {m.mistake}" in shown for m in MUTANTS)
    with pytest.raises(SystemExit):
        mutants.main(["no-such-mutant"])
    assert "no-such-mutant" in capsys.readouterr().err
