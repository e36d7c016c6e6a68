import{a}from"./chunk-TY5L7ZAL.js";import"./chunk-A7I7PHZG.js";import"./chunk-ELTDICFT.js";import"./chunk-Y7DNB5A4.js";import"./chunk-PCBYGQOX.js";import"./chunk-VUJKWCT3.js";export{a as initialize};
