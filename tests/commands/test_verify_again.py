"""Verifying on small repositories: the versions, what a second run changes, and what explains it."""

import base64
import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from reprocnn import cli
from reprocnn.commands import attestation, verify
from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from tests.support.commands import call, commit, save

NOISE = 1.96 * 0.02  # the standard deviation of 0.94 and 0.96 is 0.02 / √2
SAME: dict[str, Any] = {"differing": [], "reasons": []}
PAYLOAD = b"application/vnd.in-toto+json"
OUTS = {"train_mnist": ["models/mnist"], "evaluate_cifar": ["metrics/cifar.json", "evaluation/cifar.npz"]}


def details(**device: Any) -> dict[str, Any]:
    return {
        "device": {"kind": "cpu", "threads": 2} | device, "settings": {},
        "versions": {"numpy": version("numpy"), "dvc": version("dvc")}, "parameters": 7,
    }  # fmt: skip


def write(path: str, value: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with results and raw data, whose dvc.lock is taken for current."""
    folder = tmp_path / "small"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for check in ("faults", "damaged", "undeclared_code"):
        monkeypatch.setattr(lock, check, list)
    monkeypatch.setattr(verify, "unpinned_dependencies", list)
    monkeypatch.setattr(lock, "one_repository", contextlib.nullcontext)
    for name, accuracy in (("mnist", 0.95), ("cifar", 0.8)):
        write(f"evaluation/{name}.json", details())
        write(f"metrics/{name}.json", {name: {"test": {"accuracy": accuracy, "loss": 0.1}}})
    verify.SEEDS.parent.mkdir(parents=True)
    verify.SEEDS.write_text("setting,test_accuracy\nmnist,0.94\nmnist,0.96\nmnist-fast,0.5\ncifar,0.9\n")
    stages = {
        stage: {"outs": [{"path": path, "md5": f"{path} as committed"} for path in outs]}
        for stage, outs in OUTS.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    Path(".gitignore").write_text("/data\n")
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/images").write_text("as published")
    call(folder, "git", "init", "--quiet")
    save(folder)
    return folder


@pytest.fixture
def again(small: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Verify in full, where the pipeline does nothing but a `change` in the clone; give the calls of dvc."""

    def run(change: Callable[[], None], *more: str) -> list[str]:
        calls = []

        def dvc(*arguments: str, cwd: Path = Path()) -> None:
            calls.append(" ".join([*arguments, "in the clone" if cwd != Path() else "here"]))
            if cwd == Path():
                shutil.copytree(small.parent / "published", "data/raw")
                return
            assert (cwd / "data/raw/images").read_text() == "as published"
            assert (cwd / "dvc.lock").read_bytes() == (small / "dvc.lock").read_bytes()
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(cwd)
                change()

        monkeypatch.setattr(verify, "dvc", dvc)
        verify.main(["--full", *more])
        return calls

    return run


def other_output() -> None:
    text = Path("dvc.lock").read_text()
    assert "models/mnist as committed" in text
    Path("dvc.lock").write_text(text.replace("models/mnist as committed", "other bytes"))


def test_what_is_current_is_a_line_and_nothing_runs(small, monkeypatch, capsys):
    monkeypatch.setattr(verify, "dvc", lambda *_, **__: pytest.fail("dvc was called"))
    verify.main([])
    assert capsys.readouterr().out == (
        "verify: dvc.lock matches the code, the results match dvc.lock, the installed versions are those that trained\n"
    )


@pytest.mark.parametrize("stale", ["lock", "versions", "both"])
def test_whatever_is_stale_ends_the_command_with_1(small, monkeypatch, capsys, stale):
    expected = []
    if stale != "versions":
        monkeypatch.setattr(lock, "faults", lambda: ["dvc.lock: plot: out of date", "dvc.lock: prepare: missing"])
        expected = ["error: dvc.lock: plot: out of date", "error: dvc.lock: prepare: missing"]
    if stale != "lock":
        write("evaluation/cifar.json", details() | {"versions": {"numpy": "1.0"}})
        expected.append(
            f"error: evaluation/cifar.json: trained with numpy 1.0, installed is {version('numpy')}; "
            f"install the pinned versions with make, or train again with `dvc repro -f`"
        )
    assert ended(monkeypatch) == 1
    assert capsys.readouterr() == ("", "\n".join([*expected, ""]))


def ended(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr("sys.argv", ["reprocnn", "verify", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_a_check_that_cannot_start_ends_with_2(small, tmp_path, monkeypatch):
    assert ended(monkeypatch, "--full", "--attest", "nosuch.pem") == 2
    write("metrics/mnist.json", {})
    assert ended(monkeypatch, "--full") == 2  # uncommitted changes


def test_a_statement_that_is_refused_ends_with_1_and_none_with_2(small, keys, tmp_path, monkeypatch):
    attestation.write(Path("attestation.json"), keys[0], SAME)
    for file, public, code in (
        ("attestation.json", make_keys(tmp_path / "other.pem")[1], 1),
        ("attestation.json", Path("nosuch.pub"), 2),
        ("nosuch.json", keys[1], 2),
    ):
        assert ended(monkeypatch, "--attestation", file, "--key", str(public)) == code
    Path("dvc.lock").write_text(Path("dvc.lock").read_text() + "\n")
    assert ended(monkeypatch, "--attestation", "attestation.json", "--key", str(keys[1])) == 1


def test_a_fault_keeps_the_full_run_from_starting(small, monkeypatch):
    monkeypatch.setattr(lock, "faults", lambda: ["dvc.lock: plot: missing"])
    monkeypatch.setattr(verify, "verify_full", lambda: pytest.fail("the full run started"))
    with pytest.raises(UserError, match=r"^dvc\.lock: plot: missing$"):
        verify.main(["--full"])


def test_every_version_that_differs_is_a_line(small):
    assert verify.version_mismatches() == []
    write("evaluation/mnist.json", details() | {"versions": {"dvc": "1.0", "numpy": version("numpy"), "nosuch": "2"}})
    Path("evaluation/cifar.json").unlink()
    first, second, third = verify.version_mismatches()
    assert first.startswith(f"evaluation/mnist.json: trained with dvc 1.0, installed is {version('dvc')}; ")
    assert second.startswith("evaluation/mnist.json: trained with nosuch 2, installed is none; ")
    assert third.startswith("evaluation/cifar.json: missing; run `dvc repro`")


@pytest.mark.parametrize("content", [{}, [], {"versions": ["numpy"]}])
def test_details_without_versions_are_reported_in_a_line(small, content):
    write("evaluation/cifar.json", content)
    for read in (verify.version_mismatches, lambda: verify.environment(Path("evaluation/cifar.json"))):
        with pytest.raises(
            UserError, match=r"^evaluation/cifar\.json: \w+: found .*, expected keys with values; restore"
        ):
            read()


def test_the_lock_file_that_fits_counts_whichever_it_is(tmp_path, monkeypatch):
    """A name with a dot, which lock files write with a dash."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "direct_dependencies", lambda: {"ruamel.yaml"})
    locks = [Path("requirements.lock"), Path("requirements-gpu.lock")]
    for right, wrong in (locks, locks[::-1]):
        right.write_text(f"ruamel-yaml=={version('ruamel.yaml')}\n")
        wrong.write_text("ruamel-yaml==0.1\n")
        assert verify.unpinned_dependencies() == []
    wrong.replace(right)
    [line] = verify.unpinned_dependencies()
    assert line.startswith(f"{right}: the results were made with ruamel.yaml 0.1, installed is ")


def test_a_new_dvc_lock_is_of_the_versions_that_are_pinned_now(tmp_path, monkeypatch):
    """Until it is committed: git knows the lock file of the old one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "direct_dependencies", lambda: {"numpy"})
    pins = Path("requirements.lock")
    pins.write_text("numpy==0.1\n")
    Path("dvc.lock").write_text("old")
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "git", "add", "--all")
    commit(tmp_path)
    pins.write_text(f"numpy=={version('numpy')}\n")
    [line] = verify.unpinned_dependencies()
    assert line.startswith("requirements.lock: the results were made with numpy 0.1, installed is ")
    Path("dvc.lock").write_text("new")
    assert verify.unpinned_dependencies() == []


def test_in_full_the_published_files_are_run_in_a_clone(again, small, capsys):
    assert again(lambda: None) == ["repro --force in the clone"]
    assert capsys.readouterr().out.endswith("\nverify: every output is byte for byte the same\n")


def test_in_full_missing_data_is_downloaded_first(again, small):
    shutil.move("data/raw", small.parent / "published")
    assert again(lambda: None) == ["repro download here", "repro --force in the clone"]


def test_in_full_other_bytes_without_a_reason_are_a_fault(again, capsys):
    with pytest.raises(UserError, match=r"^models/mnist: other bytes from the same processor, threads"):
        again(other_output)
    assert "outputs that differ from dvc.lock:\n  models/mnist\n" in capsys.readouterr().out


def test_in_full_another_device_explains_other_bytes(again, capsys):
    def change() -> None:
        other_output()
        changed = details(threads=63, kind="gpu", name="H100")
        changed["settings"] = {"TF_ENABLE_ONEDNN_OPTS": "0"}
        changed["versions"].pop("dvc")
        write("evaluation/mnist.json", changed)

    again(change)
    printed = capsys.readouterr().out.splitlines()
    end = "; other bits are expected"
    assert [line for line in printed if line.endswith(end)] == [
        f"evaluation/mnist.json: device.kind: committed results cpu, this run gpu{end}",
        f"evaluation/mnist.json: device.threads: committed results 2, this run 63{end}",
        f"evaluation/mnist.json: versions.dvc: committed results {version('dvc')}, this run none{end}",
        f"evaluation/mnist.json: device.name: committed results none, this run H100{end}",
        f"evaluation/mnist.json: settings.TF_ENABLE_ONEDNN_OPTS: committed results none, this run 0{end}",
    ]


@pytest.mark.parametrize(("share", "explained"), [(0.99, True), (-0.99, True), (1.01, False), (-1.01, False)])
def test_in_full_seeds_explain_an_accuracy_up_to_their_noise(again, capsys, share, explained):
    accuracy = 0.95 + share * NOISE

    def change() -> None:
        other_output()
        write("evaluation/mnist.json", details(threads=63))
        write("metrics/mnist.json", {"mnist": {"test": {"accuracy": accuracy, "loss": 9.0}}})

    word = "within" if explained else "BEYOND"
    line = f"mnist.test.accuracy: 0.95 -> {accuracy}, {word} seed noise (two seeds differ by up to 0.0392)"
    if explained:
        again(change)
    else:
        with pytest.raises(UserError) as error:
            again(change)
        assert str(error.value) == line
    assert f"\n  {line}\n  mnist.test.loss: 0.1 -> 9.0\n" in capsys.readouterr().out


@pytest.mark.parametrize("staged", [False, True])
def test_in_full_uncommitted_changes_are_refused(again, small, staged):
    Path("untracked").touch()
    again(lambda: None)
    write("metrics/mnist.json", {})
    if staged:
        call(small, "git", "add", "metrics/mnist.json")
    with pytest.raises(UserError, match="commit them first"):
        again(lambda: None)


def test_in_full_missing_seeds_are_named_before_anything_runs(again, small):
    verify.SEEDS.unlink()
    commit(small)
    with pytest.raises(UserError, match=r"^benchmarks/results/seeds\.csv: missing; restore it"):
        again(lambda: pytest.fail("the pipeline ran"))


def test_outputs_differ_by_digest_or_by_being_there(small, tmp_path):
    other = tmp_path / "other.lock"
    stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    other.write_text(yaml.safe_dump({"stages": stages}))
    assert verify.different_outputs(Path("dvc.lock"), other) == []
    stages["evaluate_cifar"]["outs"][0]["md5"] = "others"
    stages["evaluate_cifar"]["outs"][1]["path"] = "evaluation/more.npz"
    other.write_text(yaml.safe_dump({"stages": stages}))
    changed = ["metrics/cifar.json", "evaluation/cifar.npz", "evaluation/more.npz"]
    assert sorted(verify.different_outputs(Path("dvc.lock"), other)) == sorted(changed)


def test_seed_noise_is_of_the_very_setting(small):
    assert verify.seed_noise("mnist") == pytest.approx(NOISE)
    verify.SEEDS.write_text("setting,test_accuracy\ncifar,0.90\ncifar,0.92\ncifar,0.97\nmnist,0.94\n")
    deviation = math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2)
    assert verify.seed_noise("cifar") == pytest.approx(1.96 * math.sqrt(2) * deviation)


def test_fewer_than_two_seeds_explain_nothing(small, capsys):
    assert verify.seed_noise("cifar") == 0
    assert verify.seed_noise("fashion") == 0
    [line] = verify.compare_metrics({"cifar": {"test": {"accuracy": 0.9}}}, {"cifar": {"test": {"accuracy": 0.91}}})
    assert line == "cifar.test.accuracy: 0.9 -> 0.91, BEYOND seed noise (two seeds differ by up to 0.0000)"
    assert capsys.readouterr().out == f"  {line}\n"


@pytest.mark.parametrize("value", [None, True, "0.95", math.nan])
def test_no_noise_explains_an_accuracy_that_is_missing_or_no_share(small, value):
    metrics = {"mnist": {"test": {"accuracy": 0.95}}}
    odd = {"mnist": {"test": {"accuracy": value} if value is not None else {}}}
    for before, after in ((metrics, odd), (odd, metrics)):
        [line] = verify.compare_metrics(before, after)
        assert f"{value}" in line
        assert "BEYOND seed noise" in line


def test_only_test_accuracies_are_judged_and_only_changes_printed(small, capsys):
    before = {"cifar": {"val": {"accuracy": 0.9}, "test": {"accuracy": 0.5, "loss": 1}, "n": 3}}
    after = {"cifar": {"val": {"accuracy": 0.1}, "test": {"accuracy": 0.5, "loss": 7}, "extra": 1}}
    assert verify.compare_metrics(before, after) == []
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "  cifar.extra: None -> 1", "  cifar.n: 3 -> None", "  cifar.test.loss: 1 -> 7",
        "  cifar.val.accuracy: 0.9 -> 0.1",
    ]  # fmt: skip


def test_metrics_are_merged_from_their_files(small):
    assert verify.read_metrics(small) == {
        "mnist": {"test": {"accuracy": 0.95, "loss": 0.1}}, "cifar": {"test": {"accuracy": 0.8, "loss": 0.1}},
    }  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and its public one, in PEM."""
    return make_keys(tmp_path / "key.pem")


def make_keys(path: Path) -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public = path.with_suffix(".pub")
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path, public


def attested(again: Callable[..., list[str]], key: Path, change: Callable[[], None] = lambda: None) -> dict[str, Any]:
    again(change, "--attest", str(key))
    return json.loads(Path("attestation.json").read_text())


def check(public: Path) -> None:
    verify.main(["--attestation", "attestation.json", "--key", str(public)])


def test_a_full_run_is_attested_and_the_statement_checked(again, keys, capsys):
    key, public = keys
    envelope = attested(again, key)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert (statement["_type"], statement["predicate"]["result"]) == ("https://in-toto.io/Statement/v1", "PASSED")
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    [subject] = statement["subject"]
    assert subject["digest"]["sha256"] == hashlib.sha256(Path("dvc.lock").read_bytes()).hexdigest()
    assert subject["digest"]["gitCommit"] == call(Path(), "git", "rev-parse", "HEAD").strip()
    assert statement["predicate"]["environment"]["mnist"]["device.threads"] == 2
    # As DSSE has it, computed another way: the text that is signed.
    body = base64.b64decode(envelope["payload"])
    text = b" ".join([b"DSSEv1", b"28", b"application/vnd.in-toto+json", str(len(body)).encode(), body])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    owner = serialization.load_pem_public_key(public.read_bytes())
    assert isinstance(owner, ed25519.Ed25519PublicKey)
    owner.verify(signature, text)
    raw = owner.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert envelope["signatures"][0]["keyid"] == hashlib.sha256(raw).hexdigest()[:16]
    write("later.json", {})
    call(Path(), "git", "add", "later.json")
    commit(Path())  # which leaves dvc.lock alone
    capsys.readouterr()
    check(public)
    assert capsys.readouterr().out.endswith("owner of the key:\n  every output is byte for byte the same\n")


def test_what_differed_for_a_reason_is_attested_as_such(again, keys, capsys):
    def change() -> None:
        other_output()
        write("evaluation/mnist.json", details(threads=4))

    attested(again, keys[0], change)
    capsys.readouterr()
    check(keys[1])
    out = capsys.readouterr().out
    assert "models/mnist: other bytes" in out
    assert "device.threads: committed results 2, this run 4" in out


def test_a_run_that_failed_is_not_attested(again, keys):
    with pytest.raises(UserError):
        again(other_output, "--attest", str(keys[0]))
    assert not Path("attestation.json").exists()


def forge(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Change the statement and leave the signature."""

    def change(envelope: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        statement["predicate"] |= fields
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    return change


@pytest.mark.parametrize(
    "change",
    [
        forge(result="FAILED"), forge(differing=["models/mnist"]), forge(reasons=["x"]), forge(environment={}),
        lambda envelope: envelope.update(payloadType="text/plain"),
        lambda envelope: envelope.update(signatures=[]),
        lambda envelope: envelope["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode()),
        lambda envelope: envelope["signatures"][0].update(sig="?"),
        lambda envelope: envelope.update(signatures=None),
        lambda envelope: envelope.pop("payload"),
    ],
)  # fmt: skip
def test_a_changed_statement_is_refused(again, keys, change):
    envelope = attested(again, keys[0])
    change(envelope)
    write("attestation.json", envelope)
    with pytest.raises(UserError, match=r"^attestation\.json: (not signed by|expected a DSSE envelope)"):
        check(keys[1])


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"payload": 1}', "\udcff"])
def test_a_file_that_is_no_statement_is_refused(small, keys, text):
    Path("attestation.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"^attestation\.json: expected a DSSE envelope"):
        check(keys[1])


def test_a_signed_statement_of_something_else_is_refused(small, keys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(attestation, "PREDICATE", "https://in-toto.io/attestation/vulns/v0.1")
        attestation.write(Path("attestation.json"), keys[0], SAME)
    with pytest.raises(UserError, match="expected a statement of"):
        check(keys[1])


def sign(statement: bytes, key: Path) -> None:
    """Write an envelope whose signature is right, whatever is in it."""
    signature = attestation.private_key(key).sign(b"DSSEv1 28 %s %d %s" % (PAYLOAD, len(statement), statement))
    body, sig = (base64.b64encode(part).decode() for part in (statement, signature))
    write("attestation.json", {"payloadType": PAYLOAD.decode(), "payload": body, "signatures": [{"sig": sig}]})


@pytest.mark.parametrize(
    "change",
    [
        {"subject": []}, {"subject": None}, {"subject": [{}]}, {"subject": [{"digest": {"sha256": "x"}}]},
        {"subject": [{"digest": {"sha256": "x", "gitCommit": 5}}]},
        {"predicate": None}, {"predicate": {"result": "PASSED"}},
        {"predicate": {"result": "PASSED", "differing": "no", "reasons": []}},
        {"predicate": {"result": "PASSED", "differing": [1], "reasons": []}},
        {"_type": None}, {"predicateType": ["x"]},
        *(b"[]", b"{", b"null", b"\xff", b"[" * 100_000),
    ],
)  # fmt: skip
def test_a_signed_statement_of_another_shape_is_refused(small, keys, change):
    attestation.write(Path("attestation.json"), keys[0], SAME)
    check(keys[1])
    statement = json.loads(base64.b64decode(json.loads(Path("attestation.json").read_text())["payload"]))
    sign(change if isinstance(change, bytes) else json.dumps(statement | change).encode(), keys[0])
    with pytest.raises(UserError, match=r"^attestation\.json: expected a statement of .* as `--attest` writes it"):
        check(keys[1])


def test_a_signed_name_of_a_commit_is_of_no_history(small, keys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(attestation, "git", lambda *command: "HEAD\n")
        attestation.write(Path("attestation.json"), keys[0], SAME)
    with pytest.raises(UserError, match="signed for commit HEAD, which is not in the history"):
        check(keys[1])


def test_a_signed_failure_is_refused(small, keys):
    attestation.write(Path("attestation.json"), keys[0], SAME | {"result": "FAILED"})
    with pytest.raises(UserError, match="its result is FAILED, expected PASSED"):
        check(keys[1])


def test_a_statement_is_of_one_key_one_lock_and_one_history(again, keys, tmp_path):
    envelope = attested(again, keys[0])
    with pytest.raises(UserError, match="not signed by"):
        check(make_keys(tmp_path / "other.pem")[1])
    # Signed by the owner, of another commit.
    call(Path(), "git", "commit", "--quiet", "--amend", "--allow-empty", "--message=Another history")
    with pytest.raises(UserError, match="not in the history of HEAD"):
        check(keys[1])
    Path("dvc.lock").write_text(Path("dvc.lock").read_text() + "\n")
    with pytest.raises(UserError, match=r"signed for another dvc\.lock"):
        check(keys[1])
    assert envelope == json.loads(Path("attestation.json").read_text())


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----", None], ids=["empty", "cut", "missing"])
@pytest.mark.parametrize("which", ["private", "public"])
def test_a_key_of_no_use_is_refused_before_anything_runs(small, tmp_path, monkeypatch, content, which):
    monkeypatch.setattr(verify, "verify_full", lambda: pytest.fail("the full run started"))
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    options = {"private": ["--full", "--attest"], "public": ["--attestation", "attestation.json", "--key"]}[which]
    with pytest.raises(UserError, match=f"key: expected an unencrypted Ed25519 {which} key in PEM, found .*openssl"):
        verify.main([*options, str(path)])


def test_a_key_of_another_kind_is_refused(small, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "key").write_bytes(pem)
    with pytest.raises(UserError, match="Ed25519 private key in PEM, found ECPrivateKey"):
        verify.main(["--full", "--attest", str(tmp_path / "key")])


@pytest.mark.parametrize("arguments", [["--attest", "k"], ["--attestation", "f"], ["--key", "k"]])
def test_options_of_attestations_go_together(small, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        verify.main(arguments)
    assert ended.value.code == 2
    assert "go" in capsys.readouterr().err
