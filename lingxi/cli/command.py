"""What every command shares: its flags, its help, the check of its output path, its tables.

A command is a module with a docstring (its first line is the summary in `lingxi --help`) and

    FLAGS: from `new_flags()`.
    REQUIRED: names of the flags that must be given.
    USAGE: its arguments, for the first line of the help.
    EXAMPLES: command lines for the end of the help.
    run(arguments): does the work, given the arguments that are not flags.
"""

import pathlib
import re
import shutil
import sys
import tempfile
import textwrap

from absl import flags

HELP_WIDTH = 100
FLAG_WIDTH = 26  # of the column that holds "--flag=VALUE"


def new_flags(shared=None):
    """A command's own flags, with those that every command has, or with `shared` ones."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow arguments
    if shared is not None:
        values.append_flag_values(shared)
        return values
    flags.DEFINE_boolean(
        "debug", False, "Show tracebacks and what the libraries log.", flag_values=values
    )
    flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def help_text(name, command):
    """What `lingxi NAME --help` prints."""
    width = min(shutil.get_terminal_size().columns, HELP_WIDTH)
    paragraphs = command.__doc__.strip().split("\n\n")
    own = [flag for flag in command.FLAGS if flag not in ("debug", "help", "h")]
    parts = [
        f"Usage: lingxi {name} {command.USAGE}",
        *(textwrap.fill(" ".join(paragraph.split()), width) for paragraph in paragraphs),
        "\n".join(["Flags:", *(_flag_help(command, flag, width) for flag in [*own, "debug"])]),
        "Example:\n" + textwrap.indent(textwrap.dedent(command.EXAMPLES).strip(), "  "),
    ]
    return "\n\n".join(parts)


def _flag_help(command, name, width):
    """A flag's lines; as in Go, its value is named by the back-quoted word of its help."""
    flag = command.FLAGS[name]
    text = flag.help
    if isinstance(flag.parser, flags.EnumParser):
        choices = "|".join(flag.parser.enum_values)
        head = f"--{name}={choices}"
        text = text.removeprefix(f"<{choices}>: ")
    else:
        value = re.search("`(.+?)`", text)
        head = f"--{name}={value[1]}" if value else f"--{name}"
    text = text.replace("`", "")
    if name in command.REQUIRED:
        text += " Required."
    elif flag.default not in (None, False):
        text += f" Default: {flag.default}."
    first, *rest = textwrap.wrap(text, width - FLAG_WIDTH - 4)
    margin = " " * (FLAG_WIDTH + 4)
    if len(head) > FLAG_WIDTH:
        head += "\n" + margin[:-2]
    return "\n".join([f"  {head:{FLAG_WIDTH}}  {first}", *(margin + line for line in rest)])


def check_writable(path):
    """Fail now, not after an hour of work, if `path` cannot be written.

    Raises:
        OSError: naming the directory that refuses new files.
    """
    parent = pathlib.Path(path).expanduser().absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        tempfile.TemporaryDirectory(dir=parent).cleanup()
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {parent}: {error.strerror}") from error


def check_output(output, overwrite, marker, content):
    """Nothing of value is at the directory `output`, and it can be written.

    Args:
        overwrite: it may be replaced, if it holds the file `marker`, as a saved `content` does.

    Raises:
        FileExistsError, OSError: saying what is there.
    """
    if output.is_file():
        raise FileExistsError(f"--output {output} is a file; choose a directory")
    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise FileExistsError(f"--output {output} is not empty; --overwrite replaces it")
        if not (output / marker).is_file():
            raise FileExistsError(f"--output {output} holds other things than a {content}")
    check_writable(output)


def note(message):
    """Tell the user something beside the result, on stderr."""
    print(f"lingxi: {message}", file=sys.stderr)


def table(rows):
    """Rows of strings as lines with aligned columns; columns of numbers, below a title, right."""
    aligned = []
    for column in zip(*rows, strict=True):
        width = max(map(len, column))
        is_numeric = all(re.fullmatch(r"[\d.,]+", cell) for cell in column[1:])
        aligned.append([c.rjust(width) if is_numeric else c.ljust(width) for c in column])
    return "\n".join("  ".join(row).rstrip() for row in zip(*aligned, strict=True))
