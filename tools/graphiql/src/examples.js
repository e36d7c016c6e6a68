// Offers the operations of /examples and fills in what only the moment knows.
import operations from 'tollgate:examples'; // [{title, query, variables}], from build.mjs

const DAY_MS = 24 * 60 * 60 * 1000;
let workspaceId = null;

/** Remembers the first workspace an answer names, so that later examples need no copying. */
export function noteWorkspaceId(result) {
  workspaceId = result?.data?.viewer?.workspaces?.edges?.[0]?.node?.id ?? workspaceId;
}

function freshKey() {
  const words = crypto.getRandomValues(new Uint32Array(3));
  return `graphiql-${Array.from(words, word => word.toString(36)).join('')}`;
}

const FILLERS = {
  WORKSPACE_ID: () => workspaceId ?? 'WORKSPACE_ID',
  FRESH_KEY: freshKey,
  NOW: () => new Date().toISOString(),
  THIRTY_DAYS_AGO: () => new Date(Date.now() - 30 * DAY_MS).toISOString(),
};

function fill(variables) {
  if (!variables) return '';
  const filled = Object.entries(variables).map(([name, value]) => [name, FILLERS[value]?.() ?? value]);
  return JSON.stringify(Object.fromEntries(filled), null, 2);
}

export const examples = operations.map(({ title, query, variables }) => ({
  title,
  query,
  variables: () => fill(variables),
}));
