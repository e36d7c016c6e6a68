import{c as o,d as n}from"./chunk-STSEUAPQ.js";import"./chunk-VUJKWCT3.js";var r="tollgate-jsonc",e={tabSize:2,insertSpaces:!0,eol:`
`},a={jsonc:{astFormat:r,parse:t=>({text:t}),locStart:()=>0,locEnd:({text:t})=>t.length}},p={[r]:{print:({node:{text:t}})=>n(t,o(t,void 0,e))}};export{a as parsers,p as printers};
