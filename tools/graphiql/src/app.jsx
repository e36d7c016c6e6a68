// Puts the page together: Tollgate's bar above GraphiQL with its docs, history and explorer.
import './workers.js';
import { createRoot } from 'react-dom/client';
import { GraphiQLProvider } from '@graphiql/react';
import { DOC_EXPLORER_PLUGIN, DocExplorerStore } from '@graphiql/plugin-doc-explorer';
import { HISTORY_PLUGIN, HistoryStore } from '@graphiql/plugin-history';
import { explorerPlugin } from '@graphiql/plugin-explorer';
import { GraphiQL, GraphiQLInterface } from 'graphiql';
import { Bar } from './bar.jsx';
import { examples } from './examples.js';
import { fetcher } from './fetcher.js';
import { tabStorage } from './tab_storage.js';
import '@graphiql/react/style.css';
import '@graphiql/plugin-doc-explorer/style.css';
import '@graphiql/plugin-history/style.css';
import '@graphiql/plugin-explorer/style.css';
import 'graphiql/graphiql.css';
import './app.css';

const MAX_HISTORY = 50;
const PLUGINS = [DOC_EXPLORER_PLUGIN, HISTORY_PLUGIN, explorerPlugin({ showAttribution: false })];
const FIRST_TABS = [{ query: examples[0].query, variables: examples[0].variables() }];

function Page() {
  return (
    <GraphiQLProvider
      fetcher={fetcher}
      plugins={PLUGINS}
      referencePlugin={DOC_EXPLORER_PLUGIN}
      defaultTabs={FIRST_TABS}
      defaultQuery=""
      shouldPersistHeaders={false}
      storage={tabStorage}
      inputValueDeprecation
      schemaDescription
    >
      <HistoryStore maxHistoryLength={MAX_HISTORY}>
        <DocExplorerStore>
          <Bar />
          <div className="tollgate-graphiql">
            <GraphiQLInterface isHeadersEditorEnabled showPersistHeadersSettings={false} defaultEditorToolsVisibility>
              <GraphiQL.Logo>GraphiQL</GraphiQL.Logo>
            </GraphiQLInterface>
          </div>
        </DocExplorerStore>
      </HistoryStore>
    </GraphiQLProvider>
  );
}

createRoot(document.getElementById('tollgate-graphiql')).render(<Page />);
