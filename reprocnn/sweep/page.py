"""Write what a sweep found as one page that needs nothing else: a table, and Optuna's plots where there are enough."""

import base64
import html
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from hydra.core.override_parser.types import Override

from reprocnn.core.files import write_text
from reprocnn.sweep.driver import Ended
from reprocnn.sweep.overrides import key_of
from reprocnn.sweep.search import as_distributions, as_values

TITLE = "<title>Sweep: "  # by which `--summary` knows its own pages
CSS = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
body { color: #222; background: #fff; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #ccc; text-align: left; }
.number { text-align: right; }
img { max-width: 100%; }
"""


def write(path: Path, ended: list[Ended], overrides: list[Override], metric: str, minimize: bool, note: str) -> None:
    """Write the trials that ended, best first, and the plots of those that finished."""
    space = as_distributions(overrides)
    finished = [one for one in ended if one.value is not None and not one.pruned]
    constant = " ".join(str(one.input_line) for one in overrides if one.key_or_group not in space)
    counts = f"{len(ended)} trials, {len(finished)} of them finished, {sum(one.pruned for one in ended)} pruned."
    parts = [
        f"<h1>Sweep: {html.escape(metric)}</h1>",
        f"<p>{counts} All have {html.escape(constant)}. {html.escape(note)}</p>",
    ]
    keys = [key for key in space if len({repr(as_values(one.overrides, space)[key]) for one in finished}) > 1]
    if keys:
        parts += _plots(finished, space, keys, metric, minimize)
    parts += ["<h2>Trials</h2>", _table(sorted(ended, key=lambda one: _rank(one, minimize)), list(space), metric)]
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n{TITLE}{html.escape(metric)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n",
    )


def _rank(one: Ended, minimize: bool) -> tuple[bool, bool, float, str]:
    value = one.value or 0
    return one.value is None, one.pruned, value if minimize else -value, one.name


def _plots(ended: list[Ended], space: dict[str, Any], keys: list[str], metric: str, minimize: bool) -> list[str]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if minimize else "maximize")
    for one in ended:
        values = as_values(one.overrides, space)
        study.add_trial(optuna.create_trial(params=values, distributions=space, value=one.value))
    from optuna.visualization import matplotlib as plots

    named = ", ".join(keys)
    drawn = _picture(lambda: plots.plot_slice(study, keys, target_name=metric), len(keys), f"{metric} against {named}")
    parts = ["<h2>Each value</h2>", drawn]
    if len(keys) > 1:
        alt = f"a line for each trial through {named} and {metric}"
        drawn = _picture(lambda: plots.plot_parallel_coordinate(study, keys, target_name=metric), 2, alt)
        parts += ["<h2>Values together</h2>", drawn]
    return parts


def _picture(draw: Callable[[], Any], width: int, alt: str) -> str:
    """Draw an SVG `width` panels wide, with an alternative text."""
    with warnings.catch_warnings(), matplotlib.rc_context({"figure.figsize": (2 + 3.5 * width, 4.5)}):
        warnings.simplefilter("ignore")  # Optuna calls its plots with matplotlib experimental
        matplotlib.use("svg")
        axes = list(getattr(drawn := draw(), "flat", [drawn]))
        for axis in axes:
            axis.tick_params(axis="x", which="both", labelrotation=30)
        figure = axes[0].figure
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight")
        matplotlib.pyplot.close(figure)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{content}">'


def _table(ended: list[Ended], keys: list[str], metric: str) -> str:
    titles = [f'<th class="number">{html.escape(title)}</th>' for title in (metric, *keys)]
    rows = ["".join(["<th>experiment</th>", *titles, "<th>outcome</th>"])]
    for one in ended:
        values = {key_of(part): part.partition("=")[2] for part in one.overrides}
        cells = [f"<td>{html.escape(one.name)}</td>"]
        numbers = ["-" if one.value is None else f"{one.value:.4f}", *(values.get(key, "") for key in keys)]
        cells += [f'<td class="number">{html.escape(text)}</td>' for text in numbers]
        rows.append("".join([*cells, f"<td>{html.escape(one.message)}</td>"]))
    return '<div class="wide"><table>\n' + "\n".join(f"<tr>{row}</tr>" for row in rows) + "\n</table></div>"
