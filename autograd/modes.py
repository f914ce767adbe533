"""What ops do besides computing: record, or not; and who watches them."""
from contextlib import contextmanager
from threading import local


class Mode(local):
    """Each thread has its own, made by `__init__`. Set by no_grad(), and by grad() and the other transforms."""

    def __init__(self):
        self.recording = True
        self.tracing = False                 # a transform runs its function: float(x) and np.asarray(x) raise


class Debug:
    """`watch(array, op, input arrays, node)` is called for every array made, in all threads. Set by detect_nan()."""
    watch = None


mode, debug = Mode(), Debug()


@contextmanager
def no_grad():
    """A context, or a decorator, within which ops record nothing."""
    with recording(False):
        yield


@contextmanager
def recording(on):
    before, mode.recording = mode.recording, on
    try:
        yield
    finally:
        mode.recording = before
