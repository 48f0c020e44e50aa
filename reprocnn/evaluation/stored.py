"""Compare what DVC keeps with dvc.lock: DVC itself trusts its cache."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from reprocnn.core import params
from reprocnn.core.errors import UserError

LOCK = Path("dvc.lock")


def check(folder: Path) -> None:
    """Raise UserError if models/NAME is not what the training wrote, with a line for each file.

    Checks only in a stage that dvc started: dvc.lock then has the training that this stage follows. For a stage started
    by hand, it may have an earlier one.
    """
    recorded = _recorded(folder) if "DVC_STAGE" in os.environ else None
    if recorded is None:
        return
    files = [{"md5": _md5(path), "relpath": path.name} for path in sorted(folder.iterdir()) if path.is_file()]
    if hashlib.md5(json.dumps(files).encode(), usedforsecurity=False).hexdigest() == recorded.removesuffix(".dir"):
        return
    shown = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True).stdout
    cache = Path(shown.strip(), "files/md5")
    try:
        listed = json.loads((cache / recorded[:2] / recorded[2:]).read_text(encoding="utf-8"))
        places = {folder / one["relpath"]: (cache / one["md5"][:2] / one["md5"][2:], one["md5"]) for one in listed}
    except (OSError, ValueError, LookupError, TypeError):  # DVC has not got what the training wrote
        raise UserError(
            f"{folder}: other files than {LOCK} has: stale, damaged or edited; delete it, then run `dvc pull` or "
            f"`dvc repro`"
        ) from None
    lines = [line for path, expected in places.items() if (line := fault(path, *expected))]
    lines += [unexpected(path) for path in sorted(folder.iterdir()) if path not in places]
    raise UserError("\n".join(lines))


def fault(path: Path, cached: Path, digest: str) -> str | None:
    """Return a line if the bytes of a file are not those with this MD5 `digest`, which DVC's cache has at `cached`."""
    if path.is_file() and _md5(path) == digest:
        return None
    wrong = [path] * path.is_file()
    restore = "run `dvc checkout`"
    if not cached.is_file() or _md5(cached) != digest:
        wrong += [cached] * cached.is_file()
        restore = "run `dvc pull` or `dvc repro`"
    found = "other bytes than dvc.lock has: stale, damaged or edited" if path.is_file() else "missing, but in dvc.lock"
    delete = f"delete {' and '.join(map(os.path.relpath, wrong))}, then " if wrong else ""
    return f"{os.path.relpath(path)}: {found}; {delete}{restore}"


def unexpected(path: Path) -> str:
    """Return the line for a file that dvc.lock does not have."""
    return f"{os.path.relpath(path)}: not in dvc.lock; delete it"


def _recorded(folder: Path) -> str | None:
    """Read the digest of the folder that dvc.lock has, None where there is none."""
    try:
        outs = params.load(LOCK)["stages"][f"train_{folder.name}"]["outs"]
        return next((str(out["md5"]) for out in outs if out["path"] == folder.as_posix()), None)
    except (UserError, LookupError, TypeError):
        return None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
