"""Lets `dvc plots show` and `dvc plots diff` work without a network, by a page template that holds Vega itself.

`python -m stages.vega` writes the template into the environment and names it in .dvc/config.local; `make` does so
after it has installed the dependencies.
"""

import sys
from pathlib import Path

import vl_convert

from stages.lib.commands import dvc
from stages.lib.errors import run
from stages.lib.files import write_text

TEMPLATE = Path(sys.prefix) / "vega.html"
VEGA_LITE = "5.21"  # DVC's charts are of version 5
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>DVC plots</title>
{refresh_tag}
<script>SCRIPT</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    write_text(TEMPLATE, template())
    dvc("config", "--local", "plots.html_template", str(TEMPLATE.resolve()))


def template() -> str:
    """DVC fills in {refresh_tag} and {plot_divs}; its {scripts}, which are links to a CDN, have no place."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return PAGE.replace("SCRIPT", bundle.replace("</script", "<\\/script"))


if __name__ == "__main__":
    run(main)
