"""Does what tests/fixtures/soaking.ts does, with Python's portalocker."""

import json
import os
import random
import sys
import time

import portalocker

folder, seconds = sys.argv[1:]
OPTIONS = {"timeout": 60, "check_interval": 0.001, "fail_when_locked": False}
locks = {
    "temporary": lambda: portalocker.TemporaryFileLock(
        os.path.join(folder, "a.lock"), **OPTIONS
    ),
    "pid": lambda: portalocker.PidFileLock(os.path.join(folder, "a.pid"), **OPTIONS),
}


def enter(witness):
    while True:
        try:
            os.symlink(str(os.getpid()), witness)
            return
        except FileExistsError:
            pass
        other = os.readlink(witness)
        if not os.path.exists(os.path.join(folder, "doomed", other)):
            raise RuntimeError(f"OVERLAP: {other} and {os.getpid()} hold the lock")
        os.unlink(witness)


sections = {"temporary": 0, "pid": 0}
end = time.monotonic() + float(seconds)
print("ready", flush=True)
while time.monotonic() < end:
    name = random.choice(list(locks))
    lock = locks[name]()
    lock.acquire()
    witness = os.path.join(folder, name + ".witness")
    enter(witness)
    if name == "pid" and lock.read_pid() != os.getpid():
        raise RuntimeError(f"the PID file contains {lock.read_pid()}")
    os.unlink(witness)
    lock.release()
    sections[name] += 1
    time.sleep(0.0002)
print(json.dumps(sections))
