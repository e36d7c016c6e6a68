// Carries operations to the server: queries and mutations by POST, subscriptions by graphql-transport-ws.
import { getOperationAST, parse } from 'graphql';
import { createClient } from 'graphql-ws';
import { readApiKey } from './tab_storage.js';
import { noteWorkspaceId } from './examples.js';

// The page is served at the endpoint's own address.
const ENDPOINT = new URL(location.pathname.replace(/\/+$/, '') || '/', location.origin);
const ACCEPT = 'application/graphql-response+json, application/json;q=0.9';
const MAX_SHOWN_BODY = 500; // characters of an answer that is no JSON

/** The headers editor's headers; its Authorization wins over the key in the bar. */
export function requestHeaders(edited) {
  const headers = {};
  for (const [name, value] of Object.entries(edited ?? {})) {
    headers[name.toLowerCase() === 'authorization' ? 'Authorization' : name] = String(value);
  }
  const key = readApiKey();
  if (!headers.Authorization && key) headers.Authorization = `Bearer ${key}`;
  return headers;
}

function isSubscription({ query, operationName }) {
  try {
    return getOperationAST(parse(query), operationName)?.operation === 'subscription';
  } catch {
    return false; // the server says what is wrong with it
  }
}

/** GraphiQL prints what is thrown; an Error would come with its stack in the bundle. */
const failure = message => ({ message });

function connectionFailure(reason) {
  if (reason instanceof CloseEvent) return failure(`The connection was closed: ${reason.code} ${reason.reason}`.trim());
  return reason instanceof Error || reason instanceof Event ? failure('The connection could not be opened.') : reason;
}

/** One connection for each subscription, so that each carries the key of its own moment. */
function subscription(params, headers) {
  return {
    subscribe(sink) {
      const url = new URL(ENDPOINT);
      url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      const client = createClient({ url: url.href, connectionParams: headers, retryAttempts: 0 });
      const end = client.subscribe(params, {
        next: result => sink.next(result),
        error: reason => sink.error(connectionFailure(reason)),
        complete: () => sink.complete(),
      });
      return { unsubscribe: end };
    },
  };
}

async function post(params, headers) {
  let response;
  try {
    response = await fetch(ENDPOINT, {
      method: 'POST',
      headers: { Accept: ACCEPT, 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(params),
    });
  } catch (error) {
    throw failure(`The request could not be sent: ${error.message}`);
  }
  const text = await response.text();
  let result;
  try {
    result = JSON.parse(text);
  } catch {
    throw failure(`HTTP ${response.status} ${response.statusText}: ${text.slice(0, MAX_SHOWN_BODY)}`);
  }
  noteWorkspaceId(result);
  return result;
}

export function fetcher(params, options) {
  const headers = requestHeaders(options?.headers);
  return isSubscription(params) ? subscription(params, headers) : post(params, headers);
}
