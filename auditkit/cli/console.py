"""Where people's text goes (stderr), in which colours, and how much of it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

_QUIET, _PLAIN = "auditkit.quiet", "auditkit.plain"


def set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """``--quiet``, before or after the command."""
    if value:
        ctx.meta[_QUIET] = True


def set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """``--debug``: the log of auditkit on stderr; tracebacks are shown by ``main``."""
    if value:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        logger = logging.getLogger("auditkit")
        if not any(isinstance(known, logging.StreamHandler) for known in logger.handlers):
            logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def set_color(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """``--no-color``; the variable NO_COLOR does the same."""
    if value:
        ctx.meta[_PLAIN] = True
        ctx.color = False


def is_quiet() -> bool:
    """Whether ``--quiet`` was given."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_QUIET))


def is_plain() -> bool:
    """Whether colours are off."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_PLAIN)) or "NO_COLOR" in os.environ


def people_console(*, stderr: bool = True) -> Console:
    """A rich console for people's text; wide enough in a log that tables are not folded."""
    from rich.console import Console

    # Without a colour system no escape is written, bold included.
    console = Console(
        stderr=stderr, color_system=None if is_plain() else "auto", highlight=False, soft_wrap=False, emoji=False
    )
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 140
    return console


def say(text: str) -> None:
    """One line for people, unless ``--quiet``."""
    if not is_quiet():
        click.echo(text, err=True)
