"""There is another package named autograd in the world."""
from pathlib import Path

import autograd
import minivae


def test_the_autograd_that_is_imported_is_the_one_beside_minivae():
    assert Path(autograd.__file__).parent.parent == Path(minivae.__file__).parent.parent
    assert Path(autograd.__file__).parent.parent == Path(__file__).parents[2]
    assert autograd.OPS["exp"] is autograd.ops.exp
