"""Write the HTML template with which DVC's plots ask the network for nothing: `make plots` uses it.

DVC's own page loads Vega from the network. This one holds it, and goes with `dvc plots show` and `dvc plots diff`:
`dvc plots diff HEAD~1 --html-template .dvc/tmp/plots.html`.
"""

import argparse
from pathlib import Path

from stages.errors import run_cli
from stages.files import write_text
from stages.reporting.sections import vega_script

TEMPLATE = Path(".dvc/tmp/plots.html")
# DVC fills in {refresh_tag} and {plot_divs}. Its {scripts}, which name the network, are left out.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>DVC plots</title>
<style>img {max-width: 100%}</style>
<script>SCRIPT</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    """Write the template."""
    parser = argparse.ArgumentParser(prog="python -m stages.plots_template", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.parse_args()
    write_text(TEMPLATE, PAGE.replace("SCRIPT", vega_script()))


if __name__ == "__main__":
    run_cli(main)
