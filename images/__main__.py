"""`python3 -m images`."""

import sys

from images.cli import main

if __name__ == "__main__":
    sys.exit(main())
