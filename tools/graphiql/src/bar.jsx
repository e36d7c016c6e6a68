// The bar above GraphiQL: where the key goes, and the list of examples.
import { useEffect, useState } from 'react';
import { useGraphiQL, useGraphiQLActions } from '@graphiql/react';
import { examples } from './examples.js';
import { CLEARED, readApiKey, writeApiKey } from './tab_storage.js';

function KeyField() {
  const [key, setKey] = useState(readApiKey);
  const [shown, setShown] = useState(false);
  const { introspect } = useGraphiQLActions();
  const schema = useGraphiQL(state => state.schema);

  useEffect(() => {
    const forget = () => setKey('');
    window.addEventListener(CLEARED, forget);
    return () => window.removeEventListener(CLEARED, forget);
  }, []);

  function change(event) {
    const value = event.target.value.trim();
    setKey(value);
    writeApiKey(value);
  }

  // A server that shows its schema to signed-in callers only had refused it before.
  const retrySchema = () => schema || introspect();

  return (
    <form className="tollgate-key" onSubmit={event => { event.preventDefault(); retrySchema(); }}>
      <label htmlFor="tollgate-api-key">API key</label>
      <input
        id="tollgate-api-key"
        type={shown ? 'text' : 'password'}
        value={key}
        onChange={change}
        onBlur={retrySchema}
        placeholder="Paste a key or an access token"
        autoComplete="off"
        spellCheck={false}
        aria-describedby="tollgate-api-key-note"
      />
      <button type="button" onClick={() => setShown(!shown)} aria-pressed={shown}>{shown ? 'Hide' : 'Show'}</button>
      <span id="tollgate-api-key-note">Sent as Bearer; kept in this tab only</span>
    </form>
  );
}

function ExampleMenu() {
  const { addTab, changeTab } = useGraphiQLActions();
  const { tabs, queryEditor, variableEditor } = useGraphiQL(state => ({
    tabs: state.tabs,
    queryEditor: state.queryEditor,
    variableEditor: state.variableEditor,
  }));

  function open(event) {
    const example = examples[Number(event.target.value)];
    const opened = tabs.findIndex(tab => tab.query === example.query);
    if (opened >= 0) {
      changeTab(opened);
      return;
    }
    addTab();
    queryEditor.setValue(example.query);
    variableEditor.setValue(example.variables());
  }

  return (
    <div className="tollgate-examples">
      <label htmlFor="tollgate-example">Examples</label>
      <select id="tollgate-example" value="" onChange={open} disabled={!queryEditor || !variableEditor}>
        <option value="" disabled>Open an example</option>
        {examples.map(({ title }, index) => <option key={title} value={index}>{`${index + 1}. ${title}`}</option>)}
      </select>
    </div>
  );
}

export function Bar() {
  return (
    <header className="tollgate-bar">
      <strong>Tollgate</strong>
      <KeyField />
      <ExampleMenu />
    </header>
  );
}
