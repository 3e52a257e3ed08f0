// What an application does with Resend's client for Node.js; only RESEND_BASE_URL is another.
import assert from "node:assert/strict";
import { Resend } from "resend";

const resend = new Resend("any-key-works-in-development");
const good = ({ data, error }) => {
  assert.equal(error, null, JSON.stringify(error));
  return data;
};
const email = { from: "Acme <shop@local.test>", to: ["ada@local.test"], subject: "Hello", html: "<p>Hello, Ada.</p>" };

const { id } = good(await resend.emails.send({
  ...email,
  cc: "cy@local.test",
  replyTo: "help@local.test",
  headers: { "X-Campaign": "spring" },
  tags: [{ name: "category", value: "welcome" }],
  attachments: [
    { filename: "a.bin", content: Buffer.from([0, 255, 10]) },
    { filename: "b.txt", content: Buffer.from("Hello").toString("base64"), contentId: "b" },
  ],
}));
const got = good(await resend.emails.get(id));
assert.equal(got.id, id);
assert.deepEqual(got.to, ["ada@local.test"]);
assert.deepEqual(got.cc, ["cy@local.test"]);
assert.deepEqual(got.reply_to, ["help@local.test"]);
assert.equal(got.last_event, "queued");
assert.match(got.text, /Hello, Ada/);

const files = good(await resend.emails.attachments.list({ emailId: id }));
assert.deepEqual(files.data.map((file) => [file.filename, file.size]), [["a.bin", 3], ["b.txt", 5]]);
const file = good(await resend.emails.attachments.get({ emailId: id, id: files.data[0].id }));
const bytes = new Uint8Array(await (await fetch(file.download_url)).arrayBuffer());
assert.deepEqual([...bytes], [0, 255, 10]);

const later = good(await resend.emails.send({ ...email, scheduledAt: "in 1 hour" }));
const moved = good(await resend.emails.update({ id: later.id, scheduledAt: new Date(Date.now() + 7_200_000).toISOString() }));
assert.equal(moved.id, later.id);
const canceled = good(await resend.emails.cancel(later.id));
assert.equal(canceled.id, later.id);
assert.equal(good(await resend.emails.get(later.id)).last_event, "canceled");

const key = { idempotencyKey: "welcome/ada" };
const once = good(await resend.emails.send(email, key));
assert.equal(good(await resend.emails.send(email, key)).id, once.id);
const reused = await resend.emails.send({ ...email, subject: "Other" }, key);
assert.equal(reused.error.name, "invalid_idempotent_request");

const batch = good(await resend.batch.send([email, email], { idempotencyKey: "batch/1" }));
assert.equal(batch.data.length, 2);
const some = good(await resend.batch.send([email, { ...email, to: ["nobody"] }, email].slice(0, 2), { batchValidation: "permissive" }));
assert.equal(some.data.length, 1);
assert.equal(some.errors[0].index, 1);

const refused = await resend.emails.send({ ...email, to: ["nobody"] });
assert.equal(refused.data, null);
assert.equal(refused.error.name, "validation_error");
assert.equal(refused.error.statusCode, 422);
assert.match(refused.error.message, /^to /);
const missing = await resend.emails.get("01a20465-e8e1-77c8-8dd7-5f3c3711aa36");
assert.equal(missing.error.name, "not_found");

const page = good(await resend.emails.list({ limit: 2 }));
assert.equal(page.data.length, 2);
assert.equal(page.has_more, true);
const next = good(await resend.emails.list({ limit: 2, after: page.data[1].id }));
assert.equal(next.data.length, 2);
good(await resend.emails.send({ ...email, html: undefined, text: "plain" }));
console.log("all done");
