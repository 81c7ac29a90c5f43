"""The scripts as processes that start at once: forked from one that has loaded their libraries.

Windows cannot fork: there they start as slowly as ever.
"""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
context.set_forkserver_preload(["train", "predict"])


class Fork:
    """train.py or predict.py under way.

    kill_at: `fsync` or `rename`, and the number of the call that is its end;
    file_size: the greatest size of a file that it may write, in bytes; memory: how many bytes it
    may take besides those that it starts with; stdout: where its lines go; changes: see
    environment().
    """

    def __init__(
        self, script, *arguments,
        kill_at=None, file_size=None, memory=None, stdout=None, **changes,
    ):  # fmt: skip
        from conftest import environment

        self.folder = tempfile.TemporaryDirectory()
        self.out, self.err = (Path(self.folder.name, name) for name in ("stdout", "stderr"))
        self.out.touch()
        if stdout:
            self.out = Path(stdout)
        words, env = [script, *map(str, arguments)], environment(**changes)
        options = words, self.out, self.err, env, kill_at, file_size, memory
        self.process = context.Process(target=_main, args=options)
        self.process.start()

    def send(self, number):
        os.kill(self.process.pid, number)

    def finish(self):
        """Return the exit status, minus a signal's number where one ended it, and both texts."""
        self.process.join(timeout=120)
        status = self.process.exitcode
        assert status is not None, "it hangs"
        # a device such as /dev/full has no end
        out = self.out.read_text(encoding="utf-8") if self.out.is_file() else ""
        err = self.err.read_text(encoding="utf-8")
        self.folder.cleanup()
        return subprocess.CompletedProcess([], status, out, err)


def fork_script(script, *arguments, **options):
    """As run_script(), in no time."""
    return Fork(script, *arguments, **options).finish()


def _main(words, out, err, env, kill_at, file_size, memory):
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = words
    if file_size:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    if memory:
        import resource

        memory += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if kill_at:
        _kill_at(*kill_at)
    cli = importlib.import_module("modules.cli")
    cli.run(importlib.import_module(words[0].removesuffix(".py")).main)


def _kill_at(name, count):
    calls = []

    def call():
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    if name == "fsync":
        fsync = os.fsync
        os.fsync = lambda file: call() or fsync(file)
    else:
        # Python tells of this one, which pathlib may hold a reference to
        sys.addaudithook(lambda event, _: call() if event == f"os.{name}" else None)
