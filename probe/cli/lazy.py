"""A group whose commands are imported when they are asked for: each starts with what it needs, and no more."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class Lazy(click.Group):
    """`modules`: command → its module; the command object there has the command's name."""

    def __init__(self, *arguments: Any, modules: Mapping[str, str], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._modules:
            return None
        command = getattr(importlib.import_module(self._modules[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command
