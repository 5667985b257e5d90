"""One progress bar for everything that takes long: on standard error, sparse where that is a file."""

import sys

from tqdm import tqdm


class _OnTerminal(tqdm):
    """A bar that ends above the place where it stood below others: nothing is left of it there."""

    def close(self) -> None:
        if not self.disable and self.pos:
            self.clear()
        super().close()


class _InFile(tqdm):
    """A bar where no cursor can go up to another one."""

    def moveto(self, n: int) -> None:
        """Stays where it is."""


def bar(total: int, what: str, unit: str = "steps", hidden: bool = False, initial: int = 0,
        position: int | None = None) -> tqdm:
    """A tqdm bar over `total` units; redrawn several times a second on a terminal, else every 15 s.

    Args:
      total, what, unit: how many of what, and of which unit.
      hidden: show none.
      initial: so many are done.
      position: lines below the first one on a terminal; None: the first free one.
    """
    terminal = sys.stderr.isatty()
    made = _OnTerminal if terminal else _InFile
    return made(total=total, desc=what, unit=unit, unit_scale=False, initial=initial, disable=hidden, leave=True,
                position=position, dynamic_ncols=terminal, mininterval=0.2 if terminal else 15.0, smoothing=0.05)
