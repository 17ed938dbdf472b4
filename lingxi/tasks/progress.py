"""A progress bar for long inputs."""

from tqdm.auto import tqdm

SHOWN_FROM = 21  # batches


def progress(num_batches, description, verbose="auto"):
    """`range(num_batches)` behind a progress bar.

    Args:
        description: the verb, before the bar.
        verbose: True, False, or "auto": for many batches only.
    """
    hidden = num_batches < SHOWN_FROM if verbose == "auto" else not verbose
    return tqdm(range(num_batches), desc=description, unit="batch", disable=hidden)
