"""The one seam through which host commands are run: read-only listings for the config baseline.

A test passes recorded results instead of `run_command` and `exists`.
"""

import glob
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from probe.checks.facts import COMMANDS, PRODUCTS, CommandResult, HostFacts

_SECONDS = 10
# A ruleset of this size is longer than any that a person wrote; the rest is not read.
_LARGEST = 8 * 1024 * 1024

Run = Callable[[Sequence[str]], CommandResult]


def gather(
    run: Run | None = None, exists: Callable[[str], bool] | None = None, platform: str = sys.platform
) -> HostFacts:
    """Every listing that this platform has. Never raises; a command that fails says so in its result."""
    run = run or run_command
    exists = exists or (lambda pattern: bool(glob.glob(pattern)))
    products = [product for pattern, product in PRODUCTS.get(platform, {}).items() if exists(pattern)]
    return HostFacts(
        platform=platform,
        commands={name: run(command) for name, command in COMMANDS.get(platform, {}).items()},
        products=tuple(dict.fromkeys(products)),
    )


def path_with_sbin() -> str:
    """PATH and sbin, where firewall tools and servers live and a plain user's PATH often ends."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _environment() -> dict[str, str]:
    # A docker client that is set up for another machine would send it a request: only the local socket is asked.
    mine = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return {**mine, "LC_ALL": "C", "PATH": path_with_sbin(), "DOCKER_HOST": "unix:///var/run/docker.sock"}


def run_command(command: Sequence[str]) -> CommandResult:
    """One listing. LC_ALL=C, so that its messages are the ones that the readers know."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError:
        return CommandResult(None)
    except PermissionError:
        return CommandResult(126, stderr="permission denied")
    except subprocess.TimeoutExpired:
        return CommandResult(None, stderr=f"no answer within {_SECONDS} s")
    return CommandResult(
        done.returncode,
        done.stdout[:_LARGEST].decode("utf-8", "replace"),
        done.stderr[:4096].decode("utf-8", "replace"),
    )
