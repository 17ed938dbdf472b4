"""HTML and SVG in which every text is escaped."""

import html


class Markup(str):
    """What is written as it is; any other text is escaped."""


def element(name, *children, **attributes):
    """`<name attribute="…">children</name>`.

    Args:
        children: `Markup`, or texts and numbers.
        attributes: `class_` is the attribute `class`, `stroke_width` is `stroke-width`; those that
            are None are left out.
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{named}>{joined(children)}</{name}>")


def joined(children):
    """Parts one after the other, as `Markup`."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children))
