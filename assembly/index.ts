/** What the module exports. */
export { insertPage } from "./memory/resolve";
export { configure } from "./walk/space/configure";
export { afterChange, recallMode, saveMode, slotsChanged, writeCr3, writeKeys } from "./walk/space/registers";
export { leafColumns } from "./walk/list/columns";
export { enumerate, startEnumeration } from "./walk/list/enumerate";
export { checkPdptes, loadPdptes } from "./walk/pdptes";
export { translateBatch } from "./walk/fast/batch";
export { tlbDropPage, tlbFlush } from "./walk/tlb/tlb";
export { enterContext } from "./walk/tlb/tlb-names";
export { translateLine } from "./walk/fast/line";
export { explain, translate, translate32, translateWide } from "./walk/fast/translate";
// The shadow MMU.
export { fault, faultBatch, faultResume } from "./fault/fault";
export { walkGuest } from "./guest/guest-walk";
export { faultAt, mmioHit, requestAdopt, requestCreate, vmInit } from "./operations/exports";
export { changePage, forRange, protectHuge, relogMasked } from "./operations/range";
export { recoverHuge } from "./operations/recover";
export { putRoot, unprotectGfn, zapAllFast } from "./operations/zap-all";
export { growChains } from "./pages/chain";
export { flushGfns, flushRemote } from "./pages/flush";
export { clearMmioInfo } from "./pages/mmio-info";
export { markDirty } from "./pages/slot";
export { guestWrite } from "./shadow/guest-write";
export { invalidatePage } from "./shadow/invlpg";
export { linkRootChild, requestRootChild } from "./shadow/make-page";
export { makeRoom, setLimit } from "./shadow/page-limit";
export { endOfHuge, findHuge, requestSplit, splitHuge } from "./shadow/split";
export { syncPage, syncRoot } from "./shadow/sync";
export { commitZap } from "./shadow/zap";
export { setRoot } from "./walk/space/configure";
// The TDP MMU.
export { countSplits, splitLeaves } from "./tdp/huge";
export { tdpFillPool, tdpInit } from "./tdp/index";
export { getRoot } from "./tdp/root";
