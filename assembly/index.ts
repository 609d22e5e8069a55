/** What the module exports. */
export { insertPage } from "./memory/resolve";
export { configure } from "./walk/space/configure";
export { enumerate, startEnumeration } from "./walk/list/enumerate";
export { checkPdptes, loadPdptes } from "./walk/pdptes";
export { translateBatch } from "./walk/fast/batch";
export { tlbDropPage, tlbFlush } from "./walk/tlb/tlb";
export { explain, translate, translate32, translateWide } from "./walk/fast/translate";
export * from "./operations/exports";
export * from "./tdp/index";
