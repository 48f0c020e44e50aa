"""A signed statement that somebody ran the pipeline again: in-toto's test result in a DSSE envelope, keys offline.

https://github.com/in-toto/attestation, spec/v1 and spec/predicates/test-result.md; https://github.com/secure-systems-lab/dsse
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256, write_json
from reprocnn.repository import git

LOCK = Path("dvc.lock")
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD = "application/vnd.in-toto+json"


class RefusedError(UserError):
    """A judgement; any other UserError means that there is none."""

    exit_code = 1


def write(path: Path, key: Path, outcome: dict[str, Any]) -> None:
    """Sign, with the Ed25519 private key in the PEM file `key`, that dvc.lock of HEAD was made again with `outcome`.

    Raises UserError if the key is unusable.
    """
    private = private_key(key)
    digests = {"sha256": sha256(LOCK), "gitCommit": git("rev-parse", "HEAD").strip()}
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": LOCK.name, "digest": digests}],
        "predicateType": PREDICATE,
        "predicate": {"result": "PASSED", "configuration": [{"name": LOCK.name}], **outcome},
    }
    body = json.dumps(statement, ensure_ascii=False, allow_nan=False).encode()
    signature = {"keyid": key_id(private.public_key()), "sig": _encode(private.sign(_authenticated(body)))}
    write_json(path, {"payloadType": PAYLOAD, "payload": _encode(body), "signatures": [signature]})


def check(path: Path, key: Path) -> dict[str, Any]:
    """Return the predicate of a statement that the Ed25519 public key in the PEM file `key` signed for this dvc.lock.

    Raises RefusedError, naming what is wrong, for another key, a changed statement, another dvc.lock or history, and
    UserError if a file cannot be read.
    """
    public = _public_key(key)
    try:
        envelope = json.loads(path.read_text(encoding="utf-8"))
        body = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        kind = envelope["payloadType"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: expected a DSSE envelope, found {type(error).__name__}: {error}") from None
    if kind != PAYLOAD or not any(_is_signed(public, signature, body) for signature in signatures):
        raise RefusedError(f"{path}: not signed by {key} ({key_id(public)}), or changed since; do not trust it")
    match _statement(body):  # from here on it is what the owner of the key wrote
        case {
            "_type": kind,
            "predicateType": about,
            "subject": [{"digest": {"sha256": digest, "gitCommit": str(commit)}}],
            "predicate": {"result": result, "differing": [*differing], "reasons": [*reasons]} as predicate,
        } if (kind, about) == (STATEMENT, PREDICATE) and all(isinstance(line, str) for line in differing + reasons):
            pass
        case _:
            raise RefusedError(f"{path}: expected a statement of {PREDICATE} as `--attest` writes it; attest again")
    if digest != sha256(LOCK):
        raise RefusedError(f"{path}: signed for another {LOCK}; check out {commit}, or attest this one")
    if not _is_ancestor(commit):
        raise RefusedError(f"{path}: signed for commit {commit}, which is not in the history of HEAD")
    if result != "PASSED":
        raise RefusedError(f"{path}: its result is {result}, expected PASSED")
    return predicate


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read an unencrypted Ed25519 private key from a PEM file. Raises UserError if it is none."""
    how = "openssl genpkey -algorithm ed25519 -out FILE"
    load = partial(serialization.load_pem_private_key, password=None)
    return _read_key(path, Ed25519PrivateKey, load, "private", how)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the start of a public key's SHA-256."""
    return hashlib.sha256(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)).hexdigest()[:16]


def _public_key(path: Path) -> Ed25519PublicKey:
    how = "openssl pkey -in KEY -pubout -out FILE"
    return _read_key(path, Ed25519PublicKey, serialization.load_pem_public_key, "public", how)


def _read_key(path: Path, kind: Any, load: Callable[[bytes], Any], name: str, how: str) -> Any:
    try:
        key = load(path.read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        key = error
    if isinstance(key, kind):
        return key
    found = key if isinstance(key, Exception) else type(key).__name__
    raise UserError(f"{path}: expected an unencrypted Ed25519 {name} key in PEM, found {found}; make one with `{how}`")


def _authenticated(body: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD), PAYLOAD.encode(), len(body), body)


def _is_signed(key: Ed25519PublicKey, signature: bytes, body: bytes) -> bool:
    try:
        key.verify(signature, _authenticated(body))
    except InvalidSignature:
        return False
    return True


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _statement(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _is_ancestor(commit: str) -> bool:
    if not re.fullmatch("[0-9a-f]{40,64}", commit):
        return False  # a name, such as HEAD, is of any history
    try:
        git("merge-base", "--is-ancestor", commit, "HEAD")
    except UserError:
        return False
    return True
