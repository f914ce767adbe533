"""What the exercises name is there: each test, each figure, and each line that is to be changed, once."""
import ast
import re

import pytest

from .ledger import ROOT
from .test_demos import DEMOS

TEXT = (ROOT / "demos" / "EXERCISES.md").read_text()
FLAT = re.sub(r"\s+", " ", TEXT)
CHANGES = re.findall(r"In `(\S+\.py)`, `([^`]+)` becomes `([^`]+)`", FLAT)
TESTS = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", FLAT)))
POSTS = re.split(r"^## ", TEXT, flags=re.M)[1:]


def functions(path):
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path, name", TESTS, ids=[name for _, name in TESTS])
def test_the_test_that_answers_is_there(path, name):
    assert name in functions(path)


@pytest.mark.parametrize("path, old, new", CHANGES, ids=[path for path, _, _ in CHANGES])
def test_the_line_to_change_is_there_once_and_python_afterwards(path, old, new):
    source = (ROOT / path).read_text()
    assert source.count(old) == 1 and new != old
    ast.parse(source.replace(old, new))


def test_every_figure_is_one_that_its_demo_draws():
    named = re.findall(r"`(\w+\.png)`", FLAT)
    asked = re.findall(r"`python -m demos (\w+)[^`]*`", FLAT)
    assert named and set(asked) <= set(DEMOS)
    for post in POSTS:
        drawn = {figure for demo in re.findall(r"python -m demos (\w+)", post) for figure in DEMOS[demo]}
        assert set(re.findall(r"`(\w+\.png)`", post)) <= drawn, post.splitlines()[0]


def test_there_are_three_to_five_exercises_a_post_and_each_says_where_its_answer_is():
    assert len(POSTS) == 8
    for post in POSTS:
        exercises = re.split(r"^\d\. ", post, flags=re.M)[1:]
        assert 3 <= len(exercises) <= 5, post.splitlines()[0]
        for exercise in exercises:
            assert re.match(r"\*\*(Derive|Predict|Change)\.\*\*", exercise) and exercise.count("Answer:") == 1
            assert ("**Change.**" in exercise) == bool(re.search(r"becomes\s+`", exercise)), exercise
