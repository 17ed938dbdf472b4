"""A picture of a sweep."""

from lingxi.files import atomic_path

COLORS = ("#2a6f97", "#d1495b", "#8cb369", "#f4a259", "#9a8c98", "#3d348b", "#61a5c2", "#7f5539")
BOUND = "#666666"


def check_matplotlib():
    """Raise ImportError, saying how to get it, unless matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("a sweep draws by matplotlib: pip install 'lingxi[plots]'") from error


def draw(sweep):
    """Quality over size, and over latency, of all files of a `Sweep`, into its `chart`.

    Those on the Pareto front have a black edge; the chosen one is a star; below the line the drop
    is more than the bound.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    trials = [trial for trial in sweep.trials if trial.path is not None]
    places = {
        "MB": [trial.size / 1e6 for trial in trials],
        "ms, one text": [trial.latency * 1e3 for trial in trials],
    }
    for panel, (unit, values) in zip(axes, places.items(), strict=True):
        panel.axhline(sweep.task_quality - sweep.max_drop, color=BOUND, linestyle="--", zorder=1)
        for number, (trial, value) in enumerate(zip(trials, values, strict=True)):
            chosen = trial is sweep.chosen
            panel.scatter(
                value,
                trial.quality,
                s=300 if chosen else 90,
                marker="*" if chosen else "o",
                color=COLORS[number % len(COLORS)],
                edgecolors="black" if trial.on_front else "none",
                linewidths=1.8,
                alpha=0.85,
                zorder=2,
                label=trial.name,
            )
        panel.set_xlim(0, 1.1 * max(values))
        panel.set_xlabel(unit)
        panel.margins(y=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(sweep.measure)
    name = "none" if sweep.chosen is None else sweep.chosen.name
    figure.suptitle(
        f"star: chosen, {name}; black edge: Pareto front; line: {sweep.max_drop:g} less than Keras"
    )
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    with atomic_path(sweep.chart) as temporary:
        figure.savefig(temporary, dpi=150)
