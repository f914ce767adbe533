"""The ledger: each test marked `equation` reports what it measured against which bound; pytest ends by printing it."""
import importlib
import os

import numpy as np
import pytest

from . import ledger

MEASURED = {}                                # (id, file::test) -> the worst value that it measured


def pytest_addoption(parser):
    parser.addoption("--equations", action="store_true", help="rewrite EQUATIONS.md with what this run measures")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--equations"):                            # the file will be written: it may be stale now
        stale = [item for item in items if item.name == "test_equations_md_is_current"]
        config.hook.pytest_deselected(items=stale)
        items[:] = [item for item in items if item not in stale]


@pytest.fixture
def measure(request):
    """`measure(value)` enters an error, or a distance in standard errors, in the ledger, and asserts the bound."""
    mark = ledger.read_mark(request.node.get_closest_marker("equation"))
    key = mark.id, f"{request.path.relative_to(ledger.ROOT)}::{request.function.__name__}"

    def enter(value):
        value = float(np.max(np.abs(value)))
        MEASURED[key] = value if np.isnan(value) else max(MEASURED.get(key, 0.0), value)
        assert value <= mark.bound, f"{mark.id}: measured {value:.3g}, bound {mark.bound:.3g}"
    return enter


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def oracle():
    """`oracle("torch")` imports a peer, or skips; in CI its absence is a failure."""
    def load(name):
        try:
            return importlib.import_module(name)
        except ImportError:
            if os.environ.get("CI"):
                pytest.fail(f"CI must have the oracle extra: no {name}")
            pytest.skip("needs the oracle extra")
    return load


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    if session.config.getoption("--equations") and exitstatus == 0:
        ledger.write(MEASURED)


def pytest_terminal_summary(terminalreporter):
    if MEASURED:
        terminalreporter.section("the ledger")
        for line in ledger.table(MEASURED):
            terminalreporter.write_line(line)
