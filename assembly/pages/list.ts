/** Doubly linked lists of shadow pages. A list's head is a link, too; an empty list's leads to itself. */
import { Link, ShadowPage } from "../abi/records";

// @ts-ignore: decorator
@inline export function pageOfLink(link: Link): ShadowPage {
  return changetype<ShadowPage>(changetype<usize>(link) - ShadowPage.LINK);
}

export function listInit(head: Link): void {
  head.next = head;
  head.previous = head;
}

// @ts-ignore: decorator
@inline export function listEmpty(head: Link): bool {
  return head.next == head;
}

/** Puts `link` at the front. */
export function listAdd(link: Link, head: Link): void {
  const first = head.next;
  link.next = first;
  link.previous = head;
  first.previous = link;
  head.next = link;
}

export function listDelete(link: Link): void {
  const next = link.next;
  const previous = link.previous;
  previous.next = next;
  next.previous = previous;
}

/** Pages that are in no such list may stand in a simple one: there the first word of the link is the next page. */
// @ts-ignore: decorator
@inline export function nextFree(sp: ShadowPage): ShadowPage | null {
  return load<ShadowPage | null>(changetype<usize>(sp), ShadowPage.LINK);
}

// @ts-ignore: decorator
@inline export function setNextFree(sp: ShadowPage, next: ShadowPage | null): void {
  store<ShadowPage | null>(changetype<usize>(sp), next, ShadowPage.LINK);
}
