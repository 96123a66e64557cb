// Puts one one-time password on a route of otpd; prints the job's id once the broker has confirmed it.
//
//     AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f node producer.mjs login +628123456890
//
// Exit codes: 0 queued, 1 not (or not known to be) queued, 2 wrong use. Needs amqplib (`npm ci` here).

import { randomInt, randomUUID } from "node:crypto";
import amqplib from "amqplib";

const DEADLINE = 5000; // ms, for the connection and for the confirm

async function publish(url, route, job, madeAt) {
  const connection = await amqplib.connect(url, { timeout: DEADLINE });
  connection.on("error", () => {}); // the publish below fails and says so
  const channel = await connection.createConfirmChannel();
  channel.on("error", () => {});
  let returned = false;
  channel.on("return", () => (returned = true)); // comes before the confirm
  const options = {
    contentType: "application/json",
    type: "otp.send.v1",
    persistent: true,
    mandatory: true, // a job that no queue takes comes back instead of vanishing
    messageId: job.id,
    timestamp: Math.floor(madeAt / 1000),
  };
  await new Promise((confirmed, failed) => {
    setTimeout(failed, DEADLINE, new Error("no confirm in time")).unref();
    const body = Buffer.from(JSON.stringify(job));
    channel.publish("otp.jobs", route, body, options, (error) => (error ? failed(error) : confirmed()));
  });
  await connection.close();
  return !returned;
}

const [route, to] = process.argv.slice(2);
if (process.argv.length !== 4 || !process.env.AMQP_URL) {
  console.error("usage: AMQP_URL=amqp://... node producer.mjs ROUTE +NUMBER");
  process.exit(2);
}
const madeAt = Date.now();
const job = {
  id: randomUUID(), // the idempotency key: send the same one again when in doubt
  to,
  code: String(randomInt(1_000_000)).padStart(6, "0"),
  purpose: "login",
  created_at: new Date(madeAt).toISOString(),
  expires_at: new Date(madeAt + 5 * 60_000).toISOString(),
};
try {
  if (await publish(process.env.AMQP_URL, route, job, madeAt)) {
    console.log(job.id);
  } else {
    console.error(`not queued: there is no route \`${route}\``);
    process.exit(1);
  }
} catch (error) {
  // Only the kind of error: messages may hold the URL and its password.
  console.error(`the broker is away (${error.code ?? error.name}): send job ${job.id} again, it may be queued`);
  process.exit(1);
}
