"""One progress bar for everything that takes long: on standard error, sparse where that is a file."""

import sys

from tqdm import tqdm


def bar(total: int, what: str, unit: str = "steps", hidden: bool = False, initial: int = 0) -> tqdm:
    """A tqdm bar over `total` units; redrawn several times a second on a terminal, else every 15 s."""
    terminal = sys.stderr.isatty()
    return tqdm(total=total, desc=what, unit=unit, unit_scale=False, initial=initial, disable=hidden, leave=True,
                dynamic_ncols=terminal, mininterval=0.2 if terminal else 15.0, smoothing=0.05)
