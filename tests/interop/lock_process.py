"""A process that locks with Python's portalocker on command of its parent."""

import contextlib
import fcntl
import json
import os
import random
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


def try_lockf(path, kind="exclusive", start=0, length=0):
    global held
    held = open(path, "a+")
    flags = fcntl.LOCK_EX if kind == "exclusive" else fcntl.LOCK_SH
    try:
        fcntl.lockf(held, flags | fcntl.LOCK_NB, length, start)
    except OSError:
        held.close()
        return False
    return True


def close():
    held.close()


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


def write_atomic(path, text):
    with portalocker.utils.open_atomic(path, binary=False) as file:
        file.write(text)


def update(path, times):
    """Updates a file in the same way as updateFile."""
    for _ in range(times):
        with portalocker.Lock(path + ".lock", timeout=60, check_interval=0.001):
            count = json.loads(open(path).read())["count"] + 1
            new = {"count": count, "pad": "x" * 5000, "again": count}
            with open(path + ".new", "w") as file:
                file.write(json.dumps(new))
            os.rename(path + ".new", path)
        time.sleep(0.0001)


semaphore = None


def new_semaphore(maximum, name, directory, timeout=60):
    return portalocker.BoundedSemaphore(
        maximum,
        name=name,
        directory=directory,
        timeout=timeout,
        check_interval=0.001,
    )


def acquire_slot(maximum, name, directory, timeout=60):
    global semaphore
    semaphore = new_semaphore(maximum, name, directory, timeout)
    # Old versions print debug output.
    with contextlib.redirect_stdout(sys.stderr):
        semaphore.acquire()
    return str(semaphore.lock.filename)


def try_acquire_slot(maximum, name, directory):
    try:
        return acquire_slot(maximum, name, directory, 0)
    except portalocker.AlreadyLocked:
        return None


def release_slot():
    semaphore.release()


def enter_slots(maximum, name, directory, inside, times):
    most = 0
    for _ in range(times):
        marker = os.path.join(inside, os.path.basename(acquire_slot(maximum, name, directory)))
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        time.sleep(random.random() * 0.0005)
        most = max(most, len(os.listdir(inside)))
        os.unlink(marker)
        release_slot()
        time.sleep(0.0001)
    return most


def slot_names(pattern, name, maximum):
    return [pattern.format(name=name, number=number) for number in range(maximum)]


def hold(kind, path, timeout=None):
    global held
    waiting = {} if timeout is None else {
        "timeout": timeout,
        "check_interval": 0.005,
        "fail_when_locked": False,
    }
    lock = getattr(portalocker, kind)(path, **waiting)
    lock.acquire()
    held = lock


def attempt(kind, path):
    try:
        hold(kind, path)
    except portalocker.AlreadyLocked:
        return False
    return True


def enter(path):
    """Returns what a with statement returns: the PID of the holder, or None."""
    lock = portalocker.PidFileLock(path)
    pid = lock.__enter__()
    if pid is None:
        lock.release()
    return pid


def read_pid(path):
    return portalocker.PidFileLock(path).read_pid()


COMMANDS = {
    "acquireSlot": acquire_slot,
    "tryAcquireSlot": try_acquire_slot,
    "releaseSlot": release_slot,
    "enterSlots": enter_slots,
    "slotNames": slot_names,
    "hold": hold,
    "attempt": attempt,
    "drop": release,
    "enter": enter,
    "readPid": read_pid,
    "acquire": acquire,
    "tryAcquire": try_acquire,
    "release": release,
    "tryLockf": try_lockf,
    "close": close,
    "count": count,
    "takeTurns": take_turns,
    "update": update,
    "writeAtomic": write_atomic,
}

for line in sys.stdin:
    name, *args = json.loads(line)
    try:
        result = {"value": COMMANDS[name](*args)}
    except Exception as error:
        result = {"error": {"name": type(error).__name__, "message": str(error)}}
    print(json.dumps(result), flush=True)
