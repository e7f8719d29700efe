"""``auditkit``: the command group, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import click

from auditkit import __version__
from auditkit.cli.console import set_color, set_debug, set_quiet
from auditkit.core.errors import AuditkitError
from auditkit.core.printable import printable

# Command -> (module:attribute, one line for --help). Listed here so that --help imports no command.
COMMANDS = {
    "init": ("auditkit.cli.init:init", "Write a commented audit.toml to start from."),
    "run": ("auditkit.cli.run:run", "Audit a model: evidence.json, model card and verdict."),
    "gate": ("auditkit.cli.gate:gate", "Judge evidence by a policy; the exit code is the answer."),
    "baseline": ("auditkit.cli.baseline:baseline", "Accept an audit as what later ones are compared with."),
    "compare": ("auditkit.cli.compare:compare", "What moved between two audits beyond its interval."),
    "render": ("auditkit.cli.render:render", "Turn evidence into HTML, Markdown, CSV or JSON."),
    "verify": ("auditkit.cli.verify:verify", "Recompute the digest and the verdict of evidence or of a card."),
    "explain": ("auditkit.cli.explain:explain", "Why the model answers as it does for one row, with the proof."),
    "analyzers": ("auditkit.cli.analyzers:analyzers", "List the analyzers, or explain one with its settings."),
    "doctor": ("auditkit.cli.doctor:doctor", "Versions, device, and what is missing."),
    "schema": ("auditkit.cli.schema:schema", "Print the JSON Schema of evidence, configuration or policy."),
    "demo": ("auditkit.cli.demo:demo", "Audit two models of a synthetic loan table with known faults."),
}

# Where one of these is loaded, a model may have run, and something may be left to do at exit.
_OTHERS = frozenset({"torch", "sklearn", "joblib", "multiprocessing", "concurrent.futures"})

COMPLETION = "_AUDITKIT_COMPLETE"  # set by a shell that asks for completions; click answers and leaves

# Commands that multiply no matrices: threads started for that would only cost their start.
SERIAL = frozenset({"gate", "baseline", "compare", "render", "verify"})

# The cyclic garbage collector looks every 700 new objects by default. Starting, measuring and drawing make many that
# live to the end, and nearly none in cycles.
COLLECT_EVERY = 50_000

Setter = Callable[[click.Context, click.Parameter, bool], None]

EPILOG = """\b
Exit codes: 0 pass, 1 a rule failed, 2 usage or configuration, 3 something could not be measured, 4 inconclusive.

\b
Shell completion, once per shell:
  bash: eval "$(_AUDITKIT_COMPLETE=bash_source auditkit)"
  zsh:  eval "$(_AUDITKIT_COMPLETE=zsh_source auditkit)"
  fish: _AUDITKIT_COMPLETE=fish_source auditkit | source
"""


def _flag(name: str, text: str, setter: Setter) -> click.Option:
    return click.Option([f"--{name}"], is_flag=True, expose_value=False, help=text, callback=setter)


def common_options() -> list[click.Option]:
    """``--quiet``, ``--debug``, ``--no-color`` and ``--version``, which every command takes."""
    return [
        _flag("quiet", "Only errors and what was asked for.", set_quiet),
        _flag("debug", "Show tracebacks and the log.", set_debug),
        _flag("no-color", "Plain text, no colours.", set_color),
        _version_option(),
    ]


def _version_option() -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f"auditkit {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, help="Show the version and exit.", callback=show
    )


class LazyGroup(click.Group):
    """Imports a command when it is called, and gives every command the common options."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        # Looking for plug-ins of pydantic, which only watch, takes longer than to read a policy.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
        if cmd_name in SERIAL:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        present = {option for param in command.params for option in param.opts}
        command.params += [option for option in common_options() if not present & set(option.opts)]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a misspelt command names the nearest one."""
        word = args[0]
        if word not in COMMANDS and not word.startswith("-"):
            import difflib

            close = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {word!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    params=list(common_options()),
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
def cli() -> None:
    """Audit a trained model: explanations, fairness, robustness, privacy, performance.

    One card, one verdict, one exit code. Start with: auditkit demo --out out
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Entry point: run the command and leave with its exit code; tracebacks only with ``--debug``."""
    words = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in words
    logging.getLogger("auditkit").addHandler(logging.NullHandler())
    gc.set_threshold(COLLECT_EVERY, *gc.get_threshold()[1:])
    _plain_streams()
    told = sys.stdout
    try:
        result = cli.main(args=words, prog_name="auditkit", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped. What was measured is kept: the same command with the same --out continues.", err=True)
        code = 130
    except AuditkitError as error:
        _explain(error, debug)
        code = error.exit_code
    except SystemExit as error:
        if COMPLETION in os.environ:
            raise
        if sys.stdout is not told:  # click has wrapped it, for nobody reads
            code = _nobody_reads()
        else:
            _explain(_unexpected(error), debug)
            code = 3
    except BrokenPipeError:
        code = _nobody_reads()
    except Exception as error:
        _explain(_unexpected(error), debug)
        code = 3
    else:
        code = result if isinstance(result, int) else 0
    sys.exit(code)


def script() -> NoReturn:
    """:func:`main` as a whole process.

    Where nobody's code but our own ran, the process ends without taking apart what it read: a tenth of a gate's time.
    """
    try:
        main()
    except SystemExit as leaving:
        if isinstance(leaving.code, int) and sys.gettrace() is None and not _ran_others():
            logging.shutdown()
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(leaving.code)
        raise


def _ran_others() -> bool:
    """Whether a model or an analyzer of another package may have run here."""
    registry = sys.modules.get("auditkit.core.registry")
    return bool(getattr(registry, "FOREIGN", ())) or not _OTHERS.isdisjoint(sys.modules)


def _nobody_reads() -> int:
    """The exit code of a command whose stdout is a pipe that was closed; nothing more is written to it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _explain(error: AuditkitError, debug: bool) -> None:
    """The message on stderr; with ``debug`` the traceback being handled comes first. The exit code is the same."""
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(_message(error), err=True)


def _unexpected(error: Exception | SystemExit) -> AuditkitError:
    if isinstance(error, OSError) and error.strerror:
        return AuditkitError(
            "AK640",
            "a file could not be read or written",
            why=error.strerror,
            where=_name(error),
            fix="name a file, in a folder that may be read and written to",
        )
    return AuditkitError(
        "AK641",
        "auditkit met something that it did not expect",
        why=f"{type(error).__name__}: {str(error)[:500]}",
        fix="run the command again with --debug to see where",
    )


def _name(error: OSError) -> str | None:
    """The file that was meant: of a rename the new name, for the old one is a passing file of our own."""
    name = error.filename if error.filename2 is None else error.filename2
    return None if name is None else str(name)


def _message(error: AuditkitError) -> str:
    """The coded text; control characters of names that it quotes are shown, not obeyed."""
    text = printable(error.text(), lines=True)
    return click.style("error ", fg="red", bold=True) + text if _colored() else f"error {text}"


def _colored() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and "--no-color" not in sys.argv


def _plain_streams() -> None:
    """A name that the terminal's encoding lacks is shown escaped instead of ending the command.

    What is said to a stream that was closed by who started the command (``2>&-``) is said to nobody.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (open to the end, as they are)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    script()
