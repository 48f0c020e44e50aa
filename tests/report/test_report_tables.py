"""The tables of benchmarks/, from made-up measurements."""

import numpy as np
import pandas as pd
import pytest

from reprocnn.core.errors import UserError
from reprocnn.report import cells as cell
from reprocnn.report import experiments, tables
from tests.support.commands import ROOT


def cells(name: str, runs: pd.DataFrame, n_val: int = 6000) -> list[list[str]]:
    """Build a table and give its cells as they stand in the Markdown."""
    table = tables.build(experiments.specifications(n_val)[name], runs)
    rows = tables.markdown(table).replace("\u00a0±\u00a0", " ± ").splitlines()[2:]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


BENCH = ["side", "seed", "epoch", "images", "seconds", "test_accuracy", "test_accuracy_tta", "tflop",
         "matrix_peak_gflops", "peak_memory_mib", "first_step_seconds"]  # fmt: skip


def test_bench_by_hand():
    rows: list[tuple[object, ...]] = [
        # The last epoch of three seeds, and the other epochs.
        ("slow", 0, 3, 18_000, 30.0, 0.994, "", 1.5, 250.0, 1024, 4.2),
        ("slow", 1, 3, 18_000, 36.0, 0.992, "", 1.5, 250.0, 1536, 4.4),
        ("slow", 2, 3, 18_000, 60.0, 0.983, "", 1.5, 250.0, 4096, 9.0),
        *(("slow", 0, i, 6000 * i, 10.0 * i, accuracy, "", 9, 9, 9, 9) for i, accuracy in ((1, 0.992), (2, 0.991))),
        *(("slow", 1, i, 6000 * i, 12.0 * i, accuracy, "", 9, 9, 9, 9) for i, accuracy in ((1, 0.991), (2, 0.993))),
        *(("slow", 2, i, 6000 * i, 40.0 * i, accuracy, "", 9, 9, 9, 9) for i, accuracy in ((1, 0.95), (2, 0.987))),
        *(("mnist-fast", i, 1, 6000, seconds, 0.991, "", 1, 9, 9, 9) for i, seconds in enumerate((3, 4, 100))),
        *(
            ("exact", 0, i, 1, 1000.0 * i, accuracy, "", 1, 1, 1, 1)
            for i, accuracy in ((1, 0.99), (2, 0.995), (3, 0.98))
        ),
        ("never", 0, 1, 1, 1, 0.98, "0.999", 1, 1, 1, 1),
        ("there", 0, 9, 1, 1000, 0.92, "0.95", 1, 1, 1, 1),
        ("there", 1, 9, 1, 1100, 0.93, "0.93", 1, 1, 1, 1),
        ("missed", 0, 8, 1, 9, 0.95, "0.9399", 1, 1, 1, 1),
    ]
    table = pd.DataFrame(rows, columns=BENCH)
    table["data_set"] = table["side"].isin(["there", "missed"]).map({True: "cifar", False: "mnist"})
    slow, fast, exact, never, there, missed = cells("bench", table)
    # Means of 97.77, 99.03 and 98.97 %: the second epoch reaches the target, after a median of 24 s; mnist-fast takes 4
    # s. At the end 18,000 images in a median of 36 s, and 1.5 TFLOP of the 9 that 250 GFLOP/s make of it.
    assert slow == ["slow", "3", "98.97% ± 0.59", "", "3", "36.0", "24.0 s, epoch 2", "6.0", "500", "1.5", "17%",
                    "1.5 GiB", "4.4 s"]  # fmt: skip
    assert fast[5:8] == ["4.0", "4.0 s, epoch 1", "1.0"]
    assert exact[5:8] == ["3,000.0", "1,000.0 s, epoch 1", "250.0"]
    assert never[3:8] == ["99.90%", "1", "1.0", "never", ""]
    assert there[2:8] == ["92.50% ± 0.71", "94.00% ± 1.41", "2", "1,050.0", "1,050.0 s, epoch 9", ""]
    assert missed[2:8] == ["95.00%", "93.99%", "1", "9.0", "never", ""]


def test_end_to_end_by_hand():
    """Seconds are 0.5, 0.9 and 0.3 of the peer's with the same seed; the medians would give 0.45."""
    columns = ["hardware", "side", "seed", "seconds", "training_seconds", "cpu_seconds", "test_accuracy"]
    ours, peer = "mnist-fast", "one-epoch recipe, PyTorch"
    rows = [
        ("A", ours, 0, 5.0, 1.0, 8.0, 0.99), ("A", peer, 0, 10.0, 4.0, 10.0, 0.99),
        ("A", ours, 1, 18.0, 2.0, 30.0, 0.99), ("A", peer, 1, 20.0, 4.0, 20.0, 0.99),
        ("A", ours, 2, 9.0, 3.0, 13.0, 0.99), ("A", peer, 2, 30.0, 5.0, 26.0, 0.99),
        ("B", ours, 0, 5.0, 1.0, 8.0, 0.99), ("B", peer, 0, 5.0, 2.0, 8.0, 0.99),  # of another processor
    ]  # fmt: skip
    accuracy = "99.00% ± 0.00"
    assert cells("end_to_end", pd.DataFrame(rows, columns=columns)) == [
        ["A", ours, "3", accuracy, "9.0 (0.50)", "2.0 (0.50)", "13.0 (0.80)"],
        ["A", peer, "3", accuracy, "20.0 (1.00)", "4.0 (1.00)", "20.0 (1.00)"],
        ["B", ours, "1", "99.00%", "5.0 (1.00)", "1.0 (0.50)", "8.0 (1.00)"],
        ["B", peer, "1", "99.00%", "5.0 (1.00)", "2.0 (1.00)", "8.0 (1.00)"],
    ]


def test_a_spread_stays_with_its_number():
    assert "| 1.00% ± 0.10 |".replace(" ± ", "\u00a0±\u00a0") in tables.markdown(pd.DataFrame([{"a": "1.00% ± 0.10"}]))


def test_a_mean_of_which_a_seed_was_not_measured_is_not_given():
    """An empty cell of a table makes text of the column's numbers."""
    runs = pd.DataFrame({"known": [0.5, 0.7], "gaps": ["0.5", ""], "text": ["0.5", "0.7"]})
    assert [cell.accuracy(column)(runs) for column in runs] == ["60.00% ± 14.14", "", "60.00% ± 14.14"]


def test_waits_by_hand():
    rows = [("arrays", 1, 5.0, 10.0), ("arrays", 2, 5.2, 5.3), ("arrays", 3, 6.0, 9.0), ("batches.py", 1, 5.1, 5.1)]
    arrays, batches = cells("waits", pd.DataFrame(rows, columns=["fed", "epoch", "steps", "whole"]))
    assert arrays == ["arrays", "3", "5.2 s", "9.0 s", "10.0 s"]
    assert batches == ["batches.py", "1", "5.1 s", "5.1 s", "5.1 s"]


def test_an_exponent_by_hand():
    sizes = pd.Series([1, 10, 100])
    assert cell.exponent(sizes, 3 * sizes**2) == pytest.approx(2)
    assert cell.exponent(sizes, pd.Series([7, 7, 7])) == pytest.approx(0)


def test_an_exponent_is_fitted_to_logarithms():
    """Against the normal equation of log(cost) over log(size), on points that lie on no line."""
    sizes, costs = np.array([1.0, 2.0, 8.0, 64.0]), np.array([3.0, 5.0, 90.0, 1000.0])
    x, y = np.log(sizes) - np.log(sizes).mean(), np.log(costs) - np.log(costs).mean()
    assert cell.exponent(pd.Series(sizes), pd.Series(costs)) == pytest.approx((x @ y) / (x @ x))


def test_tried_by_hand():
    rows = [("none", 2, 8.0, 0.97), ("none", 0, 2.0, 0.98), ("none", 1, 4.0, 0.99)]
    rows += [("other", 0, 3.0, 0.97), ("other", 1, 4.0, 0.96), ("other", 2, 40.0, 0.98), ("once", 2, 4.0, 0.5)]
    runs = pd.DataFrame(rows, columns=["change", "seed", "seconds", "val_accuracy"]).assign(hardware="A")
    none, other, once = cells("tried", runs)
    assert none == ["none", "3", "4.00", "1.00", "98.00% ± 1.00"]
    assert other == ["other", "3", "4.00", "1.50", "97.00% ± 1.00"]  # 3 / 2, 4 / 4 and 40 / 8
    assert once == ["once", "1", "4.00", "0.50", "50.00%"]


def test_cifar_by_hand():
    columns = ["setting", "training", "epochs", "test_accuracy", "test_accuracy_tta", "seconds", "tflop",
               "peak_memory_mib", "hardware"]  # fmt: skip
    fast, slow = "A, 2 threads, mixed_bfloat16", "B, 4 threads, mixed_bfloat16"
    rows: list[tuple[object, ...]] = [
        ("mnist", "a", 1, 0.99, 0.99, 9, 1.0, 100, fast), ("cifar", "old", 8, 0.5, "", 100, "", 100, fast),
    ]  # fmt: skip
    assert tables.build(experiments.TABLES["cifar"], pd.DataFrame(rows, columns=columns)).empty
    rows += [
        *[("cifar-94", "b", 9, 0.93, 0.94, 6000, 187.6, 9000, slow) for _ in range(2)],
        ("cifar-94", "b", 9, 0.93, 0.95, 600, 187.6, 3072, fast),
        ("cifar-94", "b", 9, 0.94, 0.94, 660, 187.6, 2048, fast),
        ("cifar-94", "b", 9, 0.92, 0.93, 1320, 187.6, 1024, fast),
        ("cifar-94", "older", 10, 0.91, "", 126, 99.4, 512, fast),
        ("cifar-94", "elsewhere", 9, 0.93, "", 126, 99.4, 512, slow),
    ]
    (*_, alone) = cells("cifar", pd.DataFrame(rows, columns=columns))
    assert alone[7] == ""  # relative to nothing
    plain_on_a = "A, 2 threads, float32"
    rows += [("cifar-plain", "c", 8, 0.92, 0.93, seconds, 283.0, 1126, plain_on_a) for seconds in (1260, 1200, 1380)]
    cheap, older, elsewhere, plain = cells("cifar", pd.DataFrame(rows, columns=columns))
    machine = "A, 2 threads"
    # Accuracies are of all five, times and memory of the three that ran on one processor.
    assert cheap == ["cifar-94", "9", "93.00% ± 0.71", "94.00% ± 0.71", "5", machine, "11.0", "0.52", "188", "3.0 GiB"]
    assert older == ["cifar-94", "10", "91.00%", "", "1", machine, "2.1", "0.10", "99", "0.5 GiB"]
    assert elsewhere[5:8] == ["B, 4 threads", "2.1", ""]  # relative to no other machine's time
    assert plain == [
        "cifar-plain", "8", "92.00% ± 0.00", "93.00% ± 0.00", "3", machine, "21.0", "1.00", "283", "1.1 GiB",
    ]  # fmt: skip
    rows.append(("cifar-plain", "c", 8, 0.92, 0.93, 6300, 283.0, 1126, slow))
    assert [row[7] for row in cells("cifar", pd.DataFrame(rows, columns=columns))] == ["0.52", "0.10", "0.02", "1.00"]


def test_search_by_hand():
    rows = [("", 0, 0.995, 0.02), ("depth=1", 1, 0.99, 0.04), ("", 1, 0.996, 0.03), ("", 2, 0.98, 0.16)]
    columns = ["change", "seed", "val_accuracy", "val_loss"]
    none, depth = cells("search", pd.DataFrame(rows, columns=columns))
    assert none == ["none", "3", "58", "58", "0.0700", "0.0700"]
    assert depth == ["`depth=1`", "1", "60", "24", "0.0400", "0.0300"]
    assert cells("search", pd.DataFrame(rows, columns=columns), n_val=1000)[1][2:4] == ["10", "4"]


def test_flaws_by_hand():
    rows = [(1, "fixed", 0, 0.5, 2.0, 99), (0, "as it is", 0, 0.1, 2.5, 1234), (1, "fixed", 1, 0.6, 1.0, 99)]
    rows += [(1, "fixed", 2, 0.55, 0.9, 99)]
    columns = ["step", "fix", "seed", "val_accuracy", "val_loss", "parameters"]
    assert cells("flaws", pd.DataFrame(rows, columns=columns)) == [
        ["as it is", "1,234", "10.0% ± nan", "2.50", "1"], ["fixed", "99", "55.0% ± 5.0", "1.30", "3"],
    ]  # fmt: skip


def test_overhead_by_hand():
    row = {"what": "a start", "seconds": 3.126, "against": "the import", "bare_seconds": 2.5, "ratio": 1.2}
    assert cells("overhead", pd.DataFrame([row])) == [["a start", "3.13", "the import", "2.50", "1.20"]]


def test_the_chosen_epoch_by_hand():
    columns = ["seed", "epoch", "val_accuracy", "test_accuracy"]
    runs = pd.DataFrame([(0, 1, 0.9, 0.8), (0, 2, 0.7, 0.95), (1, 1, 0.5, 0.6), (1, 2, 0.5, 0.7)], columns=columns)
    assert cell.chosen(runs, "val_accuracy").tolist() == [0.8, 0.6]  # the earlier one of two equal
    assert cell.chosen(runs, "test_accuracy").tolist() == [0.95, 0.7]


def test_step_by_hand():
    row = {"hardware": "A, 2 threads", "setting": "mnist", "precision": "mixed_bfloat16", "images": 256,
           "gflop_per_step": 4.0, "milliseconds": 1040.0, "keras_milliseconds": 60.0, "pytorch_milliseconds": 50.0,
           "keras_over_ours": 1.5, "pytorch_over_ours": 1.25,
           "matrix_peak_gflops": 200.0, "share_of_peak": 0.5}  # fmt: skip
    [shown] = cells("step", pd.DataFrame([row]))
    assert shown[:8] == ["A, 2 threads", "mnist", "256", "bfloat16", "4.0", "1,040 ms", "60 ms", "50 ms"]
    assert shown[8:] == ["1.50", "1.25", "200 GFLOP/s", "50%"]


def test_gpu_by_hand():
    columns = ["setting", "change", "judged_on", "epochs", "accuracy", "accuracy_tta", "seconds", "tflop",
               "matrix_peak_tflops"]  # fmt: skip
    rows: list[tuple[object, ...]] = [
        ("cifar-94", "", "test", 12, 0.93, 0.94, 2, 300.4, 600.0),
        ("cifar-94", "lr=1", "val", 11, 0.92, 0.93, "", 210.0, ""),
        ("cifar-94", "", "test", 12, 0.93, 0.95, 2.5, 300.4, 640.0),
        ("cifar-94", "", "test", 12, 0.90, 0.96, 9, 300.4, 500.0),
    ]
    assert cells("gpu", pd.DataFrame(rows, columns=columns)) == [
        ["cifar-94", "", "12", "test", "92.00% ± 1.73", "95.00% ± 1.00", "3", "2.50", "300", "20%"],
        ["cifar-94", "`lr=1`", "11", "validation", "92.00%", "93.00%", "1", "", "210", ""],
    ]


def test_gpu_step_by_hand():
    row = {"side": "fit", "images": 500, "milliseconds": 4.0, "gflop": 400.0, "matrix_peak_tflops": 500.0}
    assert cells("gpu_step", pd.DataFrame([row])) == [["fit", "500", "4.00", "125,000", "20%"]]


def test_sweep_by_hand():
    columns = ["side", "trials", "waited", "seconds", "driver_mib"]
    rows = [("dvc exp run", 16, 5, 136.0, 0), ("sweep", 1000, 0, 2500.0, 321)]
    assert cells("sweep", pd.DataFrame(rows, columns=columns)) == [
        ["dvc exp run", "16", "5 s", "136", "8.5 s", "-"],
        ["sweep", "1,000", "0 s", "2500", "2.5 s", "321 MiB"],
    ]


def test_insights_by_hand():
    columns = ["variant", "seed", "epoch", "val_accuracy", "test_accuracy"]
    rows = [("a", 0, 10, 0.9, 0.97), ("a", 0, 11, 0.8, 0.99), ("a", 1, 10, 0.8, 0.95), ("a", 1, 11, 0.9, 0.96)]
    rows += [("a", 2, 10, 0.7, 0.9), ("a", 2, 11, 0.6, 0.84), ("b", 0, 10, 0.5, 0.5)]
    # The epoch chosen on validation gives 0.97, 0.96 and 0.90, the one chosen on test 0.99, 0.96 and 0.90.
    assert cells("insights", pd.DataFrame(rows, columns=columns)) == [
        ["a", "3", "94.00% ± 3.61", "11", "93.00%", "94.33%", "95.00% (+0.67)"],
        ["b", "1", "50.00%", "10", "50.00%", "50.00%", "50.00% (+0.00)"],
    ]


def test_each_heading_is_given_once_and_trimmed():
    for table in experiments.specifications(6000).values():
        headings = [heading.casefold() for heading in table.columns]
        assert headings == [heading.strip() for heading in dict.fromkeys(headings)]


def test_only_what_is_measured_has_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    assert tables.tables(6000) == {}
    (tmp_path / "waits.csv").write_text("fed,epoch,steps,whole\narrays,1,5,10\n")
    assert list(tables.tables(6000)) == ["waits"]
    assert tables.circumstances("waits") == f"`{tmp_path}/waits.csv`"
    (tmp_path / "waits.csv").write_text("fed,hardware,date\na,two,2026-03-01\nb,one,2026-01-02\nc,two,2026-03-01\n")
    assert tables.circumstances("waits") == f"`{tmp_path}/waits.csv`, one and two, 2026-01-02 and 2026-03-01"


def test_all_that_is_measured_has_its_table(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert list(tables.tables(6000)) == list(experiments.specifications(6000))
    assert "search" not in tables.tables(None)


def test_a_table_of_no_rows_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    (tmp_path / "growth.csv").write_text("data_set,images,filters,seconds,peak_memory_mib\n")
    assert tables.tables(6000) == {}


def test_the_search_counts_errors_only_where_their_number_is_known():
    assert "search" not in experiments.specifications(None)
    assert "errors of 5,000" in experiments.specifications(5000)["search"].columns


@pytest.mark.parametrize("content", ["fed,epoch\narrays,1\n", "", "fed,epoch,steps,whole\narrays,1,soon,later\n"])
def test_a_broken_table_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    (tmp_path / "waits.csv").write_text(content)
    with pytest.raises(UserError, match=r"waits\.csv: expected a table as its benchmark writes it, got .*restore it"):
        tables.tables(6000)


def test_a_seed_that_is_there_twice_is_a_fault_of_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    rows = (ROOT / "benchmarks/results/end_to_end.csv").read_text().splitlines()
    (tmp_path / "end_to_end.csv").write_text("\n".join([*rows, *rows[1:3], ""]))
    with pytest.raises(UserError, match=r"end_to_end\.csv: expected a table as its benchmark writes it, got "):
        tables.tables(6000)


def test_growth_by_hand():
    rows = [("mnist", 400, 8, 40.0, 200), ("mnist", 100, 16, 40.0, 400), ("mnist", 100, 8, 10.0, 200)]
    rows += [("cifar", 1000, 4, 1.0, 900), ("mnist", 200, 8, 20.0, 200), ("cifar", 5000, 4, 5.0, 4500)]
    rows += [("cifar", 1000, 8, 8.0, 1800), ("cifar", 1000, 2, 0.5, 450), ("cifar", 500, 8, 9.0, 9)]
    columns = ["data_set", "images", "filters", "seconds", "peak_memory_mib"]
    assert cells("growth", pd.DataFrame(rows, columns=columns)) == [
        ["mnist", "100 to 400 images", "10.0 to 40.0", "1.00", "200 to 200", "0.00"],
        ["mnist", "8 to 16 filters", "10.0 to 40.0", "2.00", "200 to 400", "1.00"],
        ["cifar", "1,000 to 5,000 images", "1.0 to 5.0", "1.00", "900 to 4,500", "1.00"],
        ["cifar", "2 to 8 filters", "0.5 to 8.0", "2.00", "450 to 1,800", "1.00"],
    ]


def test_a_cost_that_falls_is_not_written_as_if_it_rose():
    rows = [("mnist", 100, 8, 10.0, 300), ("mnist", 200, 8, 20.0, 250), ("mnist", 400, 8, 40.0, 200)]
    rows += [("mnist", 100, 16, 40.0, 400)]
    columns = ["data_set", "images", "filters", "seconds", "peak_memory_mib"]
    [images, _] = cells("growth", pd.DataFrame(rows, columns=columns))
    assert images[4] == "300 to 200"
