/** The chains of shadow pages by gfn, in which every page of a gfn is found. */
import { ShadowPage, Vm } from "../abi/records";

// @ts-ignore: decorator
@inline export function bucketOf(vm: Vm, gfn: u64): usize {
  const number = (gfn * 0x61c8864680b583eb) >> (<u64>vm.chainShift);
  return vm.chains + ((<usize>number) << 2);
}

/** First page in the bucket of `gfn`, newest first; follow `nextInChain` and compare gfns. */
// @ts-ignore: decorator
@inline export function firstInChain(vm: Vm, gfn: u64): ShadowPage | null {
  return load<ShadowPage | null>(bucketOf(vm, gfn));
}

// @ts-ignore: decorator
@inline export function nextInChain(sp: ShadowPage): ShadowPage | null {
  return sp.chain;
}

export function chainAdd(vm: Vm, sp: ShadowPage): void {
  const bucket = bucketOf(vm, sp.gfn);
  sp.chain = load<ShadowPage | null>(bucket);
  store<ShadowPage>(bucket, sp);
}

export function chainRemove(vm: Vm, sp: ShadowPage): void {
  let place = bucketOf(vm, sp.gfn);
  for (;;) {
    const entry = load<ShadowPage>(place);
    if (entry == sp) break;
    place = changetype<usize>(entry) + offsetof<ShadowPage>("chain");
  }
  store<ShadowPage | null>(place, sp.chain);
}

/** Moves the pages of one bucket to new ones, so that those of a gfn stay in their order. */
export function moveChain(vm: Vm, first: ShadowPage | null): void {
  // Adding puts a page at the front, so the oldest is added first.
  let oldest: ShadowPage | null = null;
  for (let sp = first; sp != null;) {
    const next = nextInChain(sp);
    sp.chain = oldest;
    oldest = sp;
    sp = next;
  }
  for (let sp = oldest; sp != null;) {
    const next = nextInChain(sp);
    chainAdd(vm, sp);
    sp = next;
  }
}

/** Goes over to the zeroed buckets at `chains`, 2^`bits` of them. */
export function growChains(vm: Vm, chains: usize, bits: u32): void {
  const old = vm.chains;
  const count: usize = 1 << (64 - vm.chainShift);
  vm.chains = chains;
  vm.chainShift = 64 - bits;
  for (let i: usize = 0; i < count; i++) moveChain(vm, load<ShadowPage | null>(old + (i << 2)));
}
