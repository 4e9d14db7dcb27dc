"""A process that locks with Python's portalocker what its parent names."""

import json
import os
import sys
import time

import portalocker

FLAGS = {
    "exclusive": portalocker.LOCK_EX | portalocker.LOCK_NB,
    "shared": portalocker.LOCK_SH | portalocker.LOCK_NB,
}

held = None


def acquire(path, kind="exclusive", timeout=60):
    global held
    held = portalocker.Lock(
        path, mode="a", timeout=timeout, check_interval=0.005, flags=FLAGS[kind]
    )
    held.acquire()


def try_acquire(path, kind="exclusive"):
    try:
        acquire(path, kind, timeout=0)
    except portalocker.LockException:
        return False
    return True


def release():
    held.release()


def count(path, times):
    for _ in range(times):
        lock = portalocker.Lock(path, mode="r+", timeout=60, check_interval=0.005)
        with lock as file:
            number = int(file.read())
            file.seek(0)
            file.write(str(number + 1))
            file.truncate()


def take_turns(path, times):
    hand_overs = 0
    while hand_overs < times:
        lock = portalocker.Lock(path, mode="r+", timeout=60, check_interval=0.001)
        with lock as file:
            pid, _, before = file.read().split()
            hand_overs = int(before) + (int(pid) != os.getpid())
            file.seek(0)
            file.write(f"{os.getpid()} {int(time.time() * 1000)} {hand_overs}")
            file.truncate()
        time.sleep(0.0001)


def hold(kind, path, timeout=None):
    global held
    patient = {} if timeout is None else {
        "timeout": timeout,
        "check_interval": 0.005,
        "fail_when_locked": False,
    }
    lock = getattr(portalocker, kind)(path, **patient)
    lock.acquire()
    held = lock


def attempt(kind, path):
    try:
        hold(kind, path)
    except portalocker.AlreadyLocked:
        return False
    return True


def enter(path):
    """What a with statement gives: the PID of the holder, if there is one."""
    lock = portalocker.PidFileLock(path)
    pid = lock.__enter__()
    if pid is None:
        lock.release()
    return pid


def read_pid(path):
    return portalocker.PidFileLock(path).read_pid()


COMMANDS = {
    "hold": hold,
    "attempt": attempt,
    "drop": release,
    "enter": enter,
    "readPid": read_pid,
    "acquire": acquire,
    "tryAcquire": try_acquire,
    "release": release,
    "count": count,
    "takeTurns": take_turns,
}

for line in sys.stdin:
    name, *args = json.loads(line)
    try:
        answer = {"value": COMMANDS[name](*args)}
    except Exception as error:
        answer = {"error": {"name": type(error).__name__, "message": str(error)}}
    print(json.dumps(answer), flush=True)
