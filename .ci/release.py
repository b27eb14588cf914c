"""Build both distributions of the last commit, check them, and say what to upload. Nothing is uploaded.

    make release
    python .ci/release.py --allow-dirty    # build the last commit although files differ from it

The checks: `twine check --strict`; the source distribution holds exactly the files of the commit; the wheel works in a
fresh environment, outside the repository. `dist/` then holds the two files.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
MADE_BY_BUILD = {"PKG-INFO", "setup.cfg"}  # files that the build adds to the source distribution
COMMANDS = (("--version",), ("plan", "quickstart"), ("laws",))  # typed with the installed wheel


def environment(folder: Path) -> Path:
    """Make a virtual environment, and return its folder of programs."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def run(*command: object, cwd: Path) -> str:
    """Run a command, and return its stdout. The script ends with the whole output if the command fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{done.stdout}\nrelease: {' '.join(words)} failed with exit code {done.returncode}")
    return done.stdout


def files_of_commit() -> set[str]:
    """Return the files of the last commit."""
    return set(run("git", "ls-tree", "-r", "--name-only", "HEAD", cwd=ROOT).splitlines())


def files_of_sdist(archive: Path) -> set[str]:
    """Return the files of a source distribution that the build has not made itself."""
    with tarfile.open(archive) as tar:
        names = {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}
    return {name for name in names if name not in MADE_BY_BUILD and ".egg-info/" not in name}


def build(work: Path) -> tuple[Path, Path]:
    """Build both distributions from a copy of the last commit, check their metadata, and return their paths."""
    tools = environment(work / "tools")
    run(tools / "python", "-m", "pip", "install", "--quiet", "build", "twine", cwd=work)
    source, packed = work / "source", work / "commit.tar"
    run("git", "archive", "--output", packed, "HEAD", cwd=ROOT)
    with tarfile.open(packed) as tar:
        tar.extractall(source, filter="data")
    shutil.rmtree(DIST, ignore_errors=True)
    run(tools / "python", "-m", "build", "--outdir", DIST, source, cwd=work)  # the wheel from the source archive
    (archive,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    print(run(tools / "python", "-m", "twine", "check", "--strict", archive, wheel, cwd=work), end="")
    return archive, wheel


def try_wheel(work: Path, wheel: Path) -> None:
    """Install the wheel into a fresh environment, and type some commands in an empty folder."""
    programs, elsewhere = environment(work / "fresh"), work / "elsewhere"
    elsewhere.mkdir()
    start = time.monotonic()
    run(programs / "python", "-m", "pip", "install", "--quiet", wheel, cwd=elsewhere)
    print(f"pip install {wheel.name}: {time.monotonic() - start:.0f} s with its dependencies")
    for words in COMMANDS:
        start = time.monotonic()
        lines = run(programs / "lossline-jax", *words, cwd=elsewhere).splitlines()
        print(f"lossline-jax {' '.join(words)}: {time.monotonic() - start:.1f} s, {len(lines)} lines: {lines[0]}")


def main(arguments: list[str]) -> None:
    """Build and check the release."""
    if run("git", "status", "--porcelain", cwd=ROOT) and "--allow-dirty" not in arguments:
        sys.exit("release: files differ from the last commit, which is what a release is made of; commit them first")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        archive, wheel = build(Path(folder))
        differing = files_of_commit() ^ files_of_sdist(archive)
        if differing:
            sys.exit(f"release: MANIFEST.in: in the commit or in {archive.name}, but not in both: {sorted(differing)}")
        try_wheel(Path(folder), wheel)
    sizes = " and ".join(f"{path.name} ({path.stat().st_size / 1e6:.2f} MB)" for path in (archive, wheel))
    print(f"ready: {sizes}\nto upload: python -m twine upload {archive.relative_to(ROOT)} {wheel.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
