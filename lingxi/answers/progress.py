"""A progress bar for long inputs."""

SHOWN_FROM = 21  # batches
SHOWN_AFTER = 3.0  # seconds of what nobody has counted yet


def progress(num_batches, description, verbose="auto", unit="batch"):
    """`range(num_batches)` behind a progress bar.

    Args:
        description: the verb, before the bar.
        verbose: True, False, or "auto": for many batches only.
        unit: what is counted, if not batches.
    """
    hidden = num_batches < SHOWN_FROM if verbose == "auto" else not verbose
    if hidden:
        return range(num_batches)
    from tqdm.auto import tqdm  # it would take a tenth of the time to a first answer

    return tqdm(range(num_batches), desc=description, unit=unit)


def counted(items, description, unit):
    """The items, behind their number if they take a while, where somebody sits at a terminal.

    Args:
        items: an iterator that does not know its length.
        description: the verb, before the number.
        unit: what is counted.
    """
    from tqdm.auto import tqdm

    return tqdm(items, desc=description, unit=unit, delay=SHOWN_AFTER, disable=None)
