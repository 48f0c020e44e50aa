"""Draw and explain what the trainings and the evaluations wrote.

Reads, of MNIST and CIFAR-10, metrics/NAME.json, plots/NAME/{history,predictions}.csv and evaluation/NAME.{json,npz},
and benchmarks/results/*.csv; never the data sets themselves. Writes report/: report.md with its figures/*.svg, and
index.html, the same in one file.
"""

from reprocnn.core.startup import run


def main() -> None:
    """Write report/."""
    from pathlib import Path

    from reprocnn.core.files import write_text
    from reprocnn.datasets import CIFAR, MNIST
    from reprocnn.report import chapters, document, results

    folder = Path("report")
    loaded = [results.load(dataset) for dataset in (MNIST, CIFAR)]
    for result in loaded:
        chapters.draw(result, folder)

    title = f"Report: {' and '.join(result.title for result in loaded)}"
    summary = chapters.summarize(loaded)
    # First, because it names a table that is broken, while the others only quote it.
    experiments = chapters.write_experiments(loaded)
    chapters.draw_experiments(folder)
    written = [*map(chapters.write_chapter, loaded), *experiments]
    write_text(folder / "report.md", document.to_markdown(title, summary, written))
    write_text(folder / "index.html", document.to_page(title, summary, written, folder))
    print(f"plot: {folder / 'report.md'}, {folder / 'index.html'}", flush=True)


if __name__ == "__main__":
    run(main)
