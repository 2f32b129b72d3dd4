"""Both sides' code as checkouts of one git repository, at paths of equal length. Nothing of the user's is changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.errors import UsageError

WORKING_TREE = "."
SIDES = ("base", "head")


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """What a side is: the name asked for, its commit, and a digest of changes where it is the working tree."""

    asked: str
    commit: str
    changes: str | None = None
    python: str

    @property
    def label(self) -> str:
        """For people: the name asked for and the commit, or what the working tree is based on."""
        if self.asked == WORKING_TREE:
            return f"working tree on {self.commit[:12]}" + ("" if self.changes else " (no changes)")
        return f"{self.asked} ({self.commit[:12]})"


def git(root: Path, *arguments: str) -> str:
    """Output of a git command. Raises UsageError with what git says."""
    done = _run_git(root, arguments)
    if done.returncode:
        raise UsageError(f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="surrogateescape")


def _run_git(root: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        raise UsageError("git is not installed; the gate makes its checkouts with it") from None


def repository(folder: Path) -> Path:
    """Root of the git repository around `folder`. Raises UsageError where there is none."""
    done = _run_git(folder, ("rev-parse", "--show-toplevel"))
    if done.returncode:
        raise UsageError(f"{folder}: no git repository here; the gate compares revisions of one (git init, commit)")
    return Path(done.stdout.decode().strip())


def resolve(root: Path, asked: str, python: str) -> Revision:
    """The revision of this name. Raises UsageError where git knows none, or the interpreter does not exist."""
    if shutil.which(python) is None:
        raise UsageError(f"{python}: no such interpreter; give the path of a python that has the side's packages")
    name = "HEAD" if asked == WORKING_TREE else asked
    done = _run_git(root, ("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"))
    if done.returncode:
        recent = _run_git(root, ("log", "--oneline", "-3")).stdout.decode(errors="replace").strip().replace("\n", "; ")
        raise UsageError(
            f"{asked}: not a revision that {root} knows; give a commit, tag or branch, or . for the working tree"
            + (f" (latest: {recent})" if recent else " (it has no commit yet)")
            + "; in CI fetch it first (git fetch origin BRANCH, or a checkout with its full history)"
        )
    changes = _changes(root) if asked == WORKING_TREE else None
    # Not resolved: a virtual environment's python is a link, and following it would leave the environment.
    program = str(Path(shutil.which(python) or python).absolute())
    return Revision(asked=asked, commit=done.stdout.decode().strip(), changes=changes, python=program)


def _changes(root: Path) -> str | None:
    """Digest of the working tree's differences from HEAD, None where there are none."""
    if not git(root, "status", "--porcelain", "--untracked-files=all").strip():
        return None
    digest = hashlib.sha256()
    for path in _files(root):
        digest.update(path.encode(errors="surrogateescape") + b"\0")
        if (root / path).is_file():
            digest.update((root / path).read_bytes())
    return digest.hexdigest()[:16]


def _files(root: Path) -> list[str]:
    """Tracked files, and untracked ones that git does not ignore."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return sorted({path for path in listed if path})


@contextmanager
def checkouts(root: Path, base: Revision | None, head: Revision) -> Iterator[tuple[Path | None, Path]]:
    """(base, head): a git worktree each in a folder of our own, removed afterwards. No base: None."""
    home = Path(tempfile.mkdtemp(prefix="dlrm-gate-"))
    made = [(home / side, rev) for side, rev in zip(SIDES, (base, head), strict=True) if rev is not None]
    try:
        for path, revision in made:
            _check_out(root, path, revision)
        yield (home / "base" if base is not None else None), home / "head"
    finally:
        for path, _ in made:
            _remove(root, path)
        shutil.rmtree(home, ignore_errors=True)


def _remove(root: Path, path: Path) -> None:
    """Take back one checkout of ours. No prune: it forgets worktrees of the user's whose disk is away right now."""
    if not _run_git(root, ("worktree", "remove", "--force", str(path))).returncode:
        return
    # Git leaves the record of a checkout that the side's code has broken, and of one that it made only half.
    found = _run_git(root, ("rev-parse", "--git-common-dir"))
    common = root / os.fsdecode(found.stdout).rstrip("\n")
    for record in (common / "worktrees").glob("*/gitdir"):
        # Absolute, or relative to the record (worktree.useRelativePaths).
        with contextlib.suppress(OSError):
            place = record.parent / os.fsdecode(record.read_bytes()).rstrip("\n")
            if place.parent.resolve() == path.resolve():
                shutil.rmtree(record.parent)


def _check_out(root: Path, path: Path, revision: Revision) -> None:
    git(root, "worktree", "add", "--detach", "--quiet", str(path), revision.commit)
    if revision.asked == WORKING_TREE and revision.changes:
        _overlay(root, path)


def _overlay(root: Path, path: Path) -> None:
    """Make the checkout's files those of the working tree; a file may have become a folder, or the reverse."""
    wanted = [name for name in _files(root) if _is_file(root, name)]
    tracked = git(path, "ls-files", "-z").split("\0")
    # First: what is gone may be where a folder, or a file, is to be now.
    for name in {*tracked} - {*wanted, ""}:
        if _is_file(path, name):
            (path / name).unlink()
    for name in wanted:
        source, target = root / name, path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def _is_file(root: Path, name: str) -> bool:
    """Whether git sees a file or link here. Nothing beyond a link: it lies elsewhere, and is not ours to touch."""
    path = root / name
    folders = list(Path(name).parents)[:-1]
    return (path.is_symlink() or path.is_file()) and not any((root / folder).is_symlink() for folder in folders)
