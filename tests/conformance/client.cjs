// WeCom as its own library would have it: npm's @wecom/crypto seals and signs what is sent to the
// filter, and opens and checks what comes back. No code of this repository takes part.
//
// Run by tests/behaviour/conformance.rs. Reads {url, token, encodingAesKey, receiveId, messages, echo}
// from its standard input, writes {replies, echo} to its standard output. CommonJS, since only that
// looks into NODE_PATH.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const { decrypt, encrypt, getSignature } = require('@wecom/crypto');

const { url, token, encodingAesKey, receiveId, messages, echo } = JSON.parse(fs.readFileSync(0, 'utf8'));

/** The query that signs a ciphertext, of this moment. */
function query(ciphertext) {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const nonce = String(crypto.randomInt(1_000_000_000, 9_999_999_999));
  const signature = getSignature(token, timestamp, nonce, ciphertext);
  return new URLSearchParams({ msg_signature: signature, timestamp, nonce });
}

/** Sends a message and opens the reply. */
async function post(message) {
  const ciphertext = encrypt(encodingAesKey, message, receiveId);
  const response = await fetch(`${url}?${query(ciphertext)}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ tousername: receiveId, encrypt: ciphertext }),
  });
  const reply = await response.json();
  const expected = getSignature(token, reply.timestamp, reply.nonce, reply.encrypt);
  const opened = decrypt(encodingAesKey, reply.encrypt);
  return {
    status: response.status,
    signatureHolds: reply.msgsignature === expected,
    message: opened.message,
    receiveId: opened.id,
  };
}

/** Asks for the echo, as the console does when the URL is saved. */
async function verify() {
  const ciphertext = encrypt(encodingAesKey, echo, receiveId);
  const parameters = query(ciphertext);
  parameters.set('echostr', ciphertext);
  const response = await fetch(`${url}?${parameters}`);
  return { status: response.status, body: await response.text() };
}

(async () => {
  const replies = [];
  for (const message of messages) replies.push(await post(message));
  process.stdout.write(JSON.stringify({ replies, echo: await verify() }));
})();
