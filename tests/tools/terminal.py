#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A user at a terminal: terminal.py [--seconds N] COMMAND [ARG...] <SCRIPT

Starts COMMAND on a terminal of its own and does what the script's lines say, one after the other:

  send TEXT      type; escapes as in a C string, \\r is Enter
  expect TEXT    wait until this is written, after what was expected before
  never TEXT     it was not written since the last expect
  signal NAME    send SIGNAME
  size R C       the terminal gets R rows and C columns
  line 0|1       wait until the terminal edits lines itself (1), or the command does (0)
  stopped        wait until the process is stopped
  exit N         wait until it ends, with status N; -N: by signal N

Nothing waits for time; a wait that lasts longer than N seconds (60) is a failure. The exit status
is 0 when all went as the script says, else 1 after a line that says what did not.
"""
import errno
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time


class Failure(Exception):
    pass


class Terminal:
    def __init__(self, command, seconds):
        self.seconds = seconds
        self.seen = b""
        self.at = 0
        self.status = None
        self.closed = False
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvp(command[0], command)
            except OSError as error:
                print(error)
                os._exit(127)

    def show(self):
        return repr(self.seen[self.at:][-300:])

    def read(self, wait):
        """Takes what was written; false at the end of the terminal or when nothing came."""
        if self.closed or not select.select([self.fd], [], [], wait)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        self.closed = not data
        self.seen += data
        return bool(data)

    def wait(self, done, what):
        """Reads until done() is true. The terminal is read all the time: it must not fill up."""
        end = time.monotonic() + self.seconds
        while not done():
            if time.monotonic() > end:
                raise Failure(f"{what}: not within {self.seconds} s, got {self.show()}")
            if not self.read(0.02) and self.closed and not done():
                time.sleep(0.01)
                if self.ended() and not done():
                    raise Failure(f"{what}: it ended with {self.status}, got {self.show()}")

    def ended(self, flags=0):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | flags)
            if pid and not os.WIFSTOPPED(status):
                self.status = os.waitstatus_to_exitcode(status)
            return bool(pid)
        return True

    def edits_lines(self):
        flags = termios.tcgetattr(self.fd)[3]
        return flags & (termios.ICANON | termios.ECHO) == termios.ICANON | termios.ECHO

    # ---- what a script says ----

    def do_send(self, text):
        data = unescape(text)
        while data:
            data = data[os.write(self.fd, data):]

    def do_expect(self, text):
        want = unescape(text)
        self.wait(lambda: want in self.seen[self.at:], f"expect {text}")
        self.at = self.seen.index(want, self.at) + len(want)

    def do_never(self, text):
        if unescape(text) in self.seen[self.at:]:
            raise Failure(f"never {text}: got {self.show()}")

    def do_signal(self, name):
        os.kill(self.pid, getattr(signal, "SIG" + name))

    def do_size(self, text):
        rows, columns = map(int, text.split())
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def do_line(self, text):
        self.wait(lambda: self.edits_lines() == (text == "1"), f"line {text}")

    def do_stopped(self, _):
        self.wait(lambda: self.ended(os.WUNTRACED), "stopped")
        if self.status is not None:
            raise Failure(f"stopped: it ended with {self.status}")

    def do_exit(self, text):
        self.wait(self.ended, "exit")
        if self.status != int(text):
            raise Failure(f"exit {text}: it ended with {self.status}, got {self.show()}")


def unescape(text):
    return text.encode().decode("unicode_escape").encode("latin-1")


def main():
    args = sys.argv[1:]
    seconds = 60
    if args[0] == "--seconds":
        seconds = int(args[1])
        args = args[2:]
    script = sys.stdin.read().splitlines()
    terminal = Terminal(args, seconds)
    terminal.do_size("24 80")
    try:
        for line in script:
            word, _, text = line.partition(" ")
            if word and not word.startswith("#"):
                getattr(terminal, "do_" + word)(text)
    except Failure as failure:
        print(failure)
        return 1
    finally:
        if terminal.status is None:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
    return 0


sys.exit(main())
