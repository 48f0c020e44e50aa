"""Make `dvc plots show` and `dvc plots diff` work offline, with a page template that contains Vega.

Write the template into the environment and name it in .dvc/config.local. `make` runs this after it has installed the
dependencies.
"""

import argparse
import sys
from pathlib import Path

import vl_convert

from reprocnn.core.files import write_text
from reprocnn.repository import dvc

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


def main(arguments: list[str]) -> None:
    """Write the template and name it in the configuration of DVC."""
    argparse.ArgumentParser(prog="reprocnn vega", description=__doc__).parse_args(arguments)
    write_text(TEMPLATE, template())  # first: with a template that is not there, `dvc plots` fails
    dvc("config", "--local", "plots.html_template", str(TEMPLATE.resolve()))


def template() -> str:
    """Return the page, in which DVC fills {refresh_tag} and {plot_divs}, but not {scripts}: they are links to a CDN."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return PAGE.replace("SCRIPT", bundle.replace("</script", "<\\/script"))
