// @great-detail/whatsapp against the upstream stand-in: up, looked up, down, sent, removed, and what is refused.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [base, token, number, path, packages] = process.argv.slice(2);
// The package lies beside the suites and not beside this file.
const entry = `${packages}/node_modules/@great-detail/whatsapp/dist/index.js`;
const { Client } = await import(pathToFileURL(entry));

const content = await readFile(path);
const at = base.lastIndexOf("/");
const client = (shown) =>
  new Client({
    baseUrl: base.slice(0, at),
    // Without the slash its HTTP client would put the paths in the place of the version.
    graphVersion: `${base.slice(at + 1)}/`,
    request: { headers: { Authorization: `Bearer ${shown}` }, retry: 0 },
  });

const sdk = client(token);
const file = new Blob([content], { type: "image/jpeg" });
const { id } = await sdk.media
  .upload({ phoneNumberID: number, file, filename: "photo.jpg", mimeType: "image/jpeg" })
  .json();
const known = await sdk.media.getURL({ mediaID: id, phoneNumberID: number }).json();
assert.equal(known.mime_type, "image/jpeg");
assert.equal(known.sha256, createHash("sha256").update(content).digest("hex"));
assert.equal(Number(known.file_size), content.length);
const got = await sdk.media.download({
  mediaURL: known.url,
  request: { headers: { Authorization: `Bearer ${token}` } },
});
assert.deepEqual(Buffer.from(await got.arrayBuffer()), content);
const sent = await sdk.message
  .createMessage({
    phoneNumberID: number,
    to: "16505551234",
    type: "image",
    image: { id, caption: "from great-detail" },
  })
  .json();
assert.match(sent.messages[0].id, /^wamid\./);
assert.deepEqual(await sdk.media.delete({ mediaID: id, phoneNumberID: number }).json(), { success: true });
const refusals = [
  [() => sdk.media.getURL({ mediaID: id }), 400],
  [() => client("wrong").media.getURL({ mediaID: id }), 401],
];
for (const [refused, status] of refusals) {
  await assert.rejects(refused, (error) => error.response.status === status);
}
