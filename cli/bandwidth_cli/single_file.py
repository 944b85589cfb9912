"""The beginning of the single-file build, where it is `__main__`: finds the modules, compiled ones if it can, and runs.

The file holds sources alone, so Python would compile them at every start. What it compiles is kept in the user's cache,
as Python keeps it beside modules that are installed; where that cannot be, or is not the user's own, it does without.
Must be readable by every Python from 3.6 on, since it says which one is needed: so no import from the future.
"""

import contextlib
import os
import signal
import sys
import time

LEAST = (3, 11)
KEPT_SECONDS = 30 * 86400  # what an earlier version left


def main() -> int:
    """Run the plugin; return its exit code."""
    if sys.version_info < LEAST:
        sys.stderr.write("error: kubectl-cbl needs Python 3.11 or newer; python3 is {}.{}\n".format(*sys.version_info))
        return 1
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Until the program runs, Ctrl-C ends it without a word: an exception would show where it was being loaded.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    archive = sys.path[0]
    folder = _folder(archive)
    compiled = folder is not None and _is_ours(folder)
    if compiled:
        sys.path.insert(0, str(folder))
    from bandwidth_cli import cli

    try:
        return cli.main()
    finally:
        if folder is not None and not compiled and not sys.dont_write_bytecode:
            with contextlib.suppress(OSError, KeyboardInterrupt, SyntaxError, ValueError):
                _keep(archive, folder)


def _folder(archive: str) -> "str | None":
    """Return where the compiled modules of this file are kept, or would be; None where there is no place for them."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(cache) or not os.environ.get("HOME"):
        return None
    try:
        file = os.stat(archive)
    except OSError:
        return None
    # A file that was replaced has another size, time or number.
    version = f"{file.st_size:x}-{file.st_mtime_ns:x}-{file.st_ino:x}-{sys.implementation.cache_tag}"
    return os.path.join(cache, "kubectl-cbl", version)


def _is_ours(folder: str) -> bool:
    """Return whether a folder is there, and nobody but this user may write into it or what is above it."""
    try:
        found = [os.lstat(each) for each in (folder, os.path.dirname(folder))]
    except OSError:
        return False
    return all(each.st_uid == os.geteuid() and each.st_mode & 0o170022 == 0o040000 for each in found)


def _keep(archive: str, folder: str) -> None:
    """Compile all modules into the folder, as a whole or not at all; remove what earlier versions left."""
    import marshal
    import shutil
    import zipfile
    from importlib.util import MAGIC_NUMBER

    above = os.path.dirname(folder)
    os.makedirs(above, mode=0o700, exist_ok=True)
    partial = f"{folder}.{os.getpid()}"
    os.mkdir(partial, 0o700)
    try:
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                if not name.endswith(".py") or name == "__main__.py":
                    continue
                code = compile(file.read(name), f"{archive}/{name}", "exec", dont_inherit=True)
                target = os.path.join(partial, f"{name}c")
                os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                with open(target, "wb") as out:
                    # PEP 552: not to be checked against a source, which is not beside it.
                    out.write(MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + marshal.dumps(code))
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for name in os.listdir(above):
        other = os.path.join(above, name)
        if other != folder and time.time() - os.lstat(other).st_mtime > KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
