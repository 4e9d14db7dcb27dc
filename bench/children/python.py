"""A contender in Python, as a process: DRIVER SCENARIO PATH ..."""

import collections
import json
import os
import platform
import sys
import time


# The time of one turn in `redis_uncontended`.
TURN_NS = 5_000_000


def with_portalocker(path):
    import portalocker

    # The default of 5 s would end a wait of the busier scenarios.
    lock = portalocker.Lock(path, timeout=60)
    return lock, "portalocker " + portalocker.__version__


def with_filelock(path):
    import filelock

    return filelock.FileLock(path), "filelock " + filelock.__version__


def in_place(path, durable, truncate_first=False):
    """Changes a file under a lock on the same file."""
    import portalocker

    def change(compute):
        with portalocker.Lock(path, "r+", timeout=60) as file:
            text = compute(file.read())
            if text is None:
                return
            file.seek(0)
            if truncate_first:
                file.truncate()
            file.write(text)
            if not truncate_first:
                file.truncate()
            # portalocker unlocks before Python flushes.
            file.flush()
            if durable:
                os.fsync(file.fileno())

    return change, "portalocker " + portalocker.__version__


class InRedis:
    """See lockers/portalock_redis.mjs."""

    def __init__(self, path, lock):
        import redis

        url, name = path.split("#")
        make = redis.Redis.from_url
        self.lock = lock(make(url, decode_responses=True), name)
        self.acquire, self.release = self.lock.acquire, self.lock.release
        client = make(url)
        self.pings = {"ping": client.ping}
        self.library = "redis-py " + redis.__version__


def with_redis_py(path):
    # `timeout` is the time until the lock expires, in seconds.
    locker = InRedis(path, lambda client, name: client.lock(name, timeout=60))
    return locker, locker.library


def with_redis_portalocker(path, **options):
    import portalocker

    def lock(client, name):
        return portalocker.RedisLock(name, client, timeout=60, **options)

    locker = InRedis(path, lock)
    library = "portalocker " + portalocker.__version__
    return locker, library + " and " + locker.library


def with_quick_redis_portalocker(path):
    quick = {"check_interval": 0.001, "thread_sleep_time": 0.001}
    return with_redis_portalocker(path, **quick)


def truncating(path, durable):
    return in_place(path, durable, truncate_first=True)


def uncontended(lock, path, warm_up, milliseconds):
    measure(lock, int(warm_up))
    samples = measure(lock, int(milliseconds))
    return {"clock": clock_cost(), "samples": samples}


def measure(lock, milliseconds):
    """Acquires and releases repeatedly until the time is over."""
    now = time.monotonic_ns
    taken = []
    end = now()
    last = end + milliseconds * 1_000_000
    while end < last:
        start = now()
        lock.acquire()
        lock.release()
        end = now()
        taken.append(end - start)
    return histogram(taken)


def redis_uncontended(lock, path, warm_up, milliseconds):
    """See redis_uncontended.mjs."""
    measure_turns(lock, int(warm_up))
    taken = measure_turns(lock, int(milliseconds))
    return {"samples": {name: histogram(taken[name]) for name in taken}}


def measure_turns(lock, milliseconds):
    now = time.monotonic_ns
    acquired, released, both, pinged = [], [], [], []
    last = now() + milliseconds * 1_000_000
    end = 0
    while end < last:
        turn = now() + TURN_NS
        while True:
            start = now()
            lock.acquire()
            middle = now()
            lock.release()
            end = now()
            acquired.append(middle - start)
            released.append(end - middle)
            both.append(end - start)
            if end >= turn:
                break
        pinged += ping(lock, until=now() + TURN_NS)
        end = now()
    return {
        "acquire": acquired,
        "release": released,
        "both": both,
        "ping": pinged,
    }


def ping(lock, count=1, until=0):
    now = time.monotonic_ns
    ping_server = lock.pings["ping"]
    taken = []
    end = 0
    while len(taken) < count or end < until:
        start = now()
        ping_server()
        end = now()
        taken.append(end - start)
    return taken


def handover(lock, path):
    """See handover.mjs. `monotonic_ns` is CLOCK_MONOTONIC."""
    acquired, released, pings = [], [], []
    send("ready")
    for command in sys.stdin:
        if command == "acquire\n":
            send("waiting")
            lock.acquire()
            acquired.append(time.monotonic_ns() / 1000)
            send("acquired")
        elif command == "release\n":
            released.append(time.monotonic_ns() / 1000)
            lock.release()
        else:
            name, count = command.split()
            known = name in lock.pings
            taken = ping(lock, int(count)) if known else []
            pings.append({"name": name, "taken": [t / 1000 for t in taken]})
            send("pinged")
    return {"acquired": acquired, "released": released, "pings": pings}


def contention(lock, path, milliseconds):
    """See contention.mjs."""
    now = time.monotonic_ns
    counter = os.open(path + ".count", os.O_RDWR)
    count, taken = 0, []
    start_together()
    last = now() + int(milliseconds) * 1_000_000
    while (start := now()) < last:
        lock.acquire()
        end = now()
        taken.append(end - start)
        # An acquire that ends too late does not count.
        if end < last:
            number = int.from_bytes(os.pread(counter, 4, 0), sys.byteorder)
            os.pwrite(counter, (number + 1).to_bytes(4, sys.byteorder), 0)
            count += 1
        lock.release()
    return {"count": count, "samples": histogram(taken)}


def update(change, path, milliseconds):
    """See update.mjs."""
    now = time.monotonic_ns
    count, taken = 0, []

    def add_one_in_time(text):
        nonlocal count
        # A lock acquired too late does not count.
        if now() >= last:
            return None
        count += 1
        content = json.loads(text)
        content["number"] += 1
        return json.dumps(content)

    start_together()
    last = now() + int(milliseconds) * 1_000_000
    while (start := now()) < last:
        change(add_one_in_time)
        taken.append(now() - start)
    return {"count": count, "samples": histogram(taken)}


def start_together():
    """Sends "ready", receives the time of the start, and sleeps until then."""
    send("ready")
    time.sleep(max(0, int(sys.stdin.readline()) / 1000 - time.time()))


def clock_cost():
    now = time.monotonic_ns
    return sorted(-now() + now() for _ in range(10_001))[5_000]


def histogram(taken):
    return sorted(collections.Counter(map(three_digits, taken)).items())


def three_digits(value):
    unit = 1
    while value >= 1000 * unit:
        unit *= 10
    return (value + unit // 2) // unit * unit


def send(value):
    print(json.dumps(value), flush=True)


DRIVERS = {
    "portalocker": with_portalocker,
    "filelock": with_filelock,
    "redis-py": with_redis_py,
    "redis-portalocker": with_redis_portalocker,
    "redis-portalocker-quick": with_quick_redis_portalocker,
    "redis-portalocker-2": with_redis_portalocker,
    "portalocker-durable": lambda path: in_place(path, True),
    "portalocker-not-durable": lambda path: in_place(path, False),
    "portalocker-truncating-durable": lambda path: truncating(path, True),
    "portalocker-truncating-not-durable": lambda path: truncating(path, False),
}
SCENARIOS = {
    "uncontended": uncontended,
    "handover": handover,
    "contention": contention,
    "update": update,
    "redis_uncontended": redis_uncontended,
}

driver, scenario, path, *arguments = sys.argv[1:]
driven, library = DRIVERS[driver](path)
result = SCENARIOS[scenario](driven, path, *arguments)
runtime = "Python %s with %s" % (platform.python_version(), library)
send({"runtime": runtime, **result})
