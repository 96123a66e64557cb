#!/usr/bin/env python3
"""Puts one one-time password on a route of otpd; prints the job's id once the broker has confirmed it.

    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python3 producer.py login +628123456890

Exit codes: 0 queued, 1 not (or not known to be) queued, 2 wrong use. Needs pika (Debian: python3-pika).
"""

import json
import os
import secrets
import sys
import uuid
from datetime import datetime, timedelta, timezone

import pika
from pika.exceptions import AMQPError, NackError, UnroutableError


def publish(url, route, job, made_at):
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 10  # a dead broker is noticed, also while a confirm is awaited
    parameters.blocked_connection_timeout = 5
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
        # mandatory: a job that no queue takes comes back instead of vanishing.
        channel.basic_publish("otp.jobs", route, json.dumps(job), properties, mandatory=True)
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
        "id": str(uuid.uuid4()),  # the idempotency key: send the same one again when in doubt
        "to": to,
        "code": f"{secrets.randbelow(10**6):06}",
        "purpose": "login",
        "created_at": made_at.isoformat(timespec="milliseconds"),
        "expires_at": (made_at + timedelta(minutes=5)).isoformat(timespec="milliseconds"),
    }
    try:
        publish(os.environ["AMQP_URL"], route, job, made_at)
    except UnroutableError:  # its own text holds the code
        print(f"not queued: there is no route `{route}`", file=sys.stderr)
    except NackError:
        print(f"refused for now: send job {job['id']} again", file=sys.stderr)
    except (AMQPError, OSError) as error:
        what = type(error).__name__
        print(f"the broker is away ({what}): send job {job['id']} again, it may be queued", file=sys.stderr)
    else:
        print(job["id"])
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
