"""What `dvc plots` writes, in a browser without a network."""

import re

import pytest
import yaml

from reprocnn.commands import vega
from tests.support import browser
from tests.support.commands import ROOT, call


def titles() -> list[str]:
    """List the titles of the plots that dvc.yaml defines: by default their names."""
    spec = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    return [entry.get("title", name) for plot in spec["plots"] for name, entry in plot.items()]


def test_dvc_uses_the_template_that_holds_its_scripts(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(vega, "TEMPLATE", tmp_path / "page.html")
    monkeypatch.setattr(vega, "dvc", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(
        "vl_convert.javascript_bundle", lambda code, version: f"{code} // {version} <script></script></SCRIPT>"
    )
    vega.main([])
    assert calls == [("config", "--local", "plots.html_template", str(tmp_path / "page.html"))]
    page = (tmp_path / "page.html").read_text()
    assert "<script>window.vegaEmbed = vegaEmbed; // 5.21 <script><\\/script></SCRIPT></script>" in page
    assert page.count("{refresh_tag}") == page.count("{plot_divs}") == 1
    assert "SCRIPT>" not in page.replace("</SCRIPT>", "")
    assert "{scripts}" not in page


@pytest.mark.slow
@browser.needs_chromium
def test_dvc_plots_need_no_network(copy):
    assert len(titles()) >= 4
    written = copy / "dvc_plots/index.html"
    with browser.chromium() as chromium:
        call(copy, "dvc", "plots", "show")
        with browser.opened(chromium, written, 1280) as seen:
            assert any("cdn" in request for request in seen.requests)  # what the template is for
        code = "from pathlib import Path; from reprocnn.commands import vega; "
        code += "vega.TEMPLATE = Path('vega.html'); vega.main([])"
        call(copy, "python", "-c", code)
        for command in (["show"], ["diff", "HEAD"]):
            if command[0] == "diff":
                history = copy / "plots/mnist/history.csv"
                history.write_text(history.read_text().replace("1,", "1,1", 1))
            call(copy, "dvc", "plots", *command)
            text = written.read_text(encoding="utf-8")
            assert [title for title in titles() if title not in text] == []
            with browser.opened(chromium, written, 1280) as seen:
                places = re.findall(r"vegaEmbed\('#([^']+)'", text)
                assert len(places) >= len(titles())
                for place in places:
                    seen.page.wait_for_selector(f"[id='{place}'] .marks")  # a canvas or an SVG
                # Vega warns of DVC's charts: they are of an older version, and empty until their data comes.
                errors = [complaint for complaint in seen.complaints if complaint.startswith("error")]
                assert (seen.requests, errors, seen.broken_images()) == ([], [], [])
