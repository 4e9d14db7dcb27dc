"""A process that locks in Redis with Python's portalocker on command."""

import json
import os
import sys
import time

import portalocker
import redis

OPTIONS = {"timeout": 60, "check_interval": 0.005, "thread_sleep_time": 0.01}

NEWER = hasattr(portalocker.RedisLock, "ensure_held")

held = {}


def new_lock(port, channel, kind, options):
    """Creates a lock. The options are those of the constructor, in seconds."""
    kwargs = dict(OPTIONS, **options)
    if NEWER:
        kwargs.setdefault("interrupt_on_lost", False)
    if kind == "shared":
        # Only the newer version has shared locks.
        kwargs["flags"] = portalocker.LockFlags.SHARED
    connection = {"host": "127.0.0.1", "port": port}
    connection.update(kwargs.pop("redis_kwargs", {}))
    return portalocker.RedisLock(channel, redis_kwargs=connection, **kwargs)


def acquire(port, channel, kind="exclusive", options={}):
    lock = new_lock(port, channel, kind, options)
    try:
        lock.acquire()
    except BaseException:
        lock.release()
        raise
    held.setdefault(channel, []).append(lock)


def try_acquire(port, channel, kind="exclusive", options={}):
    try:
        acquire(port, channel, kind, dict(options, timeout=0))
    except portalocker.AlreadyLocked:
        return False
    return True


def release(channel):
    """Releases the latest lock of this name."""
    held[channel].pop().release()


def lost(channel):
    """Returns whether the lock was lost. The older version does not report it."""
    return held[channel][-1].lost if NEWER else None


def probe(port, channel):
    """Returns the clients of a lock, as the newer version reports them."""
    lock = new_lock(port, channel, "exclusive", {})
    try:
        return [list(holder) for holder in lock.probe()]
    finally:
        lock.release()


def compatible(one, other):
    return one.startswith("shared") and other.startswith("shared")


def enter(folder, kind):
    """Creates the marker of this process, then checks those of other processes."""
    own = f"{kind}-{os.getpid()}"
    marker = os.path.join(folder, "inside", own)
    os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    for other in os.listdir(os.path.join(folder, "inside")):
        doomed = os.path.join(folder, "doomed", other.split("-")[1])
        if other != own and not compatible(own, other) and not os.path.exists(doomed):
            raise RuntimeError(f"OVERLAP: {other} and {own} hold the lock")
    return marker


def soak(port, channel, folder, seconds, kind="exclusive", options={}):
    """Locks repeatedly for some seconds, and returns how often it held the lock.

    A holder has a marker `KIND-PID` in the folder `inside`. A process with a
    PID in the folder `doomed` may have been killed and have left its marker.
    """
    sections = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lock = new_lock(port, channel, kind, options)
        lock.acquire()
        marker = enter(folder, kind)
        time.sleep(0.0005)
        os.unlink(marker)
        lock.release()
        sections += 1
        time.sleep(0.0002)
    return sections


def versions():
    """Returns the versions of portalocker and redis-py."""
    return [portalocker.__version__, redis.__version__]


COMMANDS = {
    "acquire": acquire,
    "tryAcquire": try_acquire,
    "release": release,
    "lost": lost,
    "probe": probe,
    "soak": soak,
    "versions": versions,
}

for line in sys.stdin:
    name, *args = json.loads(line)
    try:
        result = {"value": COMMANDS[name](*args)}
    except Exception as error:
        result = {"error": {"name": type(error).__name__, "message": str(error)}}
    print(json.dumps(result), flush=True)
