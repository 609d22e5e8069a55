/** The chains of shadow pages by gfn, in which every page of a gfn is found. */
import { SP_CHAIN, VM_CHAINS, VM_CHAIN_SHIFT } from "../abi/shadow";
import { gfnOf } from "./page";

// @ts-ignore: decorator
@inline export function bucketOf(vm: usize, gfn: u64): usize {
  const number = (gfn * 0x61c8864680b583eb) >> (<u64>load<u32>(vm, VM_CHAIN_SHIFT));
  return <usize>load<u32>(vm, VM_CHAINS) + ((<usize>number) << 2);
}

/** First page in the bucket of `gfn`, newest first; follow `nextInChain` and compare gfns. */
// @ts-ignore: decorator
@inline export function firstInChain(vm: usize, gfn: u64): usize {
  return load<u32>(bucketOf(vm, gfn));
}

// @ts-ignore: decorator
@inline export function nextInChain(sp: usize): usize {
  return load<u32>(sp, SP_CHAIN);
}

export function chainAdd(vm: usize, sp: usize): void {
  const bucket = bucketOf(vm, gfnOf(sp));
  store<u32>(sp, load<u32>(bucket), SP_CHAIN);
  store<u32>(bucket, <u32>sp);
}

export function chainRemove(vm: usize, sp: usize): void {
  let place = bucketOf(vm, gfnOf(sp));
  for (;;) {
    const entry: usize = load<u32>(place);
    if (entry == sp) break;
    place = entry + SP_CHAIN;
  }
  store<u32>(place, load<u32>(sp, SP_CHAIN));
}

/** Moves the pages of one bucket to new ones, so that those of a gfn stay in their order. */
export function moveChain(vm: usize, first: usize): void {
  // Adding puts a page at the front, so the oldest is added first.
  let oldest: usize = 0;
  for (let sp = first; sp != 0;) {
    const next = nextInChain(sp);
    store<u32>(sp, <u32>oldest, SP_CHAIN);
    oldest = sp;
    sp = next;
  }
  for (let sp = oldest; sp != 0;) {
    const next = nextInChain(sp);
    chainAdd(vm, sp);
    sp = next;
  }
}

/** Goes over to the zeroed buckets at `chains`, 2^`bits` of them. */
export function growChains(vm: usize, chains: usize, bits: u32): void {
  const old: usize = load<u32>(vm, VM_CHAINS);
  const count: usize = 1 << (64 - load<u32>(vm, VM_CHAIN_SHIFT));
  store<u32>(vm, <u32>chains, VM_CHAINS);
  store<u32>(vm, 64 - bits, VM_CHAIN_SHIFT);
  for (let i: usize = 0; i < count; i++) moveChain(vm, load<u32>(old + (i << 2)));
}
