"""Keeps a world in a file, so that a demo goes on where it stopped."""

import pickle
from pathlib import Path

from stripe_double.world import World

_FORM = "stripe double 1"


def save(world: World, file: Path) -> None:
    """Write it whole, or not at all."""
    beside = file.with_name(f"{file.name}.new")
    # Pickled since objects are shared: a subscription's price is the price, and changes with it.
    beside.write_bytes(pickle.dumps((_FORM, world)))
    beside.chmod(0o600)
    beside.replace(file)


def load(file: Path) -> World | None:
    """What was saved; None where there is nothing, or nothing this version can read. The file must be our own: it is trusted."""
    try:
        form, world = pickle.loads(file.read_bytes())  # noqa: S301 - our own file, named on the command line
    except FileNotFoundError:
        return None
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, ValueError, TypeError):
        return None
    return world if form == _FORM and isinstance(world, World) else None
