"""egress-probe: does the declared egress policy of a sandbox really hold?"""

__version__ = "0.1.0"
