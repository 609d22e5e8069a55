/** Doubly linked lists of shadow pages through SP_LINK. A list head is a pair (next, previous) of u32. */
import { SP_LINK } from "../abi/shadow";

// @ts-ignore: decorator
@inline export function pageOfLink(link: usize): usize {
  return link - SP_LINK;
}

// @ts-ignore: decorator
@inline export function linkOf(sp: usize): usize {
  return sp + SP_LINK;
}

// @ts-ignore: decorator
@inline export function nextOf(link: usize): usize {
  return load<u32>(link);
}

// @ts-ignore: decorator
@inline export function previousOf(link: usize): usize {
  return load<u32>(link, 4);
}

export function listInit(head: usize): void {
  store<u32>(head, <u32>head);
  store<u32>(head, <u32>head, 4);
}

// @ts-ignore: decorator
@inline export function listEmpty(head: usize): bool {
  return nextOf(head) == head;
}

/** Puts `link` at the front. */
export function listAdd(link: usize, head: usize): void {
  const first = nextOf(head);
  store<u32>(link, <u32>first);
  store<u32>(link, <u32>head, 4);
  store<u32>(first, <u32>link, 4);
  store<u32>(head, <u32>link);
}

export function listDelete(link: usize): void {
  const next = nextOf(link);
  const previous = previousOf(link);
  store<u32>(previous, <u32>next);
  store<u32>(next, <u32>previous, 4);
}
