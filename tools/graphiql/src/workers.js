// Says where Monaco's workers are: beside this bundle, never a blob or another host.
const FILES = { graphql: './graphql.worker.js', json: './json.worker.js' };

globalThis.MonacoEnvironment = {
  getWorker(_id, label) {
    return new Worker(new URL(FILES[label] ?? './editor.worker.js', import.meta.url), { name: label, type: 'module' });
  },
};
