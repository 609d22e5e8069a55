/** Pages whose writes the host wants to know of: a byte for each page of linear memory, which the host sets. */
import { WATCH_CLEAN, WATCH_WRITTEN } from "../abi/codes";
import { Watch } from "../abi/records";

/** Something was written at linear address `at`. Called where `watch.map` is not 0. */
export function noteWrite(watch: Watch, at: u32): void {
  const page = at >>> 12;
  if (page >= watch.pages) return;
  const place = watch.map + page;
  if (load<u8>(place) != WATCH_CLEAN) return;
  store<u8>(place, <u8>WATCH_WRITTEN);
  watch.written++;
}

/** Whether writes to linear address `at` are noted. Called where `watch.map` is not 0. */
export function isWatched(watch: Watch, at: u32): bool {
  const page = at >>> 12;
  return page < watch.pages && load<u8>(watch.map + page) != 0;
}
