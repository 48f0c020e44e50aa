"""The tables of benchmarks/, from made-up measurements."""

import pandas as pd
import pytest

from reprocnn.core.errors import UserError
from reprocnn.report import cells as cell
from reprocnn.report import experiments, tables


def cells(name: str, runs: pd.DataFrame, n_val: int = 6000) -> list[list[str]]:
    """Build a table and give its cells as they stand in the Markdown."""
    table = tables.build(experiments.specifications(n_val)[name], runs)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in tables.markdown(table).splitlines()[2:]]


def test_bench_by_hand():
    rows = [("slow", 0, 1, 10, 0.97), ("slow", 0, 2, 20, 0.989), ("slow", 0, 3, 30, 0.994)]
    rows += [("slow", 1, 1, 12, 0.98), ("slow", 1, 2, 24, 0.993), ("slow", 1, 3, 36, 0.992)]
    rows += [("mnist-fast", seed, 1, seconds, 0.991) for seed, seconds in enumerate((3, 4, 100))]
    rows += [
        ("never", 0, 1, 1, 0.98),
        ("there", 0, 9, 1000, 0.93),
        ("there", 1, 9, 1100, 0.93),
        ("missed", 0, 8, 9, 0.9),
    ]
    table = pd.DataFrame(rows, columns=["side", "seed", "epoch", "seconds", "test_accuracy"])
    cifar = table["side"].isin(["there", "missed"])
    table["data_set"] = cifar.map({True: "cifar", False: "mnist"})
    table["test_accuracy_tta"] = table["side"].map({"there": "0.94", "missed": "0.9399"}).fillna("")
    table = table.assign(images=6000 * table["epoch"], tflop=1.5, matrix_peak_gflops=250.0, peak_memory_mib=1536)
    table["first_step_seconds"] = 4.25
    slow, fast, never, there, missed = cells("bench", table)
    # The second epoch's mean is (0.989 + 0.993) / 2 = 99.1 %; its median time 22 s, that of mnist-fast 4 s. After the
    # third 33 s: 18,000 images in 30 and in 36 s; 1.5 TFLOP in so long, of 250 GFLOP/s.
    assert slow == ["slow", "3", "99.30% ± 0.14", "", "2", "33.0", "22.0 s, epoch 2", "5.5", "550", "1.5", "18%",
                    "1.5 GiB", "4.2 s"]  # fmt: skip
    assert fast[6:8] == ["4.0 s, epoch 1", "1.0"]
    assert never[6:8] == ["never", ""]
    assert there[3:8] == ["94.00% ± 0.00", "2", "1,050.0", "1,050.0 s, epoch 9", ""]
    assert missed[3:8] == ["93.99%", "1", "9.0", "never", ""]


def test_waits_by_hand():
    rows = [("arrays", 1, 5.0, 10.0), ("arrays", 2, 5.2, 5.3), ("arrays", 3, 6.0, 9.0), ("batches.py", 1, 5.1, 5.1)]
    arrays, batches = cells("waits", pd.DataFrame(rows, columns=["fed", "epoch", "steps", "whole"]))
    assert arrays == ["arrays", "3", "5.2 s", "9.0 s", "10.0 s"]
    assert batches == ["batches.py", "1", "5.1 s", "5.1 s", "5.1 s"]


def test_an_exponent_by_hand():
    sizes = pd.Series([1, 10, 100])
    assert cell.exponent(sizes, 3 * sizes**2) == pytest.approx(2)
    assert cell.exponent(sizes, pd.Series([7, 7, 7])) == pytest.approx(0)


def test_tried_by_hand():
    rows = [("none", 0, 2.0, 0.98), ("none", 1, 4.0, 0.99), ("other", 0, 3.0, 0.97), ("other", 1, 4.0, 0.97)]
    none, other = cells("tried", pd.DataFrame(rows, columns=["change", "seed", "seconds", "val_accuracy"]))
    assert none == ["none", "2", "3.00", "1.00", "98.50% ± 0.71"]
    assert other == ["other", "2", "3.50", "1.25", "97.00% ± 0.00"]  # 3 / 2 and 4 / 4


def test_cifar_by_hand():
    columns = ["setting", "training", "epochs", "test_accuracy", "test_accuracy_tta", "seconds", "tflop",
               "peak_memory_mib"]  # fmt: skip
    rows = [("mnist", "a", 1, 0.99, 0.99, 9, 1.0, 100), ("cifar", "old", 8, 0.5, "", 100, "", 100)]
    assert tables.build(experiments.TABLES["cifar"], pd.DataFrame(rows, columns=columns)).empty
    rows += [
        ("cifar-94", "b", 9, accuracy, 0.94, seconds, 187.6, 3072) for accuracy, seconds in ((0.93, 600), (0.94, 660))
    ]
    rows += [("cifar-plain", "c", 8, 0.92, 0.93, 1260, 283.0, 2048)]
    cheap, plain = cells("cifar", pd.DataFrame(rows, columns=columns))
    assert cheap == ["cifar-94", "9", "93.50% ± 0.71", "94.00% ± 0.00", "2", "10.5", "0.50", "188", "3.0 GiB"]
    assert plain == ["cifar-plain", "8", "92.00%", "93.00%", "1", "21.0", "1.00", "283", "2.0 GiB"]


def test_search_by_hand():
    rows = [("", 0, 0.995, 0.02), ("", 1, 0.996, 0.03), ("depth=1", 1, 0.99, 0.04)]
    columns = ["change", "seed", "val_accuracy", "val_loss"]
    none, depth = cells("search", pd.DataFrame(rows, columns=columns))
    assert none == ["none", "2", "27", "27", "0.0250", "0.0250"]
    assert depth == ["`depth=1`", "1", "60", "24", "0.0400", "0.0300"]


def test_grudges_by_hand():
    rows = [(1, "fixed", 0, 0.5, 2.0, 99), (0, "as it is", 0, 0.1, 2.5, 1234), (1, "fixed", 1, 0.6, 1.0, 99)]
    columns = ["step", "fix", "seed", "val_accuracy", "val_loss", "parameters"]
    _, fixed = cells("grudges", pd.DataFrame(rows, columns=columns))
    assert fixed == ["fixed", "99", "55.0% ± 7.1", "1.50", "2"]


def test_the_chosen_epoch_by_hand():
    columns = ["seed", "epoch", "val_accuracy", "test_accuracy"]
    runs = pd.DataFrame([(0, 1, 0.9, 0.8), (0, 2, 0.7, 0.95), (1, 1, 0.5, 0.6), (1, 2, 0.5, 0.7)], columns=columns)
    assert cell.chosen(runs, "val_accuracy").tolist() == [0.8, 0.6]  # the earlier one of two equal
    assert cell.chosen(runs, "test_accuracy").tolist() == [0.95, 0.7]


def test_step_by_hand():
    row = {"setting": "mnist", "precision": "mixed_bfloat16", "images": 256,
           "gflop_per_step": 4.0, "milliseconds": 40.0, "keras_milliseconds": 60.0, "pytorch_milliseconds": 50.0,
           "keras_over_ours": 1.5, "pytorch_over_ours": 1.25,
           "matrix_peak_gflops": 200.0, "share_of_peak": 0.5}  # fmt: skip
    assert cells("step", pd.DataFrame([row])) == [
        ["mnist", "256", "bfloat16", "4.0", "40 ms", "60 ms", "50 ms", "1.50", "1.25", "200 GFLOP/s", "50%"]
    ]


def test_gpu_by_hand():
    columns = ["setting", "change", "judged_on", "epochs", "accuracy", "accuracy_tta", "seconds", "tflop",
               "matrix_peak_tflops"]  # fmt: skip
    rows: list[tuple[object, ...]] = [
        ("cifar-94", "", "test", 12, 0.93, 0.94, 2, 300.0, 600.0),
        ("cifar-94", "", "test", 12, 0.93, 0.95, 2, 300.0, 600.0),
        ("cifar-94", "lr=1", "val", 12, 0.92, 0.93, "", 210.0, ""),
    ]
    assert cells("gpu", pd.DataFrame(rows, columns=columns)) == [
        ["cifar-94", "", "12", "test", "93.00% ± 0.00", "94.50% ± 0.71", "2", "2.00", "300", "25%"],
        ["cifar-94", "`lr=1`", "12", "validation", "92.00%", "93.00%", "1", "", "210", ""],
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
    # The epoch chosen on validation gives 0.97 and 0.96, the one chosen on test 0.99 and 0.96.
    assert cells("insights", pd.DataFrame(rows, columns=columns)) == [
        ["a", "2", "96.00% ± 1.41", "11", "97.50%", "96.50%", "97.50% (+1.00)"]
    ]


def test_each_heading_is_given_once_and_trimmed():
    for table in experiments.specifications(6000).values():
        headings = [heading.casefold() for heading in table.columns]
        assert headings == [heading.strip() for heading in dict.fromkeys(headings)]


def test_only_what_is_measured_has_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    assert tables.tables(6000) == {}
    assert tables.circumstances("waits") == ""
    (tmp_path / "waits.csv").write_text("fed,epoch,steps,whole\narrays,1,5,10\n")
    assert list(tables.tables(6000)) == ["waits"]
    assert tables.circumstances("waits") == f"`{tmp_path}/waits.csv`"


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


def test_growth_by_hand():
    rows = [("mnist", n, 8, n / 10, 200) for n in (100, 200, 400)] + [("mnist", 100, 16, 40.0, 400)]
    columns = ["data_set", "images", "filters", "seconds", "peak_memory_mib"]
    images, filters = cells("growth", pd.DataFrame(rows, columns=columns))
    assert images == ["mnist", "100 to 400 images", "10.0 to 40.0", "1.00", "200 to 200", "0.00"]
    assert filters == ["mnist", "8 to 16 filters", "10.0 to 40.0", "2.00", "200 to 400", "1.00"]
