"""Runs a command on a terminal of its own, as a person would: waits for `up`, types `hello`, waits for
`heard hello`, presses Ctrl-C. Prints one JSON object: `code` of the command (128+n for a signal) and all its `output`.

    terminal.py CMD…
"""

import json
import os
import pty
import select
import sys
import time


def main():
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    output, deadline = b"", time.monotonic() + 20
    steps = [(b"up\r\n", b"hello\n"), (b"heard hello\r\n", b"\x03")]
    while True:
        ready, _, _ = select.select([master], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, 9)
            break
        try:
            data = os.read(master, 4096)
        except OSError:  # EIO: nobody has the terminal any more
            break
        if not data:
            break
        output += data
        if steps and steps[0][0] in output:
            os.write(master, steps.pop(0)[1])
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps({"code": code if code >= 0 else 128 - code, "output": output.decode(errors="replace")}))


main()
