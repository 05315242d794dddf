"""A parsed command line as words again, for a process of its own or a unit file."""

import sys
from collections.abc import Collection

import click
from click.core import ParameterSource

OURSELVES = (sys.executable, "-I", "-m", "probe")


def words_again(context: click.Context, leave_out: Collection[str]) -> list[str]:
    """What was given on the command line, without the options named in `leave_out`; `--` and arguments last."""
    words: list[str] = []
    rest: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in leave_out or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            rest += [str(word) for word in value]
        elif isinstance(parameter, click.Option):
            words += _option(parameter, value)
    return [*words, "--", *rest] if rest else words


def _option(option: click.Option, value: object) -> list[str]:
    """`--name=value`, so that a value may begin with a dash."""
    if option.is_flag:
        return [option.opts[0] if value else option.secondary_opts[0]] if value or option.secondary_opts else []
    long = next((name for name in option.opts if name.startswith("--")), option.opts[0])
    values = value if option.multiple and isinstance(value, tuple) else (value,)
    return [f"{long}={one}" for one in values]
