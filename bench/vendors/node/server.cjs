// A vendor's own server for WeCom's callbacks, in Node: npm's @wecom/crypto and nothing else but Node's
// own HTTP. `make bench` measures it, behind Envoy, against the filter.
//
// Environment: PORT (of the loopback address), UPSTREAM (the URL that decides), WECOM_TOKEN,
// WECOM_ENCODING_AES_KEY, WECOM_RECEIVE_ID. CommonJS, since only that looks into NODE_PATH.
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');
const { decrypt, encrypt, getSignature } = require('@wecom/crypto');

const { PORT, UPSTREAM, WECOM_TOKEN, WECOM_ENCODING_AES_KEY, WECOM_RECEIVE_ID } = process.env;
const REFUSED = { errcode: 7, errmsg: '设备当前无法绑定，请稍后重试或联系设备厂商处理' };
const agent = new http.Agent({ keepAlive: true });

/** A whole body, as text. */
async function read(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

/** Asks the upstream to decide about a bind. */
function decide(message) {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(message) };
    const request = http.request(UPSTREAM, { method: 'POST', agent, headers, timeout: 900 });
    request.on('timeout', () => request.destroy(new Error('the upstream is late')));
    request.on('error', reject);
    request.on('response', async (response) => {
      try {
        if (response.statusCode !== 200) throw new Error(`the upstream answered ${response.statusCode}`);
        resolve(JSON.parse(await read(response)));
      } catch (error) {
        reject(error);
      }
    });
    request.end(message);
  });
}

/** The reply, encrypted and signed. */
function seal(verdict) {
  const ciphertext = encrypt(WECOM_ENCODING_AES_KEY, JSON.stringify(verdict), WECOM_RECEIVE_ID);
  const timestamp = String(Math.floor(Date.now() / 1000));
  const nonce = String(crypto.randomInt(1_000_000_000, 9_999_999_999));
  const msgsignature = getSignature(WECOM_TOKEN, timestamp, nonce, ciphertext);
  return JSON.stringify({ encrypt: ciphertext, msgsignature, timestamp, nonce });
}

const server = http.createServer(async (request, response) => {
  const answer = (status, type, body) => {
    response.statusCode = status;
    response.setHeader('content-type', type);
    response.end(body);
  };
  const refuse = (status) => answer(status, 'text/plain', 'refused');
  try {
    const query = new URL(request.url, 'http://edge').searchParams;
    const body = JSON.parse(await read(request));
    const signature = getSignature(WECOM_TOKEN, query.get('timestamp'), query.get('nonce'), body.encrypt);
    if (signature !== query.get('msg_signature')) return refuse(403);
    const { message, id } = decrypt(WECOM_ENCODING_AES_KEY, body.encrypt);
    if (id !== WECOM_RECEIVE_ID) return refuse(403);
    if (JSON.parse(message).event.event_type !== 'bind') return refuse(503);
    const verdict = await decide(message).catch(() => REFUSED);
    answer(200, 'application/json', seal(verdict));
  } catch {
    refuse(400);
  }
});
server.keepAliveTimeout = 75_000; // longer than the proxy in front keeps a connection
server.listen(Number(PORT), '127.0.0.1');
