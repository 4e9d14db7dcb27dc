"""Does what tests/fixtures/redis_soaking.ts does, with Python's portalocker."""

import json
import os
import random
import sys
import threading
import time

import portalocker
import redis

config = json.loads(sys.argv[1])
holder = f"{config['name']}-{os.getpid()}"
witness = redis.Redis(port=config["port"], decode_responses=True)
offset = (time.time() - time.monotonic()) * 1000
# The older version does not have shared locks, and does not report a loss.
newer = hasattr(portalocker.RedisLock, "ensure_held")

did = dict.fromkeys(
    ["sections", "shared", "refused", "failed", "lost", "transferred", "adopted"], 0
)
did["longest"] = 0
problems = []
lines = []
done = threading.Event()


def clock():
    return offset + time.monotonic() * 1000


def new_lock(channel, kind):
    options = {"timeout": 5, "check_interval": 0.005, "thread_sleep_time": 0.01}
    if newer:
        options["interrupt_on_lost"] = False
    if kind == "s":
        options["flags"] = portalocker.LockFlags.SHARED
    connection = {"host": "127.0.0.1", "port": config["port"]}
    return portalocker.RedisLock(channel, redis_kwargs=connection, **options)


class PubSub(redis.client.PubSub):
    """Records that it has connected again, which the older version ignores."""

    reconnected = False

    def on_connect(self, connection):
        self.reconnected = True
        super().on_connect(connection)


redis.client.PubSub = PubSub


def show(lock, me):
    """Subscribes to a channel of its own on the connection of the lock."""
    lives = f"witness:{me}"
    pubsub = lock.pubsub
    pubsub.subscribe(**{lives: lambda message: None})
    end = time.monotonic() + 1
    while witness.pubsub_numsub(lives)[0][1] == 0 and time.monotonic() < end:
        pass
    # The next connection does not have the lock.
    pubsub.channels.pop(lives.encode(), None)
    return None if getattr(pubsub, "reconnected", False) else lives


def section(lock, channel, kind, number):
    me = f"{holder}-{number}"
    keys = [f"witness:{channel}", f"witness:{channel}:token"]
    lives = show(lock, me)
    if lives is None:
        did["lost"] += 1
        return
    start = clock()
    said, *wrong = witness.eval(config["enter"], 2, *keys, me, holder, kind, lives, "")
    problems.extend(f"{clock()} {problem}" for problem in wrong)
    if random.random() < 0.05:
        time.sleep(random.random() * config["stay"] / 1000)
    end = clock()
    left = witness.eval(config["leave"], 1, keys[0], me, lives)
    if said == "in" and left == "out" and not (newer and lock.lost):
        did["sections"] += 1
        did["shared"] += kind == "s"
        lines.append(f"{channel} {kind} {holder} {start} {end}\n")
    else:
        did["lost"] += 1


def turn(number):
    channel = random.choice(["soak", "soak-rw"])
    kind = random.choice("xs") if newer and channel == "soak-rw" else "x"
    lock = new_lock(channel, kind)
    try:
        lock.acquire()
        section(lock, channel, kind, number)
    except portalocker.AlreadyLocked:
        did["refused"] += 1
    except (redis.RedisError, portalocker.LockException, OSError):
        did["failed"] += 1
        time.sleep(0.01)
    finally:
        try:
            lock.release()
        except (redis.RedisError, OSError):
            pass


def report():
    with open(config["intervals"], "a") as file:
        file.write("".join(lines))
    lines.clear()
    message = dict(did, problems=list(problems), losses=[])
    problems.clear()
    print(json.dumps(message), flush=True)


def listen():
    sys.stdin.readline()
    done.set()


threading.Thread(target=listen, daemon=True).start()
number = 0
reported = time.monotonic()
while not done.is_set():
    number += 1
    start = clock()
    try:
        turn(number)
    except KeyboardInterrupt:
        # The older version reports in this way that its connection ended.
        did["lost"] += 1
    did["longest"] = max(did["longest"], clock() - start)
    if time.monotonic() > reported + 0.5:
        report()
        reported = time.monotonic()
report()
