export { insertPage } from "./memory/resolve";
export { configure } from "./walk/configure";
export { enumerate, startEnumeration } from "./walk/enumerate";
export { checkPdptes, loadPdptes } from "./walk/pdptes";
export { translateBatch } from "./walk/batch";
export { tlbDropPage, tlbFlush } from "./walk/tlb";
export { explain, translate, translate32, translateWide } from "./walk/translate";
export * from "./shadow/index";
export * from "./tdp/index";
