"""The `lingxi` command: finds the command that is asked for, runs it, reports its errors."""

import difflib
import importlib
import os
import sys
import traceback
import warnings

from absl import app, flags, logging

import lingxi
from lingxi.cli import command

COMMANDS = {
    # command: module in this package
    "train": "train",
    "tune": "tune",
    "evaluate": "evaluate",
    "predict": "predict",
    "match": "match",
    "export": "export",
    "list": "list_presets",
    "inspect": "inspect_model",
    "report": "report",
    "verify": "verify",
    "tokenizer": "tokenizer",
}
OK, FAILURE, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

# Errors whose message is meant for the user; of any other, the type is shown too.
_EXPECTED = (ValueError, TypeError, OSError, ImportError)


def entry_point():
    """The console script."""
    logging.get_absl_handler().setFormatter(_Formatter())
    warnings.showwarning = lambda message, *_: logging.warning("%s", message)
    app.run(main, flags_parser=_leave_flags)


def main(argv):
    """Run a command line; returns the exit status."""
    try:
        return _dispatch(argv[1:])
    except (app.UsageError, flags.Error) as error:
        return _fail(error, argv, BAD_USAGE)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            print("\nlingxi: interrupted; nothing was written", file=sys.stderr)
            return INTERRUPTED
        return _fail(error, argv, FAILURE)


def _dispatch(arguments):
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_help())
        return OK
    name, *arguments = arguments
    if name == "--version":
        print(f"lingxi {lingxi.__version__}")
        return OK
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"
        raise app.UsageError(f"no command {name!r}: {hint}")
    module = _module(name)
    for flag in module.FLAGS:
        module.FLAGS[flag].unparse()  # back to its default, should this be a second run
    _, *arguments = module.FLAGS([name, *arguments])
    if module.FLAGS.help:
        print(command.help_text(name, module))
        return OK
    missing = [f"--{flag}" for flag in module.REQUIRED if module.FLAGS[flag].value is None]
    if missing:
        raise app.UsageError(f"{name} needs {', '.join(missing)}; see lingxi {name} --help")
    module.run(arguments)
    sys.stdout.flush()
    return OK


def _module(name):
    return importlib.import_module(f"lingxi.cli.{COMMANDS[name]}")


def _help():
    lines = [f"  {name:10}{_module(name).__doc__.splitlines()[0]}" for name in COMMANDS]
    return "\n".join(
        [
            "Usage: lingxi COMMAND [flags]",
            "",
            "Train models of texts and pictures and ship them as files that take these raw.",
            "",
            "Commands:",
            *lines,
            "",
            "lingxi COMMAND --help shows the flags of a command and an example.",
            "lingxi --version shows the version.",
        ]
    )


def _is_interrupt(error):
    """Whether it is Ctrl-C, or what a library made of it while it was importing or training."""
    return isinstance(error, KeyboardInterrupt) or (
        error is not None and _is_interrupt(error.__cause__ or error.__context__)
    )


def _fail(error, argv, status):
    """Report `error` in one line, and with its traceback if --debug was given."""
    if "--debug" in argv:
        traceback.print_exception(error)
    is_plain = isinstance(error, OSError) and error.strerror  # what the system says of a file
    message = error.strerror if is_plain else str(error)
    if is_plain and error.filename is not None:
        message = f"{error.filename}: {message}"
    if status == FAILURE and not isinstance(error, _EXPECTED):
        message = f"{type(error).__name__}: {message} (--debug shows the traceback)"
    print(f"lingxi: error: {message}", file=sys.stderr)
    return status


def _leave_flags(argv):
    """For absl: sets how much is logged, and leaves all arguments to `main`."""
    verbosity = logging.INFO if "--debug" in argv else logging.WARNING
    flags.FLAGS([argv[0], f"--verbosity={verbosity}"])
    return argv


class _Formatter(logging.PythonFormatter):
    """Log messages of any library as lines of this command."""

    def format(self, record):
        return f"lingxi: {record.levelname.lower()}: {record.getMessage()}"


if __name__ == "__main__":
    entry_point()
