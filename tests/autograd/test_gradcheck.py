"""The checkers accept what is right and reject what is wrong by 0.1 %, naming the entry."""
import re

import numpy as np
import pytest

from autograd import GradcheckError, gradcheck, ops

X = np.array([[0.3, -0.7], [1.1, 0.4]])


@pytest.mark.equation("gradcheck.complex-step", "dphi/dx = Im phi(x + i h) / h loses no digits", bound=1e-14, kind="G")
def test_the_complex_step_loses_no_digits(measure):
    f = lambda x: ops.exp(x) / (ops.sin(x) ** 3 + ops.cos(x) ** 3)
    measure(gradcheck(f, np.linspace(0, 1.5, 20), method="complex").error)


@pytest.mark.equation("gradcheck.central", "dphi/dx = (phi(x + h) - phi(x - h)) / 2h + O(h^2)", bound=1e-6, kind="G")
def test_the_error_of_central_differences_is_of_second_order(measure):
    coarse, fine = (gradcheck(ops.exp, np.array(0.5), step=h, rtol=1).error for h in (2e-2, 1e-2))
    assert 3.9 < coarse / fine < 4.1
    measure(gradcheck(ops.exp, np.array(0.5)).error)


@pytest.mark.parametrize("method", ["central", "complex"])
def test_a_derivative_that_is_off_by_a_thousandth_is_rejected(method, scratch_op):
    wrong = scratch_op(lambda x: np.sin(x), lambda g, x: 1.001 * g * np.cos(x), name="wrong")
    gradcheck(ops.sin, X, method=method)
    with pytest.raises(GradcheckError):
        gradcheck(wrong, X, method=method)


@pytest.mark.parametrize("method", ["central", "complex"])
def test_one_wrong_entry_is_named_with_both_values(method, scratch_op):
    def vjp(g, a):
        g = g * a
        g[1, 0] *= 1.001
        return g
    wrong = scratch_op(lambda a, b: a * b, lambda g, b: g * b, vjp, name="wrong")
    with pytest.raises(GradcheckError, match=r"argument 1, entry \(1, 0\)") as error:
        gradcheck(wrong, X, X + 3, method=method)
    analytic, numeric = map(float, re.search(r"analytic (\S+), numeric (\S+),", str(error.value)).groups())
    np.testing.assert_allclose(analytic, 1.001 * numeric, rtol=1e-7)


def test_a_nan_is_rejected(scratch_op):
    wrong = scratch_op(lambda x: x * x, lambda g, x: g * np.where(x > 1, np.nan, 2 * x), name="wrong")
    with pytest.raises(GradcheckError, match=r"entry \(1, 0\): analytic nan"):
        gradcheck(wrong, X)


def test_a_derivative_cut_by_detach_is_rejected():
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x * (x.detach() if hasattr(x, "detach") else x), X)


def test_the_report_tells_the_worst_entry():
    report = gradcheck(lambda a, b: ops.tanh(a) @ b, X, X)
    assert 0 < report.error < 1e-6 and report.argument in (0, 1) and len(report.index) == 2
    assert f"argument {report.argument}, entry {report.index}" in str(report)
    np.testing.assert_allclose(report.analytic, report.numeric, rtol=1e-6)


def test_inputs_are_left_alone():
    x = X.copy()
    gradcheck(ops.exp, x)
    np.testing.assert_array_equal(x, X)


def test_float32_and_integer_inputs_are_checked_in_float64():
    assert gradcheck(ops.exp, X.astype(np.float32)).error < 1e-6
    assert gradcheck(lambda x: x * x, np.array([1, 2])).error < 1e-6


def test_a_tolerance_of_nothing_is_a_tolerance_of_nothing():
    with pytest.raises(GradcheckError, match="wants 0e"):
        gradcheck(ops.exp, X, rtol=0)


@pytest.mark.parametrize("call, message", [
    (lambda: gradcheck(ops.exp, X, method="forward"), "'central' or 'complex'.*'forward'"),
    (lambda: gradcheck(ops.exp), "at least one input")], ids=["method", "no input"])
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
