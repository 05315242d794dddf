"""The agent as an OpenClaw skill: a folder with SKILL.md and plain sources, which a read-only copy of can be run.

The format: https://docs.openclaw.ai/tools/skills and https://docs.openclaw.ai/clawhub/skill-format. `metadata` is one
line of JSON, because OpenClaw's reader of the front matter takes single lines.
"""

import shutil
import tempfile
from pathlib import Path

from probe.agent import read_orders
from probe.errors import UserError
from probe.shipping.archive import files

NAME = "egress-probe"
_ORDERS = "orders.json"
_PAGE = "SKILL.md"


def write(folder: Path, orders: str | None = None) -> int:
    """The skill, in place of one that is there; the number of the agent's files. Raises UserError, OSError."""
    if orders is not None:
        read_orders(orders)
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and not _is_ours(folder)):
        raise UserError(f"{folder}: is there and is no {NAME} skill: name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as scratch:
        made = Path(scratch, "skill")
        count = 0
        for name, data in files():
            target = made / "agent" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            count += 1
        shutil.copyfile(Path(__file__).with_name(_PAGE), made / _PAGE)
        if orders is not None:
            (made / _ORDERS).write_text(orders, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return count


def _is_ours(folder: Path) -> bool:
    try:
        return f"\nname: {NAME}\n" in (folder / _PAGE).read_text("utf-8") or not any(folder.iterdir())
    except (OSError, UnicodeDecodeError):
        return folder.is_dir() and not any(folder.iterdir())
