"""Open a DVC repository without trusting it: a pull request may put other bytes in its cache or name any server."""

import os
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.data_cloud import DataCloud
from dvc.dirs import site_cache_dir
from dvc.fs import FileSystem, LocalFileSystem, localfs
from dvc.repo import Repo
from dvc.repo.index import Index
from dvc_data.hashfile.hash import file_md5
from dvc_data.index.index import StorageInfo
from dvc_objects.fs import known_implementations
from scmrepo.git.lfs import LFSStorage

from reprocnn.core.errors import UserError


class ClosedRepo(Repo):
    """Read results from git and from the cache alone, and of the cache only what has the digest of dvc.lock."""

    def __init__(self, folder: Path) -> None:
        """Open the repository around a folder."""
        # Not where the checkout's .dvc/config may say: what DVC has there are pickles, and digests that it believes.
        super().__init__(str(folder), config={"core": {"site_cache_dir": site_cache_dir()}})
        self.cloud = _NoCloud(self)
        LFSStorage.fetch = _no_server  # type: ignore[method-assign]
        for entry in known_implementations.values():
            if find_spec(entry["class"].partition(".")[0]) is None:
                entry["class"] = f"{__name__}.{Server.__name__}"
        for _, objects in self.cache.by_scheme():
            if objects is not None:
                objects.fs = _Checked(objects.hash_name)

    @cached_property
    def index(self) -> Index:
        """Read dvc.yaml, dvc.lock and .dvc files."""
        return _CacheAlone.from_repo(self)


def _no_server(*_: Any, **__: Any) -> None:
    """Take the place of Git LFS, for which .lfsconfig may name any server, and which checks nothing that this sends."""
    raise ConnectionRefusedError("no server is asked")


class Server(FileSystem):
    """Stand for a server whose library is not installed: of what is there, only dvc.lock is read."""

    protocol = "server"
    PARAM_CHECKSUM = "etag"


class _NoCloud(DataCloud):
    """Know of no remotes, which DVC would ask for what the cache lacks."""

    def get_remote(self, *arguments: Any, **options: Any) -> Any:
        """Raise NoRemoteError."""
        raise NoRemoteError("no remote is asked")


class _CacheAlone(Index):
    """Know of no addresses of imports either."""

    @cached_property
    def data(self) -> dict[str, Any]:
        """Return what DVC keeps, and where that is."""
        found: dict[str, Any] = super().data
        for one in found.values():
            for key, storage in list(one.storage_map.items()):
                one.storage_map[key] = StorageInfo(cache=storage.cache)
        return found


class _Checked(LocalFileSystem):
    """Open only files with the digest in their name, which is that of dvc.lock: DVC itself trusts what is there."""

    def __init__(self, algorithm: str) -> None:
        super().__init__()
        self._algorithm = algorithm

    def open(self, path: str, mode: str = "r", **options: Any) -> Any:
        """Open a file to read. Raises UserError if it has other bytes than its name says."""
        expected = "".join(Path(path).parts[-2:])
        found = file_md5(path, localfs, name=self._algorithm)
        if found != expected.removesuffix(".dir"):
            raise UserError(
                f"{os.path.relpath(path)}: in DVC's cache, expected the MD5 {expected}, found {found}; delete it, then "
                f"run `dvc fetch --all-commits`"
            )
        return super().open(path, mode, **options)
