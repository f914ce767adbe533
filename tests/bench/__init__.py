"""Speed and memory, side by side: `python -m tests.bench`."""
