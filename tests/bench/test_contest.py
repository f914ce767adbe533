"""The bench compares what it says, and names what it lacks."""
import pytest

from .contest import PEER, Contest, check_same_work, contender


def test_a_contest_gives_a_ratio_and_names_a_peer_that_is_not_available(capsys):
    with Contest(rounds=2) as contest:
        rows = contest.compare("a chain", {"ours": contender("bare:chain", 400), "PyTorch": contender("bare:chain", 40),
                                           "JAX": contender("bare:nothing")}, [("ours", PEER, 1.0)], seconds=0.01)
    (what, value, target, _), = rows
    assert what == "a chain: ours / fastest peer, PyTorch" and value > 0 and target == 1.0
    assert "without JAX: AttributeError" in capsys.readouterr().out


def test_a_failure_of_ours_is_an_error():
    with Contest(rounds=1) as contest, pytest.raises(RuntimeError, match="ours: AttributeError"):
        contest.medians({"ours": contender("bare:nothing")})


@pytest.mark.parametrize("fact", [{"parameters": 11, "loss": 5.0}, {"parameters": 10, "loss": 500.0}])
def test_a_peer_that_does_other_work_is_an_error(fact):
    ours = {"parameters": 10, "loss": 5.0}
    check_same_work({"ours": ours, "JAX": {"parameters": 10, "loss": 5.5}})
    with pytest.raises(RuntimeError, match="JAX"):
        check_same_work({"ours": ours, "JAX": fact})
