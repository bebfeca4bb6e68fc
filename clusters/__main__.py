"""`python3 -m clusters`."""

import sys

from clusters.cli import main

if __name__ == "__main__":
    sys.exit(main())
