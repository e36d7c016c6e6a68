"""Puts the checkout on the virtual environment's path and writes its `tollgate` command, without a build step."""

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """#!{python}
import sys
from app.cli import main
sys.exit(main())
"""


def main() -> None:
    """Writes site-packages/tollgate.pth and bin/tollgate of the environment that runs this."""
    if sys.prefix == sys.base_prefix:
        sys.exit("run this with the virtual environment's python")
    Path(sysconfig.get_path("purelib"), "tollgate.pth").write_text(f"{ROOT}\n")
    command = Path(sysconfig.get_path("scripts"), "tollgate")
    command.write_text(SCRIPT.format(python=sys.executable))
    command.chmod(0o755)


if __name__ == "__main__":
    main()
