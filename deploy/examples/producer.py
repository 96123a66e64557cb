#!/usr/bin/env python3
"""Puts one one-time password on a route of otpd; prints the job's id once the broker has confirmed it.

    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python3 producer.py login +628123456890

Exit codes: 0 queued, 1 not queued, 2 wrong use, 3 the job may or may not be queued: publish it again with
the same id, which keeps it from being sent twice. Needs pika (Debian: python3-pika).
"""

import json
import os
import queue
import secrets
import sys
import threading
import uuid
from datetime import datetime, timedelta, timezone

import pika
from pika.exceptions import AMQPError, NackError, UnroutableError

DEADLINE = 5  # seconds, for everything from the connection to the confirm


class Attempt:
    """One attempt to publish a job, in a thread of its own: pika waits for a confirm as long as the
    connection lives, and cannot be told to stop earlier."""

    def __init__(self, url, route, job, made_at):
        self.published = False  # from then on the job may be queued, whatever comes
        self.outcome = queue.Queue()
        self.thread = threading.Thread(target=self.run, args=(url, route, job, made_at), daemon=True)
        self.thread.start()

    def wait(self):
        """Returns once the job is queued; raises the reason why it is not, or queue.Empty."""
        error = self.outcome.get(timeout=DEADLINE)
        self.thread.join(1)  # the connection closes; the job is safe, whether it does or not
        if error:
            raise error

    def run(self, *work):
        try:
            self.publish(*work)
        except Exception as error:  # for the thread that waits
            self.outcome.put(error)

    def publish(self, url, route, job, made_at):
        parameters = pika.URLParameters(url)
        parameters.heartbeat = 10
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()  # from now on basic_publish returns when the job is safe, or raises
            properties = pika.BasicProperties(
                content_type="application/json",
                type="otp.send.v1",
                delivery_mode=2,  # persistent
                message_id=job["id"],
                timestamp=int(made_at.timestamp()),
            )
            self.published = True
            # mandatory: a job that no queue takes comes back instead of vanishing.
            channel.basic_publish("otp.jobs", route, json.dumps(job), properties, mandatory=True)
            self.outcome.put(None)
        finally:
            if connection.is_open:
                connection.close()


def main():
    if len(sys.argv) != 3 or "AMQP_URL" not in os.environ:
        print("usage: AMQP_URL=amqp://... producer.py ROUTE +NUMBER", file=sys.stderr)
        return 2
    route, to = sys.argv[1:]
    made_at = datetime.now(timezone.utc)
    job = {
        "id": str(uuid.uuid4()),  # the idempotency key: publish the same job again when in doubt
        "to": to,
        "code": f"{secrets.randbelow(10**6):06}",
        "purpose": "login",
        "created_at": made_at.isoformat(timespec="milliseconds"),
        "expires_at": (made_at + timedelta(minutes=5)).isoformat(timespec="milliseconds"),
    }
    attempt = Attempt(os.environ["AMQP_URL"], route, job, made_at)
    try:
        attempt.wait()
    except UnroutableError:  # its own text holds the code
        print(f"not queued: there is no route `{route}`", file=sys.stderr)
        return 1
    except (AMQPError, OSError, queue.Empty) as error:
        # Only the kind of error: messages may hold the URL and its password.
        what = type(error).__name__
        if isinstance(error, NackError):
            what = "the broker refused it for now"
        elif isinstance(error, queue.Empty):
            what = f"no answer within {DEADLINE} s"
        if attempt.published:
            print(
                f"job {job['id']} may or may not be queued ({what}): publish it again with the same id",
                file=sys.stderr,
            )
            return 3
        print(f"not queued: the broker is away ({what})", file=sys.stderr)
        return 1
    print(job["id"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
