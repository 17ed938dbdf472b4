"""Charts as SVG, whose colours are those of the page: they follow its light and dark."""

import dataclasses
import math

from lingxi.report.markup import element

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 34
STRIP = 34  # height of the counts below a reliability diagram


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: for the legend, or None.
        points: pairs of numbers; those that are not finite are left out.
        style: a class of the style sheet: "train", "validation" or "faint".
        dotted: whether the points are marked, and say what they are.
    """

    name: str | None
    points: list
    style: str
    dotted: bool = False


class Scale:
    """From numbers to places on the page, with round ticks.

    Args:
        values: that must have a place.
        start, end: places of the ends.
        is_exact: whether it ends at the least and the greatest value, and ticks are whole numbers.
    """

    def __init__(self, values, start, end, is_exact=False):
        low, high = min(values), max(values)
        if low == high:
            low, high = (0.0, 1.0) if low == 0 else sorted((0.5 * low, 1.5 * low))
        self.ticks = round_ticks(low, high)
        if is_exact:
            self.low, self.high = low, high
            self.ticks = [t for t in self.ticks if low <= t <= high and float(t).is_integer()]
        else:
            self.low, self.high = self.ticks[0], self.ticks[-1]
        self.start, self.end = start, end

    def __call__(self, value):
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)


def round_ticks(low, high, count=4):
    """About `count` round numbers from below `low` to above `high`."""
    wanted = (high - low) / count
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= 0.999 * wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def lines(curves, x_name, from_zero=False):
    """Curves over steps or epochs, with a legend if more than one has a name."""
    curves = [dataclasses.replace(c, points=_finite(c.points)) for c in curves]
    points = [point for curve in curves for point in curve.points]
    if not points:
        return element("p", "no finite values", class_="muted")
    heights = [y for curve in curves for y in _heights(curve)]
    first = 1 if x_name == "epoch" else 0
    x = Scale([first, *(x for x, _ in points)], LEFT, WIDTH - RIGHT, is_exact=True)
    y = Scale([0.0, *heights] if from_zero else heights, HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y), _x_title(x_name, HEIGHT - 4)]
    for curve in curves:
        places = [(x(a), y(b)) for a, b in curve.points]
        path = " ".join(f"{a},{b}" for a, b in places)
        parts.append(element("polyline", points=path, class_=f"line {curve.style}"))
        if curve.dotted:
            for (a, b), (cx, cy) in zip(curve.points, places, strict=True):
                title = element("title", f"{x_name} {number(a)}: {number(b)}")
                parts.append(element("circle", title, cx=cx, cy=cy, r=3.2, class_=curve.style))
    named = [(curve.name, curve.style) for curve in curves if curve.name]
    return element("div", *([legend(named)] if len(named) > 1 else []), _svg(parts, HEIGHT))


def reliability(calibration):
    """The share that was right over the confidence, and below it how many said so."""
    x = Scale([0.0, 1.0], LEFT, WIDTH - RIGHT)
    y = Scale([0.0, 1.0], HEIGHT - BOTTOM, TOP)
    total, most = calibration.counts.sum(), max(calibration.counts.max(), 1)
    width = 1 / len(calibration.counts)
    bottom = HEIGHT + STRIP
    parts = [*_grid(x, y)]
    columns = zip(calibration.counts, calibration.confidences, calibration.shares, strict=True)
    for index, (count, confidence, share) in enumerate(columns):
        if not count:
            continue
        left, right = x(index * width) + 1, x((index + 1) * width) - 1
        title = (
            f"{count:,} of {total:,} with a confidence from {index * width:.2f} to "
            f"{(index + 1) * width:.2f}: {confidence:.3f} in the mean, {share:.3f} right"
        )
        parts += [
            _bar(left, right, y(share), y(0), "bar"),
            element("line", x1=left, x2=right, y1=y(confidence), y2=y(confidence), class_="said"),
            _bar(left, right, bottom - STRIP * count / most, bottom, "few"),
            _bar(left, right, TOP, bottom, "hit", element("title", title)),
        ]
    ends = {"x1": x(0), "y1": y(0), "x2": x(1), "y2": y(1)}
    parts += [element("line", class_="ideal", **ends), _x_title("confidence", HEIGHT - 4)]
    names = [("share that was right", "train"), ("mean confidence", "validation")]
    return element("div", legend(names), _svg(parts, bottom))


def legend(names):
    """Names of curves beside their colours, pairs of name and style."""
    items = (element("span", element("i", class_=style), name) for name, style in names)
    return element("p", *items, class_="legend")


def smoothed(points):
    """Points whose second number is the mean of a twentieth of all, around them."""
    points = _finite(points)
    reach, values = len(points) // 40, [y for _, y in points]
    windows = (values[max(i - reach, 0) : i + reach + 1] for i in range(len(points)))
    return [(x, sum(w) / len(w)) for (x, _), w in zip(points, windows, strict=True)]


def number(value):
    """A number for people: 1,250, 0.0312 or 5e-5."""
    if value and not 1e-4 <= abs(value) < 1e7:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _finite(points):
    return [(x, y) for x, y in points if y is not None and math.isfinite(y)]


def _heights(curve):
    """The numbers that must have a place: of a faint curve not the few greatest."""
    heights = sorted(y for _, y in curve.points)
    return heights[: math.ceil(0.98 * len(heights))] if curve.style == "faint" else heights


def _grid(x, y):
    """Lines and numbers at the ticks of both axes."""
    for tick in y.ticks:
        place = y(tick)
        yield element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=place, y2=place, class_="grid")
        yield element("text", number(tick), x=LEFT - 6, y=place + 4, text_anchor="end")
    for tick in x.ticks:
        yield element("text", number(tick), x=x(tick), y=HEIGHT - BOTTOM + 15, text_anchor="middle")


def _bar(left, right, top, bottom, style, *children):
    sizes = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    sizes = {name: round(float(size), 1) for name, size in sizes.items()}
    return element("rect", *children, class_=style, **sizes)


def _x_title(name, y):
    return element("text", name, x=WIDTH - RIGHT, y=y, text_anchor="end", class_="muted")


def _svg(parts, height):
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img")
