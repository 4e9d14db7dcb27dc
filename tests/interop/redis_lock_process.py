"""A process that locks in Redis with Python's portalocker, as it is told."""

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
    """Options are those of the constructor, in seconds."""
    kwargs = dict(OPTIONS, **options)
    if NEWER:
        kwargs.setdefault("interrupt_on_lost", False)
    if kind == "shared":
        # Which only the newer one has.
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
    """Releases what was acquired last of this channel."""
    held[channel].pop().release()


def lost(channel):
    """Whether the lock was lost; the older one does not say."""
    return held[channel][-1].lost if NEWER else None


def probe(port, channel):
    """Who takes part, as the newer one sees them."""
    lock = new_lock(port, channel, "exclusive", {})
    try:
        return [list(holder) for holder in lock.probe()]
    finally:
        lock.release()


def together(one, other):
    return one.startswith("shared") and other.startswith("shared")


def enter(folder, kind):
    """Makes this process's marker, then looks for those of others."""
    own = f"{kind}-{os.getpid()}"
    marker = os.path.join(folder, "inside", own)
    os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    for other in os.listdir(os.path.join(folder, "inside")):
        doomed = os.path.join(folder, "doomed", other.split("-")[1])
        if other != own and not together(own, other) and not os.path.exists(doomed):
            raise RuntimeError(f"OVERLAP: {other} is inside, and so is {own}")
    return marker


def soak(port, channel, folder, seconds, kind="exclusive", options={}):
    """Locks for so long; answers how often it was inside.

    Who is inside has a marker `KIND-PID` in the folder `inside`. Markers of
    who is named in the folder `doomed` may have been left behind.
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
    """Of portalocker and redis-py."""
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
        answer = {"value": COMMANDS[name](*args)}
    except Exception as error:
        answer = {"error": {"name": type(error).__name__, "message": str(error)}}
    print(json.dumps(answer), flush=True)
