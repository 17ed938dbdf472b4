"""A picture of what the bytes of an export are."""

COLORS = ("#2a6f97", "#61a5c2", "#f4a259", "#8cb369", "#9a8c98")  # one for each component


def draw(sizes, title, path):
    """One bar of all components, with their sizes beside their names, into an image file.

    Args:
        sizes: `{component: bytes}`.
        path: ends in .png, .svg or another ending that matplotlib knows.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("--chart needs matplotlib: pip install 'lingxi[plots]'") from error

    total = sum(sizes.values())
    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.add_subplot()
    start = 0.0
    for (name, size), color in zip(sizes.items(), COLORS, strict=True):
        megabytes = size / 1e6
        label = f"{name}\n{megabytes:.2f} MB, {size / total:.1%}"
        axes.barh(0, megabytes, left=start, height=0.6, color=color, label=label)
        start += megabytes
    axes.set(title=f"{title}: {start:.2f} MB", xlabel="MB", xlim=(0, start), yticks=[])
    axes.spines[["left", "right", "top"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(sizes), frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
