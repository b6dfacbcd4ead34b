"""``python -m sgdlit COMMAND``."""

import sys

from sgdlit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
