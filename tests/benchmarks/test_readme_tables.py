"""The tables of README and docs against what was measured."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from benchmarks.run import results, seeds, tables
from benchmarks.run.digests import LOCK, current_digest, training_digest
from benchmarks.run.settings import SETTINGS
from reprocnn.backend import layers
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_json
from reprocnn.evaluation.flops import training_flops
from reprocnn.networks.build import build
from reprocnn.training.schedule import image_size
from tests.support.commands import ROOT


def rows_of(table: str) -> list[dict[str, str]]:
    """Read a Markdown table, a row by its headings."""
    lines = table.replace("\u00a0", " ").strip().splitlines()
    headings, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(headings, row, strict=True)) for row in rows]


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """The working folder: what the tables are made of, and the pages that have them."""
    for name in (
        "README.md",
        "docs",
        "metrics",
        "params.yaml",
        "dvc.lock",
        "evaluation",
        "benchmarks/results",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def between(page: str, marker: str) -> str:
    return Path(page).read_text(encoding="utf-8").split(f"<!-- {marker} -->\n")[1].split("<!-- end -->")[0]


def pages() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (Path("README.md"), *Path("docs").rglob("*.md"))}


def test_the_tables_of_the_readme_are_compared(copied, capsys):
    tables.main([])
    once = pages()
    tables.main(["--check"])
    assert capsys.readouterr().out == "verify: the tables of README.md and docs/ are those of the results\n"
    assert pages() == once
    metrics = json.loads(Path("metrics/mnist.json").read_text())
    metrics["mnist"]["test"]["accuracy"] = 0.1234
    write_json(Path("metrics/mnist.json"), metrics)
    with pytest.raises(
        UserError, match=r"docs/results/index.md: expected the table of the (?s:.*)12\.34%(?s:.*)make gen"
    ):
        tables.main(["--check"])
    assert pages() == once
    tables.main([])
    assert rows_of(between("docs/results/index.md", "this commit"))[0]["test accuracy"] == "**12.34%**"
    assert sum(text != once[path] for path, text in pages().items()) == 1


def test_the_tables_need_validation_images(copied):
    path = Path("evaluation/mnist.json")
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"validation_images": None})
    with pytest.raises(UserError, match="validation_images: found none, expected their number"):
        tables.main(["--check"])


def test_a_table_that_a_page_shows_is_narrow():
    """At most six columns and 100 characters, as a screen has room for."""
    for marker, text in tables.views().items():
        lines = text.splitlines()
        assert len(lines) > 2, marker
        assert max(map(len, lines)) <= 100, marker
        assert len(rows_of(text)[0]) <= 6, marker
        assert " ±" not in text, marker


def test_every_column_that_was_measured_is_shown_or_named():
    """What a page leaves out is in the CSV file; these alone."""
    frames = {**tables.measured_tables(6000), "over seeds": tables.over_seeds(), "false alarms": tables.false_alarms()}
    left_out = set()
    for name, frame in frames.items():
        views = [view for view in tables.VIEWS.values() if view.table == name]
        left_out |= {(name, column) for column in frame} - {(name, column) for view in views for column in view.columns}
    assert left_out == {
        ("gpu", "judged on"), ("overhead", "baseline seconds"), ("end_to_end", "processor"), ("sweep", "driver memory"),
        ("search", "errors of 6,000"), ("search", "loss"), ("search", "baseline loss"),
        *(("step", column) for column in ("processor", "images", "GFLOP per step", "matrix peak", "PyTorch")),
        ("step", "Keras' own kernels"),
    }  # fmt: skip


def test_rows_are_filtered_by_a_view(monkeypatch):
    frame = pd.DataFrame({"setting": ["a", "b"], "judged on": ["test", "validation"]})
    monkeypatch.setattr(tables, "VIEWS", {"gpu": tables.View("gpu", ("setting",), ("judged on", "validation"))})
    known = dict.fromkeys(tables.measured_tables(6000), pd.DataFrame())
    monkeypatch.setattr(tables, "measured_tables", lambda n_val: known | {"gpu": frame})
    assert rows_of(tables.views()["gpu"]) == [{"setting": "b"}]


def test_headlines_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "SEEDS", Path("seeds.csv"))
    monkeypatch.setattr(tables, "HEADLINES", ("mnist", "cifar-94"))
    monkeypatch.setattr(tables, "current_digest", lambda setting: "now")
    for name, parameters in (("mnist", 1_234_567), ("cifar", 89)):
        write_json(Path(f"evaluation/{name}.json"), {"parameters": parameters})
    columns = ("setting", "training", "test_accuracy", "test_accuracy_tta", "seconds", "hardware")
    measured = [
        ("mnist", "older", 0.5, 0.5, 6000, "A"), ("mnist", "now", 0.98, 0.99, 60, "A"),
        ("mnist", "now", 0.985, 0.99, 900, "B"), ("mnist", "now", 0.99, 0.99, 180, "A"),
        ("mnist", "now", 0.985, 0.99, 600, "A"), ("cifar-94", "older", 0.94, 0.95, 606, "A"),
    ]  # fmt: skip
    results.write(tables.SEEDS, [dict(zip(columns, row, strict=True)) for row in measured])
    mnist, cifar = rows_of(tables.markdown(tables.headlines()))
    assert mnist == {
        "data set": "MNIST", "setting": "mnist", "test accuracy": "98.50% ± 0.41", "with TTA": "99.00% ± 0.00",
        "minutes": "3", "parameters": "1,234,567",
    }  # fmt: skip
    assert cifar == {
        "data set": "CIFAR-10", "setting": "cifar-94 (outdated)", "test accuracy": "94.00%", "with TTA": "95.00%",
        "minutes": "10", "parameters": "",
    }  # fmt: skip


def test_a_marker_is_there_once(copied, monkeypatch):
    monkeypatch.setattr(tables, "views", lambda: {"over seeds": "| a |\n"})
    page, marker = Path("a.md"), "<!-- over seeds -->\n"
    good = f"before\n{marker}stale\n<!-- end -->\nafter\n"
    assert tables.fill({page: good}) == {page: f"before\n{marker}| a |\n<!-- end -->\nafter\n"}
    for pages, found in (({page: ""}, 0), ({page: good, Path("b.md"): good}, 2), ({page: marker}, 0)):
        with pytest.raises(UserError, match=f"<!-- over seeds --> and its <!-- end -->: expected once, got {found}"):
            tables.fill(pages)
    with pytest.raises(UserError, match="<!-- over sedes -->: unknown table, known: over seeds"):
        tables.fill({page: good.replace("seeds", "sedes")})


def test_this_commit_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {
        "targets": {name: {"test": {"accuracy": {"at_least": least}}} for name, least in
                    (("mnist", 0.99), ("cifar", 0.915))},
        "mnist": {"network": "mnist_cnn"}, "cifar": {"network": "cifar_cnn"},
    }  # fmt: skip
    write_json(Path("params.yaml"), values)  # JSON is YAML too
    test = {"accuracy": 0.9912, "accuracy_tta": 0.9934, "errors": 1088}
    of_images = {"accuracy_low": 0.9856, "accuracy_high": 0.9978, "n": 12_345}
    for name in ("mnist", "cifar"):
        write_json(Path(f"metrics/{name}.json"), {name: {"test": test, "val": {"accuracy": 0.5}}})
        write_json(Path(f"evaluation/{name}.json"), {"test": of_images})
    test["accuracy_tta"] = 0.7
    mnist, cifar = rows_of(tables.markdown(tables.this_commit()))
    assert mnist == {
        "data set": "MNIST", "network": "mnist_cnn", "test accuracy": "**99.12%**", "with TTA": "99.34%",
        "95 % interval": "98.56% to 99.78%", "wrong": "1,088 of 12,345",
    }  # fmt: skip
    assert (cifar["data set"], cifar["network"]) == ("CIFAR-10", "cifar_cnn")


def test_seeds_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "SEEDS", tmp_path / "seeds.csv")
    monkeypatch.setattr(tables, "current_digest", lambda setting: f"current {setting}")
    measured = [
        ("mnist", "current mnist", 0.985, 900, 9000, "B"), ("mnist", "older", 0.9, 600, 2048, "A"),
        ("mnist", "current mnist", 0.99, 60, 1024, "A"), ("mnist", "current mnist", 0.98, 120, 5120, "A"),
        ("mnist", "current mnist", 0.985, 300, 3072, "A"), ("cifar-94", "current cifar-94", 0.94, 606, 9000, "A"),
    ]  # fmt: skip
    columns = ("setting", "training", "test_accuracy", "seconds", "peak_memory_mib", "hardware")
    results.write(tables.SEEDS, [dict(zip(columns, row, strict=True)) for row in measured])
    mnist, older, cifar = rows_of(tables.markdown(tables.over_seeds()))
    assert mnist == {
        "setting": "mnist", "test accuracy": "98.50% ± 0.41", "n": "4", "training, minutes": "2 (1 to 5)",
        "peak memory": "5.0 GiB",
    }  # fmt: skip
    assert [older[key] for key in ("setting", "test accuracy", "n")] == ["mnist (outdated)", "90.00%", "1"]
    assert older["training, minutes"] == "10 (10 to 10)"
    assert [cifar[key] for key in ("setting", "peak memory")] == ["cifar-94", "8.8 GiB"]


def test_false_alarms_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(Path("params.yaml"), {"gate": {"alpha": 0.02, "tolerance": 0.25}})
    write_json(Path("evaluation/mnist.json"), {"test": {"n": 40}})
    monkeypatch.setattr(tables, "current_digest", lambda setting: "now")
    monkeypatch.setattr(tables, "SEEDS", Path("seeds.csv"))
    monkeypatch.setattr(tables, "MISTAKES", Path("mistakes.csv"))
    wrong = {0: range(4), 1: range(2, 11), 2: range(20, 32), 3: range(4)}
    seed_rows = [{"setting": "mnist", "training": "now", "seed": seed} for seed in wrong]
    results.write(tables.SEEDS, [*seed_rows, {"setting": "cifar", "training": "now", "seed": 0}])
    results.write(
        tables.MISTAKES,
        [{"setting": "mnist", "seed": seed, "index": index} for seed, indices in wrong.items() for index in indices],
    )
    write_json(Path("evaluation/cifar.json"), {"test": {"n": 40}})
    p, z, drops = [], [], []
    for then in wrong:
        for now in wrong:
            if then != now:
                lost = len([index for index in wrong[now] if index not in wrong[then]])
                won = len([index for index in wrong[then] if index not in wrong[now]])
                p.append(binomtest(lost, lost + won, alternative="greater").pvalue if lost + won else 1.0)
                z.append((lost - won) ** 2 / max(1, lost + won))
                drops.append((len(wrong[now]) - len(wrong[then])) / 40)
    (row,) = rows_of(tables.markdown(tables.false_alarms()))
    # Of twelve pairs, 0 to 1 and 3 to 1 lose 7 and win 2; 0 to 2 and 3 to 2 lose 12 and win 4; 1 to 2 12 and 9.
    assert sorted((round(drop, 3), round(q, 3)) for drop, q in zip(drops, p, strict=True))[-5:] == [
        (0.075, 0.332), (0.125, 0.09), (0.125, 0.09), (0.2, 0.038), (0.2, 0.038),
    ]  # fmt: skip
    assert row == {
        "setting": "mnist", "seeds": "4", "pairs": "12", "p < 0.05": "17%", "p < 0.01": "0%", "p < 0.001": "0%",
        "p < 0.0001": "0%", "mean z²": f"{sum(z) / 12:.1f}", "largest drop": "20.00 points",
        "stopped": "0%",
    }  # fmt: skip
    for alpha, tolerance, stopped in ((0.1, 0.25, "33%"), (0.02, 0.1, "33%"), (0.02, 0.07, "42%"), (0.02, 0.2, "0%")):
        write_json(Path("params.yaml"), {"gate": {"alpha": alpha, "tolerance": tolerance}})
        (row,) = rows_of(tables.markdown(tables.false_alarms()))
        assert row["stopped"] == stopped


def test_rows_of_another_training_code_are_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    row = next(row for row in results.read(tables.SEEDS) if row["setting"] == "mnist")
    monkeypatch.setattr(tables, "SEEDS", tmp_path / "seeds.csv")
    current = training_digest(LOCK, "mnist")
    assert current == current_digest("mnist")
    results.write(tables.SEEDS, [row | {"training": current}])
    assert tables.over_seeds()["setting"].tolist() == ["mnist"]
    results.write(tables.SEEDS, [row | {"training": "0123456789ab"}])
    assert tables.over_seeds()["setting"].tolist() == ["mnist (outdated)"]


def test_the_digest_is_of_code_data_and_params(tmp_path):
    def lock(**changes):
        values = {"seed": 0, "threads": 0, "lr": 0.01, "precision": "auto", "mnist": {"filters": 32, "lr_factor": 1.0}}
        deps = [{"path": "data/prepared/mnist/train", "md5": "1.dir"}, {"path": "reprocnn/training", "md5": "2.dir"}]
        stage = {"cmd": "python", "deps": deps, "params": {"params.yaml": values}} | changes.pop("stage", {})
        stage["params"]["params.yaml"] |= changes
        write_json(tmp_path / "dvc.lock", {"stages": {"train_mnist": stage}})
        return tmp_path / "dvc.lock"

    digest = training_digest(lock(), "mnist")
    assert training_digest(lock(seed=3, threads=1, stage={"cmd": "another"}), "mnist") == digest
    assert training_digest(lock(lr=0.02), "mnist") != digest
    assert training_digest(lock(stage={"deps": [{"path": "reprocnn/training", "md5": "3.dir"}]}), "mnist") != digest
    other_data = [{"path": "data/prepared/mnist/train", "md5": "9.dir"}, {"path": "reprocnn/training", "md5": "2.dir"}]
    assert training_digest(lock(stage={"deps": other_data}), "mnist") != digest
    wide = training_digest(lock(mnist={"filters": 64, "lr_factor": 1.0}), "mnist")
    assert wide != digest
    # What a training of a setting gets is what is computed for it from the lock of the default.
    assert training_digest(lock(), "mnist", {"mnist.filters": 64}) == wide
    changed = training_digest(lock(precision="float32", mnist={"filters": 32, "lr_factor": 2.0}), "mnist")
    assert training_digest(lock(), "mnist", {"precision": "float32", "mnist.lr_factor": 2.0}) == changed


def test_each_setting_has_a_digest_of_its_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert len({current_digest(setting) for setting in SETTINGS}) == len(SETTINGS)


def test_rows_are_carried_over_only_for_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = {"weights": "a" * 64}
    write_json(Path("evaluation/mnist.json"), weights)
    monkeypatch.setattr(seeds, "git", lambda *arguments: json.dumps(weights))
    monkeypatch.setattr(seeds, "current_digest", lambda setting: f"new of {setting}")
    rows = [
        {"setting": setting, "seed": str(seed), "training": training}
        for setting, seed, training in (
            ("mnist", 0, "old"), ("mnist", 1, "older"), ("mnist-fast", 0, "old"), ("mnist", 2, "old"),
        )
    ]  # fmt: skip
    results.write(tables.SEEDS, rows)
    seeds.main(["mnist", "--carry-over", "old", "--before", "HEAD~1"])
    assert [row["training"] for row in results.read(tables.SEEDS)] == ["new of mnist", "older", "old", "new of mnist"]
    with pytest.raises(UserError, match="found no row of mnist with old"):
        seeds.main(["mnist", "--carry-over", "old"])
    before = tables.SEEDS.read_bytes()
    write_json(Path("evaluation/mnist.json"), {"weights": "b" * 64})
    with pytest.raises(UserError, match="expected the weights of HEAD, aaaaaaaaaaaa, got bbbbbbbbbbbb"):
        seeds.main(["mnist", "--carry-over", "older"])
    assert tables.SEEDS.read_bytes() == before


def test_formats_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    rows = [("keras", 0.98934, 0, 0.0, 8150, 169_400), ("onnx", 0.5, 3, 8.34e-07, 950, 1_000_600)]
    columns = ["format", "accuracy", "other classes", "largest difference", "images/s", "bytes"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "formats.csv", index=False)
    assert tables.formats().to_numpy().tolist() == [
        ["keras", "98.93%", 0, "0", "8,150", "169"],
        ["onnx", "50.00%", 3, "8e-07", "950", "1001"],
    ]


def test_pairs_of_seeds_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(Path("evaluation/mnist.json"), {"test": {"n": 100}})
    # Seed 0 is wrong on 0 to 9, seed 1 on 5 to 19: it lost 10 and won 5. Seed 2 is not asked for.
    rows = [("mnist", 0, i) for i in range(10)] + [("mnist", 1, i) for i in range(5, 20)] + [("mnist", 2, 0)]
    rows += [("mnist", 3, i) for i in range(6)]
    rows += [("cifar", 0, i) for i in range(50)]
    Path("mistakes.csv").write_text("setting,seed,index\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    monkeypatch.setattr(tables, "MISTAKES", Path("mistakes.csv"))
    drops, p, z = tables.compare_seeds("mnist", [0, 1])
    assert drops == [pytest.approx(0.05), pytest.approx(-0.05)]
    assert z == [pytest.approx(5 / 15**0.5), pytest.approx(-5 / 15**0.5)]
    assert p[0] == pytest.approx(4944 / 2**15)  # 10 or more of 15 by even chance: 3003 + 1365 + 455 + 105 + 15 + 1
    assert p[1] == pytest.approx(30827 / 2**15)  # 5 or more: all but 1 + 15 + 105 + 455 + 1365
    # Seed 3 is wrong on 0 to 5 alone: against seed 0 it won 4 and lost none.
    drops_of_better, p_of_better, z_of_better = tables.compare_seeds("mnist", [0, 3])
    assert drops_of_better == [pytest.approx(-0.04), pytest.approx(0.04)]
    assert p_of_better == pytest.approx([1, 1 / 16])
    assert z_of_better == [-2.0, 2.0]


def test_each_seed_of_the_table_has_its_mistakes():
    """The accuracies of seeds.csv, counted again from the list of wrong images."""
    mistakes = pd.read_csv(ROOT / tables.MISTAKES)
    for row in pd.read_csv(ROOT / tables.SEEDS).to_dict("records"):
        wrong = mistakes[(mistakes["setting"] == row["setting"]) & (mistakes["seed"] == row["seed"])]["index"]
        assert len(wrong) == wrong.nunique() == row["errors"]
        assert row["test_accuracy"] == pytest.approx(1 - row["errors"] / 10_000)


def trained_copy(folder: Path, *, val: bool = True) -> None:
    """Write what a training of MNIST leaves: three of eight test images wrong, whose numbers are not their places."""
    write_json(folder / "dvc.lock", {"stages": {"train_mnist": {"deps": [], "params": {"params.yaml": {"seed": 5}}}}})
    test = {"accuracy": 0.625, "accuracy_tta": 0.75, "errors": 3}
    metrics = {"test": test} | ({"val": {"accuracy": 0.875}} if val else {})
    write_json(folder / "metrics/mnist.json", {"mnist": metrics})
    training = {
        "epochs": 4, "seconds": 12.3456, "epoch_seconds": [9, 3], "peak_memory_bytes": 3 * 2**30 + 5,
        "python": "3.12.1",
        "versions": {"keras": "3.15", "numpy": "2.4"},
        "device": {"name": "a processor", "instructions": "", "threads": 2, "precision": "float32", "kind": "cpu"},
    }  # fmt: skip
    write_json(folder / "runs/train_mnist.json", training)
    predictions = pd.DataFrame({"y_true": [0, 1, 2, 3, 4, 5, 6, 7], "y_pred": [0, 2, 2, 3, 5, 5, 6, 0]})
    (folder / "plots/mnist").mkdir(parents=True)
    predictions.assign(index=range(10, 18), confidence=0.5).to_csv(folder / "plots/mnist/predictions.csv", index=False)


def test_a_training_becomes_its_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds, "total_flops", lambda copy, dataset: 7_891_234_567_890)
    trained_copy(Path("copy"))
    results.write(
        tables.SEEDS,
        [{"setting": "cifar", "seed": 0}, *({"setting": "mnist", "seed": seed, "epochs": 9} for seed in (5, 10))],
    )
    results.write(tables.MISTAKES, [{"setting": "mnist", "seed": 5, "index": 99},
                                    {"setting": "mnist", "seed": 4, "index": 7}])  # fmt: skip
    write_json(Path("copy") / results.WATCHED, {"epochs": [{"cpu_seconds": 4.5}, {"cpu_seconds": 23.9}]})
    row = seeds.record(Path("copy"), "mnist", 5)
    digest = training_digest(Path("copy/dvc.lock"), "mnist")
    assert row.pop("date") == results.today()
    assert row == {
        "setting": "mnist", "seed": 5, "val_accuracy": 0.875, "test_accuracy": 0.625, "test_accuracy_tta": 0.75,
        "errors": 3, "epochs": 4, "seconds": 12.3, "cpu_seconds": 24, "tflop": 7.89, "peak_memory_mib": 3072,
        "hardware": "a processor, 2 threads, float32", "versions": "keras 3.15, numpy 2.4", "python": "3.12.1",
        "training": digest,
    }  # fmt: skip
    # The row and the mistakes replace those of the same setting and seed; settings and seeds are in their order.
    assert [(one["setting"], one["seed"], one["epochs"]) for one in results.read(tables.SEEDS)] == [
        ("mnist", "5", "4"), ("mnist", "10", "9"), ("cifar", "0", ""),
    ]  # fmt: skip
    assert [(one["seed"], one["index"]) for one in results.read(tables.MISTAKES)] == [
        ("4", "7"), ("5", "11"), ("5", "14"), ("5", "17"),
    ]  # fmt: skip


def test_a_training_on_all_images_that_a_sweep_ran_has_no_validation_accuracy_and_no_cpu_seconds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds, "total_flops", lambda copy, dataset: 10**12)
    trained_copy(Path("copy"), val=False)
    row = seeds.record(Path("copy"), "mnist-fast", 1)
    assert row["val_accuracy"] is row["cpu_seconds"] is None
    assert results.read(tables.SEEDS)[0]["val_accuracy"] == ""


def test_operations_of_a_training_by_hand(tmp_path):
    """Three epochs of images that grow from 16 to 32 pixels; of 13 images the batches of 4 take 12."""
    recipe = params.load(ROOT / "params.yaml")["cifar"] | {
        "filters": 2, "depth": 1, "epochs": 3, "batch_size": 4, "first_size": 0.5, "train_on": "train+val",
    }  # fmt: skip
    write_json(tmp_path / "params.yaml", {"cifar": recipe})
    for part, n in (("train", 10), ("val", 3), ("test", 50)):
        (tmp_path / "data/prepared/cifar" / part).mkdir(parents=True)
        np.save(tmp_path / "data/prepared/cifar" / part / "x.npy", np.zeros((n, 32, 24, 3), np.uint8))
        np.save(tmp_path / "data/prepared/cifar" / part / "y.npy", np.zeros((n, 5), np.float32))

    def flops(height, width):
        model = build("cifar_cnn", (height, width, 3), 5, layers.Rescaling(1.0), filters=2, depth=1, kernel_size=3,
                      dropout=0.0)  # fmt: skip
        return training_flops(model)

    sizes = [image_size((32, 24), 0.5, epoch, 3) for epoch in range(3)]
    assert len(set(sizes)) > 1
    assert seeds.total_flops(tmp_path, "cifar") == 12 * sum(flops(*size) for size in sizes)


def test_a_sweep_becomes_rows(tmp_path, monkeypatch):
    """Those of its experiments that trained the setting and did not take it from the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "SEEDS", tmp_path / "seeds.csv")
    Path("data").mkdir()
    own = {"seed": 0, "threads": 0, "lr": 0.01, "mnist": {"epochs": 3}}
    experiments = {
        "another-lr": own | {"lr": 0.02}, "cached": own | {"seed": 3}, "other-stage": own | {"seed": 4},
        "seven": own | {"seed": 7, "threads": 1},
    }  # fmt: skip
    write_json(Path("params.yaml"), own)
    for name in ("another-lr", "seven"):
        write_json(Path(f"runs/sweep/{name}.json"), {"records": {"train_mnist": {"epochs": 3}}})
    write_json(Path("runs/sweep/other-stage.json"), {"records": {"train_cifar": {"epochs": 3}}})

    def git(command, *arguments):
        if command == "rev-parse":
            return "abcdef\n"
        if command == "for-each-ref":
            assert arguments[-1] == "refs/exps/ab/cdef"
            return "\n".join(f"refs/exps/ab/cdef/{name}" for name in experiments)
        ref, _, path = arguments[0].partition(":")
        return json.dumps(experiments[ref.rpartition("/")[2]]) if path == "params.yaml" else f"{ref} {path}"

    recorded = []

    def record(copy, setting, seed):
        texts = [
            (copy / path).read_text() for path in ("dvc.lock", "metrics/mnist.json", "plots/mnist/predictions.csv")
        ]
        recorded.append((setting, seed, json.loads((copy / "runs/train_mnist.json").read_text()), texts))

    monkeypatch.setattr(seeds, "git", git)
    monkeypatch.setattr(seeds, "record", record)
    seeds.main(["mnist", "--sweep"])
    ref = "refs/exps/ab/cdef/seven"
    files = [f"{ref} {path}" for path in ("dvc.lock", "metrics/mnist.json", "plots/mnist/predictions.csv")]
    assert recorded == [("mnist", 7, {"epochs": 3}, files)]


def test_each_seed_is_trained(monkeypatch):
    trained = []
    monkeypatch.setattr(seeds, "measure", lambda setting, seed: trained.append((setting, seed)))
    seeds.main(["cifar", "3"])
    assert trained == [("cifar", 0), ("cifar", 1), ("cifar", 2)]


def test_runs_of_one_setting_differ_in_seed_and_threads_alone():
    values = params.load(ROOT / "params.yaml")
    assert values.keys() - seeds._without_seed(values).keys() == {"seed", "threads"}
