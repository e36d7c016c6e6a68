// Formats JSON with comments for "Prettify": a prettier plugin of ten lines in place of its whole JavaScript parser.
import { applyEdits, format } from 'jsonc-parser';

const AST_FORMAT = 'tollgate-jsonc';
const OPTIONS = { tabSize: 2, insertSpaces: true, eol: '\n' };

export const parsers = {
  jsonc: {
    astFormat: AST_FORMAT,
    parse: text => ({ text }),
    locStart: () => 0,
    locEnd: ({ text }) => text.length,
  },
};

export const printers = {
  [AST_FORMAT]: { print: ({ node: { text } }) => applyEdits(text, format(text, undefined, OPTIONS)) },
};
