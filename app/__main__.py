"""`python -m app`: the command line without the installed command."""

import sys

from app.cli import main

sys.exit(main())
