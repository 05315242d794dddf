"""`python -m probe` is `egress-probe`."""

import sys

from probe.cli import main

if __name__ == "__main__":
    sys.exit(main())
