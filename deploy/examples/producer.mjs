// Puts one one-time password on a route of otpd; prints the job's id once the broker has confirmed it.
//
//     AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f node producer.mjs login +628123456890
//
// Exit codes: 0 queued, 1 not queued, 2 wrong use, 3 the job may or may not be queued: publish it again with
// the same id, which keeps it from being sent twice. Needs amqplib (`npm ci` here).

import { randomInt, randomUUID } from "node:crypto";
import amqplib from "amqplib";

const DEADLINE = 5000; // ms, for everything from the connection to the confirm

let published = false; // from then on the job may be queued, whatever comes

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
    const body = Buffer.from(JSON.stringify(job));
    published = true;
    channel.publish("otp.jobs", route, body, options, (error) => (error ? failed(error) : confirmed()));
  });
  // The job is safe, whether the connection closes in order or not.
  await Promise.race([connection.close().catch(() => {}), after(1000)]);
  return !returned;
}

const after = (ms) => new Promise((passed) => setTimeout(passed, ms).unref());

// amqplib waits for an answer as long as the connection lives; a producer must not.
const noAnswer = after(DEADLINE).then(() => {
  throw Object.assign(new Error(), { code: `no answer within ${DEADLINE / 1000} s` });
});

const [route, to] = process.argv.slice(2);
if (process.argv.length !== 4 || !process.env.AMQP_URL) {
  console.error("usage: AMQP_URL=amqp://... node producer.mjs ROUTE +NUMBER");
  process.exit(2);
}
const madeAt = Date.now();
const job = {
  id: randomUUID(), // the idempotency key: publish the same job again when in doubt
  to,
  code: String(randomInt(1_000_000)).padStart(6, "0"),
  purpose: "login",
  created_at: new Date(madeAt).toISOString(),
  expires_at: new Date(madeAt + 5 * 60_000).toISOString(),
};
try {
  if (await Promise.race([publish(process.env.AMQP_URL, route, job, madeAt), noAnswer])) {
    console.log(job.id);
    process.exit(0);
  }
  console.error(`not queued: there is no route \`${route}\``);
  process.exit(1);
} catch (error) {
  // Only the kind of error: messages may hold the URL and its password.
  const what = error.code ?? error.name;
  if (published) {
    console.error(`job ${job.id} may or may not be queued (${what}): publish it again with the same id`);
    process.exit(3);
  }
  console.error(`not queued: the broker is away (${what})`);
  process.exit(1);
}
