// Keeps what the page remembers for this browser tab only, and never a request header.
/** Told to the window when the user clears the stored data. */
export const CLEARED = 'tollgate:cleared';
const PREFIX = 'graphiql:';
const KEY_ITEM = 'tollgate:api-key';
// GraphiQL's history stores each run with its headers, whatever `shouldPersistHeaders` says.
const HISTORY_ITEMS = new Set([`${PREFIX}queries`, `${PREFIX}favorites`]);

function ownItems() {
  return Object.keys(sessionStorage).filter(name => name.startsWith(PREFIX));
}

export const tabStorage = {
  getItem: name => sessionStorage.getItem(name),
  setItem(name, value) {
    const kept = HISTORY_ITEMS.has(name)
      ? JSON.stringify(JSON.parse(value), (field, inner) => (field === 'headers' ? undefined : inner))
      : value;
    sessionStorage.setItem(name, kept);
  },
  removeItem: name => sessionStorage.removeItem(name),
  get length() {
    return ownItems().length;
  },
  clear() {
    ownItems().forEach(name => sessionStorage.removeItem(name));
    writeApiKey('');
    window.dispatchEvent(new Event(CLEARED));
  },
};

export const readApiKey = () => sessionStorage.getItem(KEY_ITEM) ?? '';

export function writeApiKey(key) {
  if (key) sessionStorage.setItem(KEY_ITEM, key);
  else sessionStorage.removeItem(KEY_ITEM);
}
