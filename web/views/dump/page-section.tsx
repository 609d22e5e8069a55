/** One virtual page as bytes, and who else maps the memory that it has. */
import { useEffect, useState } from "preact/hooks";
import { pageSizeName } from "x86-paging/maps";
import type { PageAnswer, SpaceAnswer } from "../../engine/dump/answers.js";
import { addressDigits, hex, rightsWords } from "../../paging/words.js";
import { addressInUrl, dumpWorker } from "../../state/dump/session.js";
import { noted } from "../../state/problem.js";
import { hrefOf, route, setParams } from "../../state/route.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { HexLines } from "../../ui/hex-lines.jsx";
import { isNarrow } from "../../ui/narrow.js";
import { FindSection } from "./find-section.jsx";

const PAGE = 4096n;

export function PageSection({ space }: { space: SpaceAnswer }) {
  const address = addressInUrl() ?? space.start ?? 0n;
  const [page, setPage] = useState<PageAnswer | undefined>(undefined);
  const va = address & ~(PAGE - 1n);
  useEffect(() => {
    let left = false;
    setPage(undefined);
    void noted(async () => {
      const answer = await dumpWorker().page(space.id, va);
      if (!left) setPage(answer);
    });
    return () => {
      left = true;
    };
  }, [space.id, va]);
  const go = (to: bigint) => setParams({ address: BigInt.asUintN(addressDigits(space.mode) * 4, to).toString(16) });
  const { cpu, cr3, mode } = route.value.params;
  return (
    <section aria-labelledby="page-title">
      <h2 id="page-title">Page</h2>
      <div class="controls">
        <HexInput label="Address" value={address} onValue={go} late />
        <button type="button" onClick={() => go(va - PAGE)}>
          Previous page
        </button>
        <button type="button" onClick={() => go(va + PAGE)}>
          Next page
        </button>
        <a class="button" href={hrefOf("walk", { cpu, cr3, mode, address: address.toString(16) })}>
          Walk
        </a>
      </div>
      {page !== undefined && <PageText page={page} />}
      {page?.bytes !== undefined && (
        <HexLines
          label={`Bytes of the page at ${hex(page.va)}`}
          bytes={page.bytes}
          address={page.va}
          digits={isNarrow.value ? 3 : addressDigits(space.mode)}
          width={isNarrow.value ? 8 : 16}
        />
      )}
      {page?.bytes === undefined && page !== undefined && <p class="hole">Nothing to show: {page.why}</p>}
      <FindSection space={space} suggested={page?.pa} />
    </section>
  );
}

function PageText({ page: { va, pa, pageSize, rights } }: { page: PageAnswer }) {
  if (pa === undefined)
    return (
      <p class="bad">
        <code>{hex(va)}</code> is not mapped
      </p>
    );
  return (
    <p>
      <code>{hex(va)}</code> → <code>{hex(pa)}</code>: {pageSizeName(pageSize)} page, {rightsWords(rights)}
    </p>
  );
}
