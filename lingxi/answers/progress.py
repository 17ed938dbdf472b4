"""A progress bar for long inputs."""

SHOWN_FROM = 21  # batches


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
