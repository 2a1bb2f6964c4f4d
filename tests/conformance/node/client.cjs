// npm's @wecom/crypto. It has the cipher and the signature; the JSON envelope, the comparison of the
// signatures and that of the receive ids are left to whoever uses it.
//
// tests/conformance/clients.rs says what is read and written. CommonJS, since only that looks into
// NODE_PATH.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const sdk = require('@wecom/crypto');

const { url, accounts, callbacks, probes } = JSON.parse(fs.readFileSync(0, 'utf8'));
// What the table says is left to the caller is not in here.
assert.deepStrictEqual(Object.keys(sdk).sort(), ['decrypt', 'encrypt', 'getJsApiSignature', 'getSignature']);

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

/** Sends a request; gives its status and body. */
function send(method, target, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(`${url}${target}`, { method, agent }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(pieces).toString() }));
      response.on('error', reject);
    });
    request.on('error', reject);
    if (body !== undefined) request.setHeader('content-type', 'application/json');
    request.end(body);
  });
}

let nonces = 1_000_000_000;

async function call({ account, method, message }) {
  const { path, token, encodingAesKey, receiveId } = accounts[account];
  const encrypt = sdk.encrypt(encodingAesKey, message, receiveId);
  const timestamp = String(Math.floor(Date.now() / 1000));
  const nonce = String((nonces += 1));
  const signature = sdk.getSignature(token, timestamp, nonce, encrypt);
  const query = new URLSearchParams({ msg_signature: signature, timestamp, nonce });
  if (method === 'GET') {
    query.set('echostr', encrypt);
    const { status, body } = await send(method, `${path}?${query}`);
    return { status, message: body };
  }
  const { status, body } = await send(method, `${path}?${query}`, JSON.stringify({ tousername: receiveId, encrypt }));
  const reply = JSON.parse(body);
  assert.deepStrictEqual(Object.keys(reply), ['encrypt', 'msgsignature', 'timestamp', 'nonce']);
  assert.strictEqual(sdk.getSignature(token, reply.timestamp, reply.nonce, reply.encrypt), reply.msgsignature);
  const opened = sdk.decrypt(encodingAesKey, reply.encrypt);
  return { status, message: opened.message, receiveId: opened.id };
}

function probe({ name, account, encrypt }) {
  if (name === 'unsigned') return 'no such handler';
  if (name === 'signature' || name === 'receive_id') return 'left to the caller';
  try {
    sdk.decrypt(accounts[account].encodingAesKey, encrypt);
    return 'accepted';
  } catch (error) {
    return `refused (${error.name})`;
  }
}

(async () => {
  const answers = new Array(callbacks.length);
  let next = 0;
  const sender = async () => {
    while (next < callbacks.length) {
      const index = next++;
      answers[index] = await call(callbacks[index]).catch((error) => ({ error: String(error) }));
    }
  };
  await Promise.all(Array.from({ length: 4 }, sender));
  agent.destroy();
  const { version } = require('@wecom/crypto/package.json');
  process.stdout.write(JSON.stringify({ version, answers, probes: probes.map(probe) }));
})();
