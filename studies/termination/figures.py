"""Figures as SVG, the standard library alone: text in the page's font, readable in a dark scheme too."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 480, 64, 52, 24, 24
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.axis{stroke:#999}.grid{stroke:#8883;stroke-dasharray:2 3}"
    ".smpo{fill:#c2410c;stroke:#c2410c}.other{fill:#2563eb;stroke:#2563eb}.start{fill:#333}.ours{fill:#15803d;stroke:#15803d}"
    ".label{font-size:10px}.link{fill:none;stroke-opacity:.45;stroke-width:1.4}"
    "@media(prefers-color-scheme:dark){text,.start{fill:#ddd}}"
)


def frame(x, y, title):
    """Title, axes and grid; `x` and `y` are (title, low, high, ticks). Lines of the SVG, and the place of an x and of a y."""
    (x_title, x_low, x_high, x_ticks), (y_title, y_low, y_high, y_ticks) = x, y
    place_x = lambda value: LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
    place_y = lambda value: HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text x="{LEFT}" y="15">{escape(title)}</text>',
    ]
    for tick in x_ticks:
        out.append(f'<line class="grid" x1="{place_x(tick):.1f}" x2="{place_x(tick):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        out.append(f'<text x="{place_x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in y_ticks:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place_y(tick):.1f}" y2="{place_y(tick):.1f}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{place_y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_title)}</text>')
    out.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    return out, place_x, place_y


def scatter(points, x, y, title, links=()):
    """SVG of points (x, y, label, class) and lines (points, class); `x` and `y` are (title, low, high, ticks)."""
    (_, x_low, x_high, _), (_, y_low, y_high, _) = x, y
    out, place_x, place_y = frame(x, y, title)
    for ends, kind in links:
        path = " ".join(f"{place_x(min(max(px, x_low), x_high)):.1f},{place_y(min(max(py, y_low), y_high)):.1f}" for px, py in ends)
        out.append(f'<polyline class="link {kind}" points="{path}"/>')
    taken = []
    for px, py, label, kind in sorted(points, key=lambda point: -point[1]):
        cx, cy = place_x(min(max(px, x_low), x_high)), place_y(min(max(py, y_low), y_high))
        out.append(f'<circle class="{kind}" cx="{cx:.1f}" cy="{cy:.1f}" r="4"><title>{escape(label)}: {px:.3g}, {py:.3g}</title></circle>')
        if not label:
            continue
        ty = cy + 3
        while any(abs(ty - other) < 10 and abs(cx - other_x) < 90 for other_x, other in taken):
            ty += 10
        taken.append((cx, ty))
        end = cx > WIDTH - 150
        out.append(
            f'<text class="label" x="{cx - 7 if end else cx + 7:.1f}" y="{ty:.1f}" text-anchor="{"end" if end else "start"}">{escape(label)}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


COLOURS = ["#c2410c", "#2563eb", "#15803d", "#7c3aed", "#b45309", "#0e7490", "#be123c", "#4d7c0f", "#6b7280", "#a21caf", "#1e3a8a", "#065f46", "#78350f"]


def lines(series, x, y, title):
    """SVG of lines {label: [(x, y)]}, each named at its right end."""
    (_, x_low, x_high, _), (_, y_low, y_high, _) = x, y
    out, place_x, place_y = frame((x[0], x_low, x_high + (x_high - x_low) * 0.22, x[3]), y, title)
    ends = []
    for (label, points), colour in zip(series.items(), COLOURS, strict=False):
        path = " ".join(f"{place_x(px):.1f},{place_y(min(max(py, y_low), y_high)):.1f}" for px, py in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"><title>{escape(label)}</title></polyline>')
        ends.append((place_y(min(max(points[-1][1], y_low), y_high)), label, colour))
    below = TOP
    for end, label, colour in sorted(ends):
        below = max(end, below + 12)
        out.append(f'<text class="label" x="{place_x(x_high) + 6:.1f}" y="{below + 3:.1f}" style="fill:{colour}">{escape(label)}</text>')
    return "\n".join([*out, "</svg>", ""])


ROW, HEAD, LABELS = 40, 62, 250
DOTS = ["#6b7280", "#c2410c", "#2563eb", "#b8a200", "#15803d", "#7c3aed", "#0e7490"]  # no two alike


def dots(rows, order, x, title):
    """SVG of rows (label, {name: values}), a circle for each value; `order` are the names, each with a colour of its own and the first hollow.
    `x` is (title, low, high, ticks)."""
    x_title, low, high, ticks = x
    height = HEAD + ROW * len(rows) + 44
    place = lambda value: LABELS + (value - low) / (high - low) * (WIDTH - LABELS - RIGHT)
    colour = dict(zip(order, DOTS, strict=True))
    fill = lambda name: "none" if name == order[0] else colour[name]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text x="12" y="16">{escape(title)}</text>',
    ]
    step = (WIDTH - 24) / len(order)
    for place_in_legend, name in enumerate(order):
        at = 18 + place_in_legend * step
        out.append(f'<circle cx="{at:.1f}" cy="36" r="5" fill="{fill(name)}" stroke="{colour[name]}" stroke-width="1.6"/>')
        out.append(f'<text class="label" x="{at + 10:.1f}" y="40">{escape(name)}</text>')
    bottom = HEAD + ROW * len(rows)
    for tick in ticks:
        out.append(f'<line class="grid" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{HEAD - 8}" y2="{bottom}"/>')
        out.append(f'<text x="{place(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for number, (label, found) in enumerate(rows):
        y = HEAD + ROW * number + ROW / 2 - 4
        out.append(f'<text x="12" y="{y + 4:.1f}">{escape(label)}</text>')
        out.append(f'<line class="grid" x1="{LABELS}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        taken = []
        for name in order:
            for value in found.get(name, []):
                cx, above = place(value), 0
                while any(abs(cx - other) < 11 and above == level for other, level in taken):
                    above = -above + (11 if above <= 0 else 0)  # 0, 11, -11, 22: circles that would cover each other
                taken.append((cx, above))
                out.append(
                    f'<circle cx="{cx:.1f}" cy="{y - above:.1f}" r="5" fill="{fill(name)}" stroke="{colour[name]}" stroke-width="1.6">'
                    f"<title>{escape(label)}, {escape(name)}: {value:g}</title></circle>"
                )
    out.append(f'<text x="{(LABELS + WIDTH - RIGHT) / 2}" y="{bottom + 36}" text-anchor="middle">{escape(x_title)}</text>')
    return "\n".join([*out, "</svg>", ""])
