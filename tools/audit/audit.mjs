// Runs every audit of graphql-http's suite against one URL and fails unless all pass.
// usage: node audit.mjs [http://127.0.0.1:8000/graphql] ; TOLLGATE_API_KEY, where set, is sent with each request.
import { serverAudits } from 'graphql-http';

const url = process.argv[2] ?? 'http://127.0.0.1:8000/graphql';
const expected = 61;
const key = process.env.TOLLGATE_API_KEY;

const fetchFn = (address, options = {}) =>
  fetch(address, key ? { ...options, headers: { ...options.headers, authorization: `Bearer ${key}` } } : options);

const audits = serverAudits({ url, fetchFn });
let failed = 0;
for (const audit of audits) {
  const result = await audit.fn();
  if (result.status === 'ok') continue;
  failed += 1;
  console.error(`${result.status}  ${result.id}  ${result.name}\n      ${result.reason}`);
}
console.log(`${audits.length - failed} of ${audits.length} audits pass`);
if (failed > 0 || audits.length !== expected) {
  if (audits.length !== expected) console.error(`expected ${expected} audits`);
  process.exit(1);
}
