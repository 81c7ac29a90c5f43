"""The scripts as processes that start at once: forked from one that has loaded their libraries.

They are killed, and start anew, dozens of times. Not on Windows, which cannot fork.
"""

import importlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if os.name != "posix":
    pytest.skip("Windows cannot fork", allow_module_level=True)
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["train", "predict"])


class Fork:
    """train.py or predict.py under way; its two streams go to files."""

    def __init__(self, folder, script, *arguments, kill_at=None, file_size=None):
        self.out, self.err = folder / "stdout", folder / "stderr"
        words = [script, *map(str, arguments)]
        arguments = words, self.out, self.err, kill_at, file_size
        self.process = context.Process(target=_main, args=arguments)
        self.process.start()

    def send(self, number):
        os.kill(self.process.pid, number)

    def finish(self):
        """Return the exit status, minus a signal's number where one ended it, and both texts."""
        self.process.join(timeout=120)
        status = self.process.exitcode
        assert status is not None, "it hangs"
        return status, self.out.read_text(), self.err.read_text()


def _main(words, out, err, kill_at, file_size):
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    os.chdir(ROOT)
    sys.argv = words
    if file_size:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    if kill_at:
        _kill_at(*kill_at)
    cli = importlib.import_module("modules.cli")
    cli.run(importlib.import_module(words[0].removesuffix(".py")).main)


def _kill_at(name, count):
    """Have this process killed when it calls os.`name` for the `count`th time."""
    original, calls = getattr(os, name), []

    def call(*arguments, **options):
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(os, name, call)
