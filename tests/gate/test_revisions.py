"""Which revision a result is compared with, in the clones that people and CI services make. Never with itself."""

import contextlib
import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reprocnn.core.errors import UserError
from reprocnn.gate.revisions import choose_base, default_revision, new_folder

IDENTITY = {f"GIT_{who}_{what}": "a@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(*arguments: str) -> str:
    env = os.environ | IDENTITY | {"GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, env=env).stdout.strip()


def add(text: str) -> str:
    """Commit another dvc.lock, and give the commit."""
    Path("dvc.lock").write_text(text)
    git("add", "--all")
    git("commit", "--quiet", "--message", text)
    return git("rev-parse", "HEAD")


@pytest.fixture(params=["main", "stable"])
def branch(request):
    return request.param


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Make, once for a name of the main branch, what each test has a copy of."""

    @functools.cache
    def make(branch: str) -> Path:
        folder = tmp_path_factory.mktemp("original")
        with contextlib.chdir(folder):
            git("init", "--quiet", f"--initial-branch={branch}")
            add("first")
            git("switch", "--quiet", "--create", "feature")
            add("a feature")
            add("more of it")
            git("switch", "--quiet", branch)
            add("second")
        return folder

    return make


@pytest.fixture
def forge(originals, tmp_path, monkeypatch, branch):
    """A repository with two commits on the main branch and two on `feature`, which begins at the first."""
    folder = tmp_path / "forge"
    shutil.copytree(originals(branch), folder)
    monkeypatch.chdir(folder)
    return folder


def clone(forge: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    git("clone", "--quiet", *options, f"file://{forge}", str(forge.parent / "clone"))
    monkeypatch.chdir(forge.parent / "clone")


def test_a_feature_is_compared_with_where_it_began(forge, monkeypatch, branch):
    first = git("rev-parse", f"{branch}~")
    clone(forge, monkeypatch)
    git("switch", "--quiet", "feature")
    assert default_revision() == first
    git("switch", "--quiet", "--detach")
    assert default_revision() == first
    Path("dvc.lock").write_text("uncommitted")
    assert default_revision() == first
    git("remote", "set-head", "origin", "--delete")  # as in the checkouts of CI services
    git("branch", "--delete", "--force", branch)
    if branch == "main":
        assert default_revision() == first
    else:
        with pytest.raises(UserError, match="no main branch found"):
            default_revision()


def test_a_tag_with_the_name_of_a_branch_changes_nothing(forge, monkeypatch, branch):
    clone(forge, monkeypatch)
    before = git("rev-parse", "HEAD~")
    for tag in (branch, f"origin/{branch}", "HEAD"):
        git("tag", tag, "origin/feature")
    assert default_revision() == before
    git("remote", "remove", "origin")
    assert default_revision() == before
    with pytest.raises(UserError, match=f"^{branch}: both refs/tags and refs/heads have it; name one in full"):
        choose_base(branch)
    assert choose_base("refs/tags/HEAD") == "refs/tags/HEAD"


def test_on_the_main_branch_it_is_the_first_parent(forge, monkeypatch, branch):
    clone(forge, monkeypatch)
    assert default_revision() == git("rev-parse", "HEAD~")
    git("switch", "--quiet", "--detach")
    assert default_revision() == git("rev-parse", "HEAD~")
    git("switch", "--quiet", branch)
    git("merge", "--quiet", "--strategy=ours", "--no-edit", "origin/feature")
    assert default_revision() == git("rev-parse", "HEAD^1") == git("rev-parse", f"origin/{branch}")
    git("push", "--quiet", "origin", f"HEAD:refs/heads/pushed-{branch}")
    assert default_revision() == git("rev-parse", "HEAD^1")
    Path("dvc.lock").write_text("uncommitted")
    assert default_revision() == "HEAD"


def test_the_fresher_of_the_local_and_the_remote_branch_counts(forge, monkeypatch, branch):
    clone(forge, monkeypatch)
    git("switch", "--quiet", "--create", "work")
    add("work")
    assert default_revision() == git("rev-parse", f"origin/{branch}")
    git("branch", "--force", branch, f"{branch}~")  # nobody pulled
    assert default_revision() == git("rev-parse", f"origin/{branch}")
    git("branch", "--force", branch, "work")  # nobody pushed
    ahead = git("rev-parse", "work")
    add("more work")
    assert default_revision() == ahead


@pytest.mark.parametrize("variable", ["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"])
def test_the_services_target_branch_comes_first(forge, monkeypatch, branch, variable):
    git("branch", "release", "feature~")
    clone(forge, monkeypatch)
    git("switch", "--quiet", "--detach", "origin/feature")
    monkeypatch.setenv(variable, "release")
    assert default_revision() == git("rev-parse", "origin/release")
    monkeypatch.setenv(variable, "nosuch")
    with pytest.raises(UserError, match=r"the branch nosuch is not in this clone.*fetch-depth: 0"):
        default_revision()
    monkeypatch.setenv(variable, "")
    assert default_revision() != git("rev-parse", "origin/release")


def test_gitlabs_default_branch_counts_where_the_clone_names_none(forge, monkeypatch, branch):
    git("branch", "trunk", "feature~")
    monkeypatch.setenv("CI_COMMIT_BRANCH", "feature")
    git("switch", "--quiet", "--detach", "feature")
    add("still more")
    monkeypatch.setenv("CI_DEFAULT_BRANCH", "trunk")
    assert default_revision() == git("rev-parse", "trunk")
    clone(forge, monkeypatch)  # whose remote says which it is
    git("switch", "--quiet", "--detach", "origin/feature")
    git("remote", "set-head", "origin", branch)
    assert default_revision() == git("rev-parse", "origin/feature~2")


def test_a_default_branch_may_have_a_slash(forge, monkeypatch):
    git("branch", "release/2.0", "feature~")
    clone(forge, monkeypatch)
    git("remote", "set-head", "origin", "release/2.0")
    git("switch", "--quiet", "--detach", "origin/feature")
    assert default_revision() == git("rev-parse", "origin/release/2.0")


def test_of_several_remotes_origin_counts(forge, monkeypatch, branch):
    clone(forge, monkeypatch)
    git("remote", "add", "a-fork", f"file://{forge}")
    git("fetch", "--quiet", "a-fork")
    git("switch", "--quiet", "--detach", "origin/feature")
    expected = default_revision()
    git("branch", "--delete", "--force", branch)
    git("update-ref", f"refs/remotes/a-fork/{branch}", "origin/feature~")
    git("remote", "set-head", "a-fork", branch)
    assert default_revision() == expected == git("rev-parse", "origin/feature~2")


def test_a_fork_whose_branch_has_the_name_of_the_target_is_not_compared_with_itself(forge, monkeypatch, branch):
    clone(forge, monkeypatch)
    base = git("rev-parse", "HEAD")
    add("a fork's work on its own main branch")
    monkeypatch.setenv("GITHUB_BASE_REF", branch)
    assert default_revision() == base
    git("switch", "--quiet", "--detach", f"origin/{branch}")
    git("branch", "--force", branch, "HEAD")
    with pytest.raises(UserError, match="no result is compared with itself"):
        default_revision()


@pytest.mark.parametrize("options", [["--depth=1"], ["--depth=1", "--no-single-branch"], ["--single-branch"]])
@pytest.mark.parametrize("head", ["feature", "main branch"])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("service", [False, True])
def test_without_the_history_it_says_how_to_fetch_it(forge, monkeypatch, branch, options, head, detached, service):
    on_main = head == "main branch"
    name = branch if on_main else "feature"
    clone(forge, monkeypatch, *options, f"--branch={name}")
    if detached:
        git("switch", "--quiet", "--detach")
    if service:
        monkeypatch.setenv("GITHUB_BASE_REF", branch)
    if on_main and options == ["--single-branch"] and not service:
        assert default_revision() == git("rev-parse", "HEAD~")  # all of its history is there
        return
    with pytest.raises(UserError, match=r"fetch-depth: 0|compared with itself"):
        default_revision()


def test_the_checkout_of_a_pull_request_at_depth_one(forge, monkeypatch, branch):
    """As actions/checkout makes it: no branch at all, HEAD at a merge that only refs/remotes/pull knows."""
    folder = forge.parent / "runner"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch=unborn")
    git("remote", "add", "origin", f"file://{forge}")
    git("fetch", "--quiet", "--depth=1", "origin", "+refs/heads/feature:refs/remotes/pull/7/merge")
    git("checkout", "--quiet", "--detach", "refs/remotes/pull/7/merge")
    for value in (branch, ""):
        monkeypatch.setenv("GITHUB_BASE_REF", value)
        with pytest.raises(UserError, match="fetch-depth: 0"):
            default_revision()
    git("fetch", "--quiet", "--unshallow", "origin", "+refs/heads/*:refs/remotes/origin/*")
    monkeypatch.setenv("GITHUB_BASE_REF", branch)
    assert default_revision() == git("rev-parse", f"origin/{branch}~")


def test_the_first_commit_of_all_has_nothing_before_it(tmp_path, monkeypatch, branch):
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", f"--initial-branch={branch}")
    assert default_revision() is None
    first = add("first\n\nparent of all that comes")  # as a commit names its parents
    assert default_revision() is None
    git("switch", "--quiet", "--create", "feature")
    add("second")
    if branch == "stable":  # which of the two is the main one?
        with pytest.raises(UserError, match=r"no main branch found .*compare with; name one with --against$"):
            default_revision()
        for name in ("master", "trunk"):
            git("branch", "--move", branch, name)
            branch = name
            assert default_revision() == first
    else:
        assert default_revision() == first


@pytest.mark.parametrize("behind", ["", "~"])
def test_a_branch_without_a_commit_of_its_own_is_compared_with_head(forge, monkeypatch, branch, behind):
    """As before its first commit, where a hook runs the gate."""
    clone(forge, monkeypatch)
    git("switch", "--quiet", "--create", "new", f"{branch}{behind}")
    head = git("rev-parse", "HEAD")
    assert default_revision() == head
    Path("README").write_text("nothing that is judged")
    git("add", "README")
    assert default_revision() == head
    Path("dvc.lock").write_text("uncommitted")
    assert default_revision() == "HEAD"


def test_what_the_local_main_branch_alone_has_is_judged(forge, monkeypatch, branch):
    clone(forge, monkeypatch)
    pushed = git("rev-parse", "HEAD")
    add("merged and not pushed")
    git("switch", "--quiet", "--create", "new")
    assert default_revision() == pushed


def test_a_branch_without_a_commit_of_its_own_needs_the_whole_history(forge, monkeypatch, branch):
    clone(forge, monkeypatch, "--depth=1")
    git("switch", "--quiet", "--create", "new")
    with pytest.raises(UserError, match=r"compared with itself.*fetch-depth: 0"):
        default_revision()
    git("fetch", "--quiet", "--unshallow")
    assert default_revision() == git("rev-parse", "HEAD")
    monkeypatch.setenv("GITHUB_BASE_REF", branch)  # the pull request of nothing
    with pytest.raises(UserError, match="compared with itself"):
        default_revision()


@pytest.mark.parametrize("rev", ["", " ", "workspace", " workspace", "a\0b", "a\nb", "\udcff", "^HEAD", ":/s"])
def test_a_revision_that_is_the_workspace_is_refused(forge, monkeypatch, rev):
    with pytest.raises(UserError, match="expected a revision"):
        choose_base(rev)


@pytest.mark.parametrize("rev", ["HEAD", "HEAD^0", "@", "SAME", "COMMIT", "TAG"])
def test_head_by_any_name_is_refused_unless_something_changed(forge, monkeypatch, rev, branch):
    git("config", "status.showUntrackedFiles", "no")  # as a user may have it: new files count all the same
    git("tag", "TAG")
    rev = {"SAME": branch, "COMMIT": git("rev-parse", "HEAD")}.get(rev, rev)
    Path("notes").write_text("no result")
    with pytest.raises(UserError, match=r"is the commit of HEAD.*--against"):
        choose_base(rev)
    for name in ("dvc.lock", "params.yaml", "below/dvc.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("changed")
        assert choose_base(rev) == rev
        git("stash", "--quiet", "--include-untracked")
    assert choose_base("HEAD~") == "HEAD~"


def test_an_experiment_that_is_head_is_head(forge):
    head = git("rev-parse", "HEAD")
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/same", "HEAD")
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    with pytest.raises(UserError, match="same is the commit of HEAD"):
        choose_base("same")
    with pytest.raises(UserError, match="no such revision"):
        choose_base("x" * 5000)  # no name of a file


@pytest.mark.parametrize("rev", ["nosuch", "-h", "--all", "HEAD:dvc.lock", "HEAD~9", "0" * 40, "a b", "$(id)"])
def test_an_unknown_revision_is_refused(forge, rev):
    with pytest.raises(UserError, match="no such revision"):
        choose_base(rev)


def test_a_target_branch_that_is_empty_is_none(forge, monkeypatch):
    """As GitHub has it where a commit is pushed."""
    clone(forge, monkeypatch)
    monkeypatch.setenv("GITHUB_BASE_REF", "")
    assert default_revision() == git("rev-parse", "HEAD~")


@pytest.mark.parametrize("name", ["dvc.lock", "params.yaml"])
def test_what_is_judged_counts_in_a_folder_too(forge, name):
    Path("below").mkdir()
    Path("below", name).write_text("changed")
    assert choose_base("HEAD") == "HEAD"


def test_a_tag_with_the_name_of_a_remote_branch_is_refused(forge, monkeypatch):
    clone(forge, monkeypatch)
    assert choose_base("origin/feature") == "origin/feature"
    git("tag", "origin/feature", "HEAD~")
    with pytest.raises(UserError, match="both refs/tags and refs/remotes have it; name one in full"):
        choose_base("origin/feature")


def test_a_folder_is_not_new_at_a_revision_that_dvc_alone_knows(forge, monkeypatch):
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert (new_folder("HEAD"), new_folder("an-experiment")) == ("below", None)


def test_the_only_remote_may_have_another_name(forge, monkeypatch, branch):
    """As `git clone --origin` gives it."""
    clone(forge, monkeypatch, "--origin=upstream")
    git("switch", "--quiet", "--detach", "upstream/feature")
    git("branch", "--delete", "--force", branch)
    assert default_revision() == git("rev-parse", "upstream/feature~2")
