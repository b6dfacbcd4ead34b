"""``python -m sgdlit COMMAND``."""

import sys

from sgdlit.cli.main import process

if __name__ == "__main__":
    sys.exit(process())
