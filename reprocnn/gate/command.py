"""Judge the metrics against the targets of params.yaml and against another revision.

By default, REV is the merge base with the main branch (in GitHub Actions and GitLab CI, with the pull request's target
branch), and on that branch the commit before. The stricter of the two revisions' limits counts: what was loosened,
removed or renamed since REV fails unless --accept names it.

Exit code 0: passed. 1: a target is missed, a metric with a target got worse, or a limit was loosened. 2: no judgement,
because a metric is missing or invalid, the test images differ, the results are stale or those of the sample, or the
base is not in this clone; stderr says why.

The metric NAME.test.accuracy is judged image by image, with McNemar's exact test, if both revisions have
plots/NAME/predictions.csv (y_true, y_pred). Otherwise a metric is judged by its noise over seeds, if its target sets
`noise`; an accuracy by its count NAME.test.n, with Fisher's exact test of two proportions; anything else by
`gate.tolerance` alone. The count, the digest of the test images (NAME.test.digest) and NAME.source are in the metrics
file, or in evaluation/NAME.json without the prefix NAME.

`reprocnn gate calibrate` finds alpha and noise from several seeds.
"""

import argparse
import sys

from reprocnn.core.errors import UserError
from reprocnn.gate import render
from reprocnn.gate.compare import judge

FORMATS = {"text": render.text, "json": render.as_json, "markdown": render.markdown, "junit": render.junit}


def main(arguments: list[str]) -> None:
    """Print the judgement and exit with its code."""
    if arguments[:1] == ["calibrate"]:
        _calibrate(arguments[1:])
        return
    parser = argparse.ArgumentParser(
        prog="reprocnn gate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REV", help="any revision that git or DVC knows; default: the merge base")
    parser.add_argument(
        "--accept",
        metavar="NAME",
        action="append",
        default=[],
        help="accept what the gate calls loosened or removed: a metric, a limit, a dep or a param; repeatable",
    )
    parser.add_argument(
        "--metrics",
        metavar="FILE",
        action="append",
        default=[],
        help="judge this file (JSON, YAML or TOML) instead of those that DVC knows; works without DVC; repeatable",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="how to print the judgement")
    options = parser.parse_args(arguments)
    judgement = judge(options.against, options.accept, options.metrics)
    try:
        print(FORMATS[options.format](judgement))
        if judgement.exit_code == 2:
            print(*[f"error: {render.clean(reason)}" for reason in judgement.reasons], sep="\n", file=sys.stderr)
    except (ValueError, TypeError, RecursionError) as error:  # what cannot be written was not judged
        sys.stderr.write(ascii(f"error: the judgement cannot be written ({error})")[1:-1] + "\n")
        sys.exit(2)
    sys.exit(judgement.exit_code)


def _calibrate(arguments: list[str]) -> None:
    from reprocnn.gate import calibrate

    try:
        calibrate.main(arguments)
    except UserError as error:
        print(*[f"error: {render.clean(line)}" for line in str(error).splitlines()], sep="\n", file=sys.stderr)
        sys.exit(2)
