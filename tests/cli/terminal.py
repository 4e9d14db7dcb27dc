"""Runs a program in a terminal, and types into it.

The argument is JSON: the arguments of the program, and steps. A step is
["expect", text], which reads until the output contains the text,
["type", text], or ["hang up", ""], which closes the terminal. Prints the output
and the exit status as JSON.
"""

import json
import os
import pty
import signal
import sys

# How many seconds a step may take, on a loaded machine.
LIMIT = 90


def main() -> None:
    request = json.loads(sys.argv[1])
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(request["argv"][0], request["argv"])
    output = b""
    seen = 0

    def read() -> bool:
        nonlocal output
        try:
            data = os.read(terminal, 4096)
        except OSError:  # EIO: the last process has closed the terminal
            return False
        output += data
        return len(data) > 0

    def fail(*_: object) -> None:
        sys.exit(f"waits for {text!r}: {output!r}")

    text = "the end"
    signal.signal(signal.SIGALRM, fail)
    for action, text in request["steps"]:
        signal.alarm(LIMIT)
        data = text.encode()
        if action == "hang up":
            os.close(terminal)
            continue
        if action == "type":
            os.write(terminal, data)
            continue
        while (at := output.find(data, seen)) < 0:
            if not read():
                fail()
        seen = at + len(data)
    while read():
        pass
    _, status = os.waitpid(pid, 0)
    json.dump(
        {"output": output.decode(), "status": os.waitstatus_to_exitcode(status)},
        sys.stdout,
    )


main()
